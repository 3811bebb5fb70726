"""The services of an app."""

import pytest
from flask import Flask

from foundation.services import Services, attach
from notifier.config import Settings

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def test_view_finds_the_services_of_its_app() -> None:
    settings = Settings(_env_file=None, admin_key="x" * 32, encryption_keys=KEY)
    made = Services.make(settings)
    app = Flask("mine")
    attach(app, made)

    assert Services.of(app) is made
    with app.app_context():
        assert Services.current() is made
    with pytest.raises(KeyError, match="services"):
        Services.of(Flask("other"))
