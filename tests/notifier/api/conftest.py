"""Fixtures of the API of eAssessment."""

from tests.notifier.app_fixtures import (  # noqa: F401 - pytest finds fixtures here
    admin,
    app,
    client,
    database_kind,
    refused,
    shared_app,
    vault,
)
