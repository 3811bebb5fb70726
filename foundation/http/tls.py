"""Whom TLS trusts: the system's authorities, certifi's, and the installation's own beside them."""

import ssl

import certifi
from urllib3.util.ssl_ import create_urllib3_context

from foundation.http.deadline import TlsSocket


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
