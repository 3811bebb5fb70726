"""Whom TLS trusts: the system's authorities, certifi's, and the installation's own beside them."""

import ssl
from pathlib import Path

import certifi
from urllib3.util.ssl_ import create_urllib3_context

from foundation.deadline import TlsSocket


def tls_context(bundle: str = "") -> ssl.SSLContext:
    """Return a context that verifies, and whose sockets keep the deadline.

    `bundle` names a file of further authorities in PEM.
    They are added, for a campus signs its own receivers and others have theirs signed in public.
    """
    context = create_urllib3_context()
    context.load_default_certs()
    context.load_verify_locations(certifi.where())
    if bundle:
        context.load_verify_locations(bundle)
    context.sslsocket_class = TlsSocket
    return context


def check_bundle(bundle: str) -> str:
    """Return the path of a bundle, or raise a ValueError that says why it cannot be one."""
    if not bundle:
        return bundle
    if not Path(bundle).is_file():
        raise ValueError("expected a file of certificates in PEM, and there is no such file")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(bundle)
    except ssl.SSLError:
        raise ValueError("expected a file of certificates in PEM, and it holds none") from None
    except OSError as error:
        raise ValueError(f"expected a file of certificates in PEM: {error.strerror}") from None
    return bundle
