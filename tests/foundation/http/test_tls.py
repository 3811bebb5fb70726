"""Tests of the authorities that outgoing TLS trusts."""

from pathlib import Path

import certifi
import pytest

from foundation import config
from foundation.config import ServiceSettings
from foundation.errors import ConfigurationError
from foundation.http import tls
from notifier.config import Settings as NotifierSettings
from receiver.config import Settings as ReceiverSettings
from tests.faults.authority import Authority

ENCRYPTION_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def test_bundle_is_added_to_the_public_authorities(tmp_path: Path) -> None:
    bundle = Authority(tmp_path).bundle

    names = [
        dict(pair for part in one["subject"] for pair in part).get("commonName")
        for one in tls.tls_context(str(bundle)).get_ca_certs()
    ]

    assert "Campus CA" in names
    assert len(names) > Path(certifi.where()).read_text().count("BEGIN CERTIFICATE") // 2


@pytest.mark.parametrize(
    ("prefix", "kind"),
    [
        pytest.param("NOTIFIER", NotifierSettings, id="eAssessment"),
        pytest.param("RECEIVER", ReceiverSettings, id="ELMS"),
    ],
)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "there is no such file", id="missing"),
        pytest.param(b"", "it contains none", id="empty"),
        pytest.param(b"no certificate", "it contains none", id="no PEM"),
        pytest.param(b"\x30\x82\x01\x0a", "it contains none", id="DER"),
        pytest.param(
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "it contains none",
            id="broken",
        ),
    ],
)
def test_bundle_that_is_none_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    prefix: str,
    kind: type[ServiceSettings],
    content: bytes | None,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"{prefix}_ENCRYPTION_KEYS", ENCRYPTION_KEY)
    monkeypatch.setenv(f"{prefix}_ADMIN_KEY", "k" * 32)
    monkeypatch.setenv(f"{prefix}_CA_BUNDLE", "campus.pem")
    if content is not None:
        Path("campus.pem").write_bytes(content)

    with pytest.raises(ConfigurationError) as refused:
        config.load(kind)

    assert str(refused.value) == (
        f"{prefix}_CA_BUNDLE: expected a PEM file of certificates, but {words}"
    )


def test_bundle_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file"):
        config._ca_bundle(str(tmp_path))
