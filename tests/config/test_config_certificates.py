"""Certificates are read before TLS needs them, and the key of the setting is named."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from forwarder.config import certificates, load

AUTHORITY = trustme.CA()
OURS, THEIRS = AUTHORITY.issue_cert("client.example"), AUTHORITY.issue_cert("other.example")
CERTIFICATE, KEY = OURS.cert_chain_pems[0].bytes(), OURS.private_key_pem.bytes()
ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"

Problems = Callable[[str, bytes], list[str]]


@pytest.fixture
def found(tmp_path: Path) -> Problems:
    """Return what is found in a configuration whose setting names a file with such a content."""

    def problems(key: str, content: bytes) -> list[str]:
        (tmp_path / "file.pem").write_bytes(content)
        config = tmp_path / "forwarder.toml"
        config.write_text(f'[destinations.td]\nkind = "telemetrydeck"\n{key} = "file.pem"\n')
        return certificates.problems(load(config, environ={"HOME": str(tmp_path)})[0])

    return problems


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("ca_file", AUTHORITY.cert_pem.bytes()),
        ("ca_file", AUTHORITY.cert_pem.bytes() + CERTIFICATE),
        ("client_cert", CERTIFICATE + KEY),
        ("client_cert", KEY + CERTIFICATE),
    ],
)
def test_what_tls_can_use_is_no_problem(found: Problems, key: str, content: bytes) -> None:
    assert found(key, content) == []


@pytest.mark.parametrize(
    ("key", "content", "expected"),
    [
        ("ca_file", b"", "holds no certificate in PEM form"),
        ("ca_file", b"not a certificate", "holds no certificate in PEM form"),
        ("ca_file", CERTIFICATE[:200], "holds no certificate in PEM form"),
        ("client_cert", CERTIFICATE, "expected -----BEGIN CERTIFICATE----- … and then its private key, not encrypted"),
        ("client_cert", KEY, "expected -----BEGIN CERTIFICATE----- … and then its private key, not encrypted"),
        ("client_cert", CERTIFICATE + ENCRYPTED, "not encrypted"),
        ("client_cert", CERTIFICATE + THEIRS.private_key_pem.bytes(), "a key that does not belong to its certificate"),
    ],
)
def test_what_it_cannot_use_is_named_by_key_and_file(
    found: Problems, tmp_path: Path, key: str, content: bytes, expected: str
) -> None:
    (problem,) = found(key, content)
    assert problem.startswith(f"destinations.td.{key}: {tmp_path}/file.pem ")
    assert expected in problem
