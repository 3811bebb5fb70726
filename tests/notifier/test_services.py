"""The services of an app."""

import pytest
from flask import Flask
from pydantic import SecretStr

from foundation.crypto import Vault
from foundation.db.session import Database
from notifier import services
from notifier.config import Settings
from notifier.services import Services

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def test_view_finds_the_services_of_its_app() -> None:
    settings = Settings(_env_file=None, admin_key="x" * 32, encryption_keys=KEY)
    made = Services(settings, Database("sqlite:///none.db"), Vault(SecretStr(KEY)))
    app = Flask("mine")
    services.attach(app, made)

    assert services.of(app) is made
    with app.app_context():
        assert services.current() is made
    with pytest.raises(KeyError, match="services"):
        services.of(Flask("other"))
