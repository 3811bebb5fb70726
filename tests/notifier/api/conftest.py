"""Fixtures of the API of eAssessment."""

from tests.notifier.app_fixtures import (  # noqa: F401 - pytest finds fixtures here
    admin,
    app,
    client,
    database,
    make_app,
    refused,
    rows,
    shared_app,
    vault,
)
