"""What is wrong with a configuration, collected while it is read and judged."""

from collections.abc import Iterator, Mapping

from forwarder.config.model import Findings
from forwarder.config.unfit import Unfit, shown


class Report:
    """Problems and notes by key path; remembers which paths cannot be judged further.

    `origins` says which paths came from which environment variable, so that a problem names where to mend it.
    """

    def __init__(self, origins: Mapping[str, str]) -> None:
        self.findings = Findings()
        self._origins = origins
        self._bad: set[str] = set()

    def problem(self, path: str, text: str, *, spoils: str | None = None) -> None:
        """Add a problem at `path`; `spoils` is the path that cannot be judged further, if it is another."""
        self._bad.add(spoils or path)
        variable = next((self._origins[part] for part in _upward(path) if part in self._origins), None)
        line = _printable(f"{path}: {text}" + (f" (from {variable})" if variable else ""))
        if line not in self.findings.problems:
            self.findings.problems.append(line)

    def unfit(self, path: str, raw: object, unfit: Unfit, *, spoils: str | None = None) -> None:
        """Add the problem that `raw` at `path` is not what was expected."""
        hint = f"; did you mean {unfit.meant}?" if unfit.meant else ""
        self.problem(path, f"found {unfit.found or shown(raw)}, expected {unfit.expected}{hint}", spoils=spoils)

    def note(self, path: str, text: str) -> None:
        """Add a note about `path`."""
        self.findings.notes.append(f"{path}: {text}")

    def clean(self, *paths: str) -> bool:
        """Return whether neither `paths` nor what they stand in has a problem."""
        return not any(part in self._bad for path in paths for part in _upward(path))


def _printable(line: str) -> str:
    """Return `line` with whatever could act on a terminal spelled out: keys are anybody's text."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)


def _upward(path: str) -> Iterator[str]:
    """Yield `path` and every table that it stands in."""
    while path:
        yield path
        path = path.rpartition(".")[0]
