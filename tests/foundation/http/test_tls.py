"""The certificate authorities and the versions of TLS that outgoing connections accept."""

import ssl
from pathlib import Path

import certifi
import pytest

from foundation.http import dialer
from tests.faults.certificate_authority import Authority


def test_bundle_is_added_to_the_public_authorities(tmp_path: Path) -> None:
    bundle = Authority(tmp_path).bundle

    names = [
        dict(pair for part in one["subject"] for pair in part).get("commonName")
        for one in dialer.tls_context(str(bundle)).get_ca_certs()
    ]

    assert "Campus CA" in names
    assert len(names) > Path(certifi.where()).read_text().count("BEGIN CERTIFICATE") // 2


def test_tls_before_version_1_2_is_not_offered_if_the_system_allows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lax = ssl.create_default_context()
    lax.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    monkeypatch.setattr(ssl, "create_default_context", lambda: lax)

    assert dialer.tls_context().minimum_version == ssl.TLSVersion.TLSv1_2
