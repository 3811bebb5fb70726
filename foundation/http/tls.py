"""The TLS context of outgoing connections."""

import ssl

import certifi

from foundation.http.deadline import TlsSocket


def tls_context(bundle: str = "") -> ssl.SSLContext:
    """Return a context that verifies certificates, and whose sockets keep the deadline.

    It trusts the system's authorities, those of certifi, and those of `bundle`, a PEM file: a
    campus signs its own receivers, and others have public certificates.
    """
    context = ssl.create_default_context()
    # Pythons of distributions leave it to OpenSSL's configuration.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    context.load_verify_locations(certifi.where())
    if bundle:
        context.load_verify_locations(bundle)
    context.sslsocket_class = TlsSocket
    return context
