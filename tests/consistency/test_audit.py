"""Every route and command that changes something is in the audit table, or says here why not."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from notifier.app import create_app
from notifier.config import Settings
from tests.consistency.commands import PROGRAMS, every_command

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
WRITING = {"POST", "PUT", "PATCH", "DELETE"}

# The action that each route records; None for one that records nothing.
ROUTES = {
    "sign_in.submit": None,  # logged with the address
    "sign_in.sign_out": None,
    "api.read_batch": None,  # reads
    "overview.replay": "delivery.replay",
    "courses.add": "course.add",
    "courses.regenerate": "course.regenerate-token",
    "courses.announce": "course.announce-token",
    "course_import.run": "course.add",
    "course_deletion.preview": None,  # reads
    "course_deletion.delete": "course.delete",
    "deliveries.replay_one": "delivery.replay",
    "deliveries.replay": "delivery.replay",
    "endpoints.ping": None,  # a test; its result is kept with the endpoint
    "endpoints.try_now": "endpoint.retry",
    "endpoints.disable": "endpoint.disable",
    "endpoints.enable": "endpoint.enable",
    "endpoints.correct_url": "endpoint.correct-url",
    "endpoints.set_event_types": "endpoint.set-event-types",
    "endpoint_secrets.register": "endpoint.add",
    "endpoint_secrets.rotate": "endpoint.rotate-secret",
    "admin_api.add_course": "course.add",
    "admin_api.delete_course": "course.delete",
    "admin_api.regenerate_token": "course.regenerate-token",
    "admin_api.load_grades": None,  # data; the course has their time
    "admin_api.add_endpoint": "endpoint.add",
    "admin_api.replay_deliveries": "delivery.replay",
    "ingest_api.announce_token": "course.announce-token",
    "ingest_api.receive_moodle_event": "course.delete",
}
# The action that each command records; None for one that reads, sends, or only adds data.
COMMANDS = {
    "notifier audit list": None,
    "notifier db upgrade": None,  # it makes the table
    "notifier db check": None,
    "notifier db backup": None,
    "notifier db rotate-key": "database.rotate-key",
    "notifier db prune": "database.prune",
    "notifier init": None,
    "notifier serve": None,
    "notifier doctor": None,
    "notifier work": None,
    "notifier users add": "user.add",
    "notifier users list": None,
    "notifier users set-password": "user.set-password",
    "notifier users remove": "user.remove",
    "notifier courses add": "course.add",
    "notifier courses import": "course.add",
    "notifier courses list": None,
    "notifier courses show": None,
    "notifier courses delete": "course.delete",
    "notifier courses regenerate-token": "course.regenerate-token",
    "notifier courses announce-token": "course.announce-token",
    "notifier grades import": None,
    "notifier grades forget": "course.forget-grades",
    "notifier endpoints add": "endpoint.add",
    "notifier endpoints list": None,
    "notifier endpoints disable": "endpoint.disable",
    "notifier endpoints enable": "endpoint.enable",
    "notifier endpoints set-event-types": "endpoint.set-event-types",
    "notifier endpoints correct-url": "endpoint.correct-url",
    "notifier endpoints rotate-secret": "endpoint.rotate-secret",
    "notifier endpoints ping": None,
    "notifier deliveries list": None,
    "notifier deliveries show": None,
    "notifier deliveries replay": "delivery.replay",
}


def records(function: Callable[..., Any], action: str) -> bool:
    module = inspect.getmodule(inspect.unwrap(function))
    assert module is not None
    return f'"{action}"' in inspect.getsource(module)


def test_every_route_that_changes_something_is_recorded() -> None:
    app = create_app(
        Settings(
            _env_file=None,
            encryption_keys=KEY,
            admin_key="k" * 32,
            database_url="sqlite:///none.db",
        )
    )
    writing = {
        rule.endpoint for rule in app.url_map.iter_rules() if WRITING & (rule.methods or set())
    }

    assert writing == set(ROUTES)
    assert [
        name
        for name, action in ROUTES.items()
        if action is not None and not records(app.view_functions[name], action)
    ] == []


@pytest.mark.parametrize("program", ["notifier"])
def test_every_command_that_changes_something_is_recorded(program: str) -> None:
    commands = {
        path: command.callback
        for path, command in every_command(PROGRAMS[program], (program,))
        if command.callback is not None
    }

    assert set(commands) == set(COMMANDS)
    assert [
        name
        for name, action in COMMANDS.items()
        if action is not None and not records(commands[name], action)
    ] == []
