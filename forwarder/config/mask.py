"""URLs without the user name and password that a proxy's URL may hold."""

import re

_CREDENTIALS = re.compile(r"(?<=//)[^/@\s]*@")


def redacted(text: str) -> str:
    """Return `text` with the credentials of every URL in it hidden."""
    return _CREDENTIALS.sub("***@", text)
