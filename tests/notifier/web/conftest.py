"""The fixtures of eAssessment as an app."""

from tests.notifier.app_fixtures import (  # noqa: F401 - pytest finds fixtures here
    admin,
    admin_key,
    app,
    client,
    database,
    make_app,
    make_course,
    make_delivery,
    make_settings,
    refused,
    rows,
    shut_admin,
    shut_client,
)
