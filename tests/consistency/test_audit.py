"""Every route and command that changes something is in the audit table, or says here why not."""

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from foundation.cli import pruning
from foundation.config import ServiceSettings
from notifier import models as notifier_models
from notifier.app import create_app as create_notifier
from notifier.config import Settings as NotifierSettings
from notifier.webhooks import replay
from receiver import models as receiver_models
from receiver.app import create_app as create_receiver
from receiver.config import Settings as ReceiverSettings
from receiver.registry import history
from tests.consistency.commands import PROGRAMS, every_command

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
ROOT = Path(__file__).parents[2]
RECORDERS = {"audit.record", "audit.record_all"}
WRITING = {"POST", "PUT", "PATCH", "DELETE"}

# The action that each route records; None for one that records nothing.
NOTIFIER_ROUTES = {
    "sign_in.submit": None,  # logged with the address
    "sign_in.sign_out": None,
    "api.read_batch": None,  # reads
    "claims_api.claim_tokens": "course.claim-token",
    "overview.replay": "delivery.replay",
    "courses.add": "course.add",
    "courses.regenerate": "course.regenerate-token",
    "courses.announce": "course.announce-token",
    "course_import.run": "course.add",
    "course_deletion.preview": None,  # reads
    "course_deletion.delete": "course.delete",
    "course_deletion.restore": "course.restore",
    "token_regeneration.preview": None,  # reads
    "token_regeneration.regenerate": "course.regenerate-token",
    "deliveries.replay_one": "delivery.replay",
    "deliveries.replay": "delivery.replay",
    "endpoints.ping": None,  # a test; its result is kept with the endpoint
    "endpoints.check": None,  # pings
    "endpoints.try_now": "endpoint.retry",
    "endpoints.disable": "endpoint.disable",
    "endpoints.enable": "endpoint.enable",
    "endpoints.remove": "endpoint.remove",
    "endpoints.set_name": "endpoint.set-name",
    "endpoints.set_token_claims": "endpoint.set-token-claims",
    "endpoints.correct_url": "endpoint.correct-url",
    "endpoints.set_event_types": "endpoint.set-event-types",
    "endpoint_secrets.register": "endpoint.add",
    "endpoint_secrets.rotate": "endpoint.rotate-secret",
    "admin_api.add_course": "course.add",
    "admin_api.delete_course": "course.delete",
    "admin_api.restore_course": "course.restore",
    "admin_api.regenerate_token": "course.regenerate-token",
    "admin_api.load_grades": None,  # data; the course has their time
    "admin_api.add_endpoint": "endpoint.add",
    "admin_api.remove_endpoint": "endpoint.remove",
    "admin_api.replay_deliveries": "delivery.replay",
    "ingest_api.announce_token": "course.announce-token",
    "ingest_api.receive_moodle_event": "course.delete",
}
RECEIVER_ROUTES = {
    "sign_in.submit": None,  # logged with the address
    "sign_in.sign_out": None,
    "webhooks.receive": None,  # the inbox and the history of the course
    "registry.add": "entry.add",
    "course.enter_token": "entry.set-token",
    "course.set_activity": "entry.set-activity",
    "course.remove": "entry.remove",
    "removal.preview": None,  # reads
    "removal.remove": "entry.remove",
    "tokens.enter": "entry.set-token",
    "sources.add": "source.add",
    "sources.set_url": "source.set-url",
    "sources.add_secret": "source.add-secret",
    "sources.remove_secret": "source.remove-secret",
    "sources.set_site_token": "source.set-site-token",
    "sources.remove": "source.remove",
    "runs.start": "sync.start",
    "runs.pause": "sync.pause",
    "runs.resume": "sync.resume",
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
    "notifier courses restore": "course.restore",
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
    "notifier endpoints check": None,
    "notifier trigger": None,
    "notifier endpoints remove": "endpoint.remove",
    "notifier endpoints set-name": "endpoint.set-name",
    "notifier endpoints set-token-claims": "endpoint.set-token-claims",
    "notifier deliveries list": None,
    "notifier deliveries show": None,
    "notifier deliveries replay": "delivery.replay",
    "receiver audit list": None,
    "receiver db upgrade": None,  # it makes the table
    "receiver db check": None,
    "receiver db backup": None,
    "receiver db rotate-key": "database.rotate-key",
    "receiver db prune": "database.prune",
    "receiver init": None,
    "receiver serve": None,
    "receiver doctor": None,
    "receiver sync-grades": None,  # its runs are recorded
    "receiver users add": "user.add",
    "receiver users list": None,
    "receiver users set-password": "user.set-password",
    "receiver users remove": "user.remove",
    "receiver sources add": "source.add",
    "receiver sources list": None,
    "receiver sources set-url": "source.set-url",
    "receiver sources remove": "source.remove",
    "receiver sources add-secret": "source.add-secret",
    "receiver sources remove-secret": "source.remove-secret",
    "receiver sources set-site-token": "source.set-site-token",
    "receiver registry add": "entry.add",
    "receiver registry list": None,
    "receiver registry show": None,
    "receiver registry remove": "entry.remove",
    "receiver registry set-token": "entry.set-token",
    "receiver registry export": None,
    "receiver registry import": "entry.set-token",
    "receiver registry set-activity": "entry.set-activity",
    "receiver grades forget": "entry.forget-grades",
    "receiver inbox list": None,
    "receiver listen": None,
    "receiver verify": None,
    "receiver runs list": None,
    "receiver runs pause": "sync.pause",
    "receiver runs resume": "sync.resume",
    "receiver runs show": None,
}
# What is recorded for every caller by the module that does it.
RECORDED_BY = {
    **dict.fromkeys(("entry.add", "entry.remove", "entry.set-token"), history),
    "delivery.replay": replay,
    "database.prune": pruning,
}


# The actions of an entry that is recorded next to another one.
IN_ADDITION = {"course.set-title"}


def recorded_in(package: str) -> set[str]:
    """Return the actions that calls of `audit.record` and `record_all` in a package name."""
    calls = (
        node
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in RECORDERS
    )
    return {
        str(action.value)
        for call in calls
        for action in call.args[2:3]
        if isinstance(action, ast.Constant)
    }


def records(function: Callable[..., Any], action: str) -> bool:
    module = RECORDED_BY.get(action) or inspect.getmodule(inspect.unwrap(function))
    assert module is not None
    return f'"{action}"' in inspect.getsource(module)


@pytest.mark.parametrize(
    ("package", "actions"),
    [
        pytest.param("notifier", notifier_models.ACTIONS, id="notifier"),
        pytest.param("receiver", receiver_models.ACTIONS, id="receiver"),
    ],
)
def test_actions_that_can_be_searched_are_those_recorded(
    package: str, actions: tuple[str, ...]
) -> None:
    routes = {"notifier": NOTIFIER_ROUTES, "receiver": RECEIVER_ROUTES}[package]
    commands = {action for path, action in COMMANDS.items() if path.startswith(package)}
    recorded = {*routes.values(), *commands} - {None}

    assert recorded_in(package) <= set(actions)
    assert set(actions) - IN_ADDITION == recorded


@pytest.mark.parametrize(
    ("create_app", "settings", "routes"),
    [
        pytest.param(create_notifier, NotifierSettings, NOTIFIER_ROUTES, id="notifier"),
        pytest.param(create_receiver, ReceiverSettings, RECEIVER_ROUTES, id="receiver"),
    ],
)
def test_every_route_that_changes_something_is_recorded(
    create_app: Callable[[Any], Flask],
    settings: type[ServiceSettings],
    routes: dict[str, str | None],
) -> None:
    given: dict[str, Any] = {"_env_file": None, "encryption_keys": KEY, "admin_key": 32 * "k"}
    app = create_app(settings(**given, database_url="sqlite:///none.db"))
    writing = {
        rule.endpoint for rule in app.url_map.iter_rules() if WRITING & (rule.methods or set())
    }

    assert writing == set(routes)
    assert [
        name
        for name, action in routes.items()
        if action is not None and not records(app.view_functions[name], action)
    ] == []


def test_every_command_that_changes_something_is_recorded() -> None:
    commands = {
        path: command.callback
        for name, program in PROGRAMS.items()
        for path, command in every_command(program, (name,))
        if command.callback is not None
    }

    assert set(commands) == set(COMMANDS)
    assert [
        name
        for name, action in COMMANDS.items()
        if action is not None and not records(commands[name], action)
    ] == []
