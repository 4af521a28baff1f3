"""Secrets: read from where the configuration points, again when they change, and shown nowhere."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from forwarder.config.address import is_loopback
from forwarder.config.model import Config, Secret

AUTH_TOKEN = "listen.auth_token"  # noqa: S105 - the key path, not the token
"""What `changed` calls the listener's token; no destination can have this name."""

_LARGEST = 64 * 1024
_Signature = tuple[int, int, int, int]


class Secrets:
    """The write keys and the listener's token. Values leave only through `get` and `auth_token`.

    Files are small and local: they are read synchronously, and again only when inode, times or size have changed.
    """

    __slots__ = ("_directory", "_environ", "_harmless", "_places", "_read", "_reported")

    def __init__(self, config: Config, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._directory = environ.get("CREDENTIALS_DIRECTORY", "")
        self._places = {item.name: item.write_key for item in config.destinations if item.write_key}
        if config.listen.auth_token:
            self._places[AUTH_TOKEN] = config.listen.auth_token
        self._harmless = {item.name for item in config.destinations if _stays_here(item.url)}
        self._read: dict[str, tuple[_Signature | None, str | None]] = {}
        self._reported = {name: self._fresh(name) for name in self._places}

    def __repr__(self) -> str:
        return f"<Secrets for {', '.join(self._places) or 'nothing'}>"

    def get(self, destination: str) -> str | None:
        """Return the write key of a destination, or None while there is none to be had."""
        return self._value(destination) if destination in self._places else None

    def auth_token(self) -> str | None:
        """Return the listener's token, or None: with `listen.auth_token` configured, None means let nobody in."""
        return self.get(AUTH_TOKEN)

    def changed(self) -> list[str]:
        """Return the destinations (or AUTH_TOKEN) whose secret changed since the last call. Call it every few seconds.

        It reads the files anew: a rewrite within one tick of the file system's clock leaves no other trace.
        """
        names = []
        for name in self._places:
            fresh = self._fresh(name)
            if fresh != self._reported[name]:
                names.append(name)
                self._reported[name] = fresh
        return names

    def notes(self) -> list[str]:
        """Return what is amiss: secrets that cannot be had, and files that others may read."""
        return [note for name, place in self._places.items() for note in self._amiss(name, place)]

    def _amiss(self, name: str, place: Secret) -> list[str]:
        path = name if name == AUTH_TOKEN else f"destinations.{name}.write_key"
        if self._value(name) is None:
            meanwhile = (
                "requests are refused" if name == AUTH_TOKEN else "the destination is parked and events are kept"
            )
            return [f"{path}: {self._reason(place)}; until that is mended {meanwhile}"]
        file = self._file(place)
        if file is not None and _mode(file) & stat.S_IROTH and name not in self._harmless:
            return [f"{path}: {file} can be read by every user of this machine; chmod o-r it"]
        return []

    def _reason(self, place: Secret) -> str:
        if place.env is not None:
            state = "does not hold one line of printable ASCII" if self._environ.get(place.env) else "is not set"
            return f"environment variable {place.env} {state}"
        file = self._file(place)
        if file is None:
            return f"credential {place.credential} cannot be read, CREDENTIALS_DIRECTORY is not set"
        if not file.exists():
            return f"{file} does not exist"
        if not file.is_file() or not os.access(file, os.R_OK):
            return f"{file} cannot be read"
        return f"{file} does not hold one line of printable ASCII" if _content(file).strip() else f"{file} is empty"

    def _value(self, name: str) -> str | None:
        """Return the secret as it is now."""
        file = self._file(self._places[name])
        signature = None if file is None else _signature(file)
        known = self._read.get(name)
        if known is not None and known[0] == signature:
            return known[1]
        return self._fresh(name)[1]

    def _fresh(self, name: str) -> tuple[_Signature | None, str | None]:
        """Read the secret whatever is known of it."""
        place = self._places[name]
        file = self._file(place)
        if file is None:
            found: tuple[_Signature | None, str | None] = None, _usable(self._environ.get(place.env or "", ""))
        else:
            found = _signature(file), _usable(_content(file))
        self._read[name] = found
        return found

    def _file(self, place: Secret) -> Path | None:
        if place.file is not None:
            return Path(place.file)
        if place.credential is not None and self._directory:
            return Path(self._directory) / place.credential
        return None


def _signature(file: Path) -> _Signature | None:
    """Return what changes when the file behind the path (symlinks followed) does; None while there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _stays_here(url: str) -> bool:
    """Return whether a key for `url` is only ever shown to this machine (a stand-in): then it is no secret."""
    return is_loopback(urlsplit(url).hostname or "")


def _mode(file: Path) -> int:
    try:
        return file.stat().st_mode
    except OSError:
        return 0


def _content(file: Path) -> str:
    if not stat.S_ISREG(_mode(file)):  # a pipe would block the loop
        return ""
    try:
        with file.open("rb") as stream:
            return stream.read(_LARGEST).decode("ascii", "replace")
    except OSError:
        return ""


def _usable(text: str) -> str | None:
    """Return the secret without its closing newline, or None if no header could carry it."""
    value = text.strip("\r\n")
    plain = value.isascii() and value.isprintable()
    return value if value.strip() and plain else None
