"""`users add`, `list`, `set-password`, `remove`: accounts for a program's pages."""

import click

from foundation.cli import context, output
from foundation.cli.output import json_option
from foundation.cli.params import TEXT
from foundation.db import audit
from foundation.pages import users


@click.command()
@click.argument("name", type=TEXT)
def add(name: str) -> None:
    """Add the user NAME; the password is read from a prompt or standard input."""
    password = output.read_hidden_line("Password", confirm=True)
    with context.writing() as (session, now):
        users.add(session, name, password, now=now)
        audit.record(session, context.actor(), "user.add", name, now=now)
    click.echo(f"{name} can sign in")


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the users."""
    with context.reading() as session:
        rows = users.list_all(session)
    if as_json:
        output.print_json(
            [
                {
                    "user": row.name,
                    "created_at": row.created_at,
                    "password_changed_at": row.password_changed_at,
                }
                for row in rows
            ]
        )
        return
    output.print_table(
        ("user", "added", "password set"),
        [(row.name, row.created_at, row.password_changed_at) for row in rows],
        empty=f"no users; add one with `{context.program()} users add NAME`",
    )


@click.command("set-password")
@click.argument("name", type=TEXT)
def set_password(name: str) -> None:
    """Set a new password for NAME, who is signed out everywhere.

    The password is read from a prompt or standard input.
    """
    password = output.read_hidden_line("Password", confirm=True)
    with context.writing() as (session, now):
        user = users.set_password(session, name, password, now=now)
        audit.record(session, context.actor(), "user.set-password", user.name, now=now)
    click.echo(f"{name} has a new password and is signed out everywhere")


@click.command()
@click.argument("name", type=TEXT)
def remove(name: str) -> None:
    """Remove the user NAME, who is signed out everywhere."""
    with context.writing() as (session, now):
        removed = users.remove(session, name)
        audit.record(session, context.actor(), "user.remove", removed, now=now)
    click.echo(f"{removed} is removed and signed out everywhere")
