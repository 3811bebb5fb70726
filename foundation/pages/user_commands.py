"""`users add`, `list`, `set-password`, `remove`: accounts for a program's pages."""

import click

from foundation.cli import context, output
from foundation.cli.output import csv_option, json_option
from foundation.cli.params import TEXT
from foundation.db import audit
from foundation.pages import users
from foundation.responses import Deleted, UserResponse, Users


@click.command()
@click.argument("name", type=TEXT)
@json_option
def add(name: str, as_json: bool) -> None:
    """Add the user NAME; the password is read from a prompt or standard input."""
    password = output.read_hidden_line("Password", confirm=True)
    with context.writing() as (session, now):
        response = UserResponse.of(users.add(session, name, password, now=now))
        audit.record(session, context.actor(), "user.add", name, now=now)
    output.print_result(response, f"{name} can sign in", as_json=as_json)


@click.command("list")
@csv_option
@json_option
def list_(as_csv: bool, as_json: bool) -> None:
    """List the users."""
    with context.reading() as session:
        rows = users.list_all(session)
    if as_csv:
        fields = list(UserResponse.model_fields)
        exported = [UserResponse.of(row).model_dump() for row in rows]
        output.print_csv(fields, [exported], as_json=as_json)
    elif as_json:
        output.print_json(Users(users=[UserResponse.of(row) for row in rows]))
    else:
        output.print_table(
            ("user", "added", "password set"),
            [(row.name, row.created_at, row.password_changed_at) for row in rows],
            empty=f"no users; add one with `{context.program()} users add NAME`",
        )


@click.command("set-password")
@click.argument("name", type=TEXT)
@json_option
def set_password(name: str, as_json: bool) -> None:
    """Set a new password for NAME, who is signed out everywhere.

    The password is read from a prompt or standard input.
    """
    password = output.read_hidden_line("Password", confirm=True)
    with context.writing() as (session, now):
        user = users.set_password(session, name, password, now=now)
        audit.record(session, context.actor(), "user.set-password", user.name, now=now)
        response = UserResponse.of(user)
    sentence = f"{name} has a new password and is signed out everywhere"
    output.print_result(response, sentence, as_json=as_json)


@click.command()
@click.argument("name", type=TEXT)
@json_option
def remove(name: str, as_json: bool) -> None:
    """Remove the user NAME, who is signed out everywhere."""
    with context.writing() as (session, now):
        removed = users.remove(session, name)
        audit.record(session, context.actor(), "user.remove", removed, now=now)
    sentence = f"{removed} is removed and signed out everywhere"
    output.print_result(Deleted(deleted={"users": 1}), sentence, as_json=as_json)
