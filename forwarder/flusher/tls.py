"""TLS of a destination: the context that verifies, always, and which failures are about certificates."""

import ssl


def load(ca_file: str | None, client_cert: str | None) -> ssl.SSLContext:
    """Return the context; takes tens of milliseconds. Raises OSError, ssl.SSLError or ValueError for a bad file."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if client_cert is not None:
        context.load_cert_chain(client_cert, password="")  # an encrypted key is an error, never a question
    return context


def about_certificates(error: BaseException | None) -> bool:
    """Return whether a TLS failure is about certificates, ours or theirs (TLS 1.3 says so only after the handshake)."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        # aiohttp's own kind of SSLError has no reason: the one that it was raised from has it.
        reason = (getattr(error, "reason", None) or "").upper() if isinstance(error, ssl.SSLError) else ""
        if "CERTIFICATE" in reason or "ALERT" in reason:
            return True
        error = error.__cause__ or error.__context__
    return False
