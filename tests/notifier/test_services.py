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


@pytest.fixture
def made() -> Services:
    """Services without a database connection."""
    settings = Settings(_env_file=None, admin_key="x" * 32, encryption_keys=KEY)
    return Services(settings, Database("sqlite:///none.db"), Vault(SecretStr(KEY)))


def test_an_app_has_the_services_that_it_was_given(made: Services) -> None:
    mine, other = Flask("mine"), Flask("other")
    services.attach(mine, made)

    assert services.of(mine) is made
    with pytest.raises(KeyError, match="services"):
        services.of(other)


def test_a_view_finds_the_services_of_its_app(made: Services) -> None:
    app = Flask("mine")
    services.attach(app, made)

    with app.app_context():
        assert services.current() is made
    with pytest.raises(RuntimeError, match="outside of application context"):
        services.current()
