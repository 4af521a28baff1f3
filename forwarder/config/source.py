"""The file: where it is looked for, and what its text says."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forwarder.errors import ConfigurationError

SEARCH = (Path("forwarder.toml"), Path("/etc/forwarder/forwarder.toml"))

MINIMAL = """\
    [destinations.telemetrydeck]
    kind = "telemetrydeck"

    [destinations.encharge]
    kind = "encharge"
    write_key = { file = "/etc/forwarder/encharge-write-key" }
"""
_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def find(path: Path | None, environ: Mapping[str, str], search: Sequence[Path] = SEARCH) -> Path | None:
    """Return the file to read: the one named on the command line, by FORWARDER_CONFIG, or the first that exists."""
    if path is not None:
        return path
    if named := environ.get("FORWARDER_CONFIG"):
        return Path(named)
    return next((candidate for candidate in search if candidate.is_file()), None)


def nothing_to_do(source: Path | None, search: Sequence[Path] = SEARCH) -> str:
    """Return the problem of a configuration without any destination, with one to paste."""
    names = " or ".join(str(candidate) for candidate in search)
    what = (
        f"{source}: no destination" if source else f"no configuration: neither --config, FORWARDER_CONFIG nor {names}"
    )
    return (
        f"{what}; put one or both of these into {source or search[0]}, or see `forwarder config example`\n\n{MINIMAL}"
    )


def read(path: Path) -> dict[str, Any]:
    """Return the tables of the file; raises ConfigurationError with line and column."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError([f"{path}: {_placed(str(exc))}"]) from exc
    except RecursionError as exc:
        raise ConfigurationError([f"{path}: nested too deeply"]) from exc
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        raise ConfigurationError([f"{path}: line {line}: not UTF-8 (byte {exc.object[exc.start]:#04x})"]) from exc
    except ValueError as exc:  # an integer of thousands of digits
        raise ConfigurationError([f"{path}: {exc}"]) from exc
    except OSError as exc:
        raise ConfigurationError([f"{path}: cannot be read: {exc.strerror}"]) from exc


def _placed(message: str) -> str:
    """Return tomllib's message with the position in front."""
    match = _POSITION.search(message)
    if match is None:
        return message
    where = f"line {match[1]}, column {match[2]}" if match[1] else "end of the file"
    text = message[: match.start()]
    return f"{where}: {text[:1].lower()}{text[1:]}"
