"""What can break a promise. Expected ends (refused, failed, delivered) are values, not exceptions."""


class ForwarderError(Exception):
    """The root of everything this package raises on purpose."""


class ConfigurationError(ForwarderError):
    """The configuration cannot be used: `problems` holds every finding, ready to print (exit code 2)."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class SpoolLocked(ForwarderError):
    """Another process holds the spool directory (exit code 5)."""

    def __init__(self, *, directory: str, holder: str) -> None:
        super().__init__(f"{directory} is in use by {holder}")
        self.directory = directory
        self.holder = holder


class SpoolNotWritable(ForwarderError):
    """The spool directory cannot be created or written."""

    def __init__(self, *, directory: str, reason: str) -> None:
        super().__init__(f"cannot write to the spool directory {directory}: {reason}")
        self.directory = directory
        self.reason = reason


class DiskTrouble(ForwarderError):
    """The disk refused an operation; the daemon lives on and tries again later."""

    def __init__(self, *, operation: str, path: str, reason: str) -> None:
        super().__init__(f"{operation} failed on {path}: {reason}")
        self.operation = operation
        self.path = path
        self.reason = reason


class Damage(ForwarderError):
    """Bytes on disk that are not what was written."""

    def __init__(self, *, path: str, offset: int, reason: str) -> None:
        super().__init__(f"{path} at {offset}: {reason}")
        self.path = path
        self.offset = offset
        self.reason = reason


class Torn(Damage):
    """A write that never finished: the end of the log."""


class Corrupt(Damage):
    """Bytes that were changed after they were written."""


class Unsupported(Damage):
    """A format version newer than this program: left untouched."""


class DaemonUnreachable(ForwarderError):
    """No daemon answers at the address or socket (exit code 4)."""
