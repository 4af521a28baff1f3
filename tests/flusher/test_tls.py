"""P5: certificates that are not right park the lane; nothing goes out in clear, and nothing is lost."""

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from forwarder.core.lane.outcome import Unreachable
from forwarder.core.seams import Trait
from tests.flusher.harness import Post, Scene, encharge, telemetrydeck, until
from tests.flusher.test_client import save

SECRET = b"the-write-key"
EVENT = b'{"name":"private"}'


class Listener:
    """A TLS server on a thread (a blocking one: unlike asyncio's it sends its alerts)."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.context = context
        self.heard = bytearray()
        """What arrived in clear: decrypted by us, or never encrypted."""
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._socket.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            try:
                self._talk(connection)
            except OSError:
                connection.close()

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        if self.context is None:
            self.heard += connection.recv(65536)
            connection.close()
            return
        with self.context.wrap_socket(connection, server_side=True) as secured:
            self.heard += secured.recv(65536)
            secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextmanager
def listening(context: ssl.SSLContext | None) -> Iterator[Listener]:
    listener = Listener(context)
    thread = threading.Thread(target=listener.serve, daemon=True)
    thread.start()
    yield listener
    listener.close()
    thread.join(10)


def context_of(chain: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


def self_made(directory: Path, *, days: int) -> Path:
    """Return a certificate for 127.0.0.1, its own authority, that is valid for `days` from a year ago on."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=365)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=days))
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "self-made.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


async def parks(listener: Listener, reason: str, **settings: object) -> Scene:
    """Let a lane with one event meet a server; return when it is parked for this reason, with the event still there."""
    scene = Scene(encharge(listener.url, **settings))
    async with scene.running(drain_s=0.0):
        scene.spool.put([EVENT], traits=[Trait(0, (1,))])
        await until(lambda: scene.state == "parked")
        assert reason in scene.flusher.status().reason
    assert scene.spool.queued == 1
    assert scene.dead.letters == []
    assert SECRET not in listener.heard
    assert EVENT not in listener.heard
    return scene


async def test_p5_an_expired_certificate_parks(tmp_path: Path) -> None:
    path = self_made(tmp_path, days=30)
    with listening(context_of(path)) as listener:
        await parks(listener, "certificate has expired", ca_file=str(path))


async def test_p5_a_self_signed_certificate_parks_and_says_which_settings_to_check(tmp_path: Path) -> None:
    with listening(context_of(self_made(tmp_path, days=4000))) as listener:
        scene = await parks(listener, "self-signed certificate")
        assert "destinations.en.url, ca_file" in scene.flusher.status().last_error  # type: ignore[operator]


async def test_p5_a_certificate_for_another_host_parks(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)
    with listening(context) as listener:
        await parks(listener, "IP address mismatch", ca_file=save(tmp_path / "ca.pem", authority.cert_pem))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_p5_a_server_that_wants_a_client_certificate_parks_and_kills_no_event(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version
    with listening(context) as listener:
        await parks(listener, "client_cert", ca_file=save(tmp_path / "ca.pem", authority.cert_pem), max_ambiguous=100)


async def test_a_server_that_does_not_speak_tls_never_gets_a_request_in_clear(post: Post) -> None:
    with listening(None) as listener:
        result = await post(telemetrydeck(listener.url), EVENT)
    assert isinstance(result, Unreachable)
    assert not result.ambiguous
    assert listener.heard[:1] == b"\x16", "a TLS handshake and nothing else"
    assert EVENT not in listener.heard


async def test_a_handshake_that_stalls_ends_in_time_and_is_not_ambiguous(post: Post) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts, nobody answers
        result = await post(telemetrydeck(f"https://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2))
    assert result == Unreachable("timeout", detail="no connection in time")
