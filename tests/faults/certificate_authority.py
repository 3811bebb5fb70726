"""A certificate authority for tests, with valid and invalid server certificates."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = timedelta(days=1)
_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """Signs certificates for servers; `bundle` is the file that makes it trusted."""

    def __init__(self, folder: Path, name: str = "Campus CA") -> None:
        self._folder = folder
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = self._key.public_key()
        # Python 3.13 requires all of them (RFC 5280, 4.2.1).
        own = (
            _certificate(self._key, name, name, -_DAY, _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(_USAGE, critical=True)
        )
        self.bundle = folder / f"{name}.pem"
        signed = own.sign(self._key, hashes.SHA256())
        self.bundle.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def server(
        self,
        host: str = "127.0.0.1",
        *,
        starts: timedelta = -_DAY,
        ends: timedelta = _DAY,
        self_signed: bool = False,
    ) -> ssl.SSLContext:
        """Return a server's context with a certificate for an IP address.

        It is valid from `starts` to `ends`, both relative to now.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        signer, signer_name = (key, "ELMS") if self_signed else (self._key, self._name)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        address = x509.IPAddress(ipaddress.ip_address(host))
        signed = (
            _certificate(key, "ELMS", signer_name, starts, ends)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(issuer, critical=False)
            .sign(signer, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path = self._folder / "server.pem"
        path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def _certificate(
    key: ec.EllipticCurvePrivateKey, name: str, signer: str, starts: timedelta, ends: timedelta
) -> x509.CertificateBuilder:
    subject, issuer = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, signer)
    )
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer, subject, key.public_key(), x509.random_serial_number(), now + starts, now + ends
    )
