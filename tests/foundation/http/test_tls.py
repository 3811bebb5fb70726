"""The certificate authorities that outgoing TLS trusts."""

from pathlib import Path

import certifi

from foundation.http import tls
from tests.faults.certificate_authority import Authority


def test_bundle_is_added_to_the_public_authorities(tmp_path: Path) -> None:
    bundle = Authority(tmp_path).bundle

    names = [
        dict(pair for part in one["subject"] for pair in part).get("commonName")
        for one in tls.tls_context(str(bundle)).get_ca_certs()
    ]

    assert "Campus CA" in names
    assert len(names) > Path(certifi.where()).read_text().count("BEGIN CERTIFICATE") // 2
