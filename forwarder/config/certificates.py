"""The PEM files of the destinations, read as TLS will read them: what is wrong with them is better known beforehand."""

import ssl
from collections.abc import Iterator

from forwarder.config.model import Config, Destination

_PEM = "-----BEGIN CERTIFICATE-----"
_WRONG_KEY = "KEY_VALUES_MISMATCH"


def problems(config: Config) -> list[str]:
    """Return what keeps `ca_file` and `client_cert` from being used, by key; the files can be read (the loader looks).

    A daemon that starts with such a file parks the destination; `check` and a reload refuse it.
    """
    return [problem for destination in config.destinations for problem in _of(destination)]


def _of(destination: Destination) -> Iterator[str]:
    path = f"destinations.{destination.name}"
    if destination.ca_file is not None and (problem := _authorities(destination.ca_file)):
        yield f"{path}.ca_file: {destination.ca_file} {problem}"
    if destination.client_cert is not None and (problem := _certificate(destination.client_cert)):
        yield f"{path}.client_cert: {destination.client_cert} {problem}"


def _authorities(file: str) -> str | None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        return f"holds no certificate in PEM form ({_words(error)}), expected {_PEM} …"
    return None


def _certificate(file: str) -> str | None:
    try:
        # a password, so that an encrypted key is an error and not a question on the terminal
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(file, password="")
    except (OSError, ValueError) as error:
        if getattr(error, "reason", None) == _WRONG_KEY:
            return "holds a key that does not belong to its certificate"
        return f"cannot be used ({_words(error)}), expected {_PEM} … and then its private key, not encrypted"
    return None


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else str(error)
