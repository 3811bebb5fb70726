"""`users add`, `list`, `set-password`, `remove`: who may sign in to a service's pages."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import click
from sqlalchemy.orm import Session

from foundation.cli import output
from foundation.cli.output import Commands, json_option
from foundation.cli.params import WORDS
from foundation.pages import users
from foundation.pages.models import User

Writing = Callable[[], AbstractContextManager[tuple[Session, datetime]]]
Reading = Callable[[], AbstractContextManager[Session]]


def users_commands(program: str, writing: Writing, reading: Reading) -> Commands:
    """Return the group `users` of a program; `writing` and `reading` open its transactions."""
    group = Commands("users", help="Say who may sign in to the pages, and with which password.")

    @group.command()
    @click.argument("name", type=WORDS)
    def add(name: str) -> None:
        """Let NAME sign in, with a password from a prompt or standard input."""
        password = _read_password()
        with writing() as (session, now):
            users.add(session, name, password, now=now)
        click.echo(f"{name} may sign in")

    @group.command("list")
    @json_option
    def list_(as_json: bool) -> None:
        """List those who may sign in."""
        with reading() as session:
            rows = users.list_all(session)
        if as_json:
            output.print_json([_facts(row) for row in rows])
            return
        output.print_table(
            ("user", "added", "password set"),
            [(row.name, row.created_at, row.password_changed_at) for row in rows],
            empty=f"nobody may sign in; let somebody with `{program} users add NAME`",
        )

    @group.command("set-password")
    @click.argument("name", type=WORDS)
    def set_password(name: str) -> None:
        """Give NAME a new password, from a prompt or standard input; sessions of NAME end."""
        password = _read_password()
        with writing() as (session, now):
            users.set_password(session, name, password, now=now)
        click.echo(f"{name} has a new password; whoever was signed in as {name} is signed out")

    @group.command()
    @click.argument("name", type=WORDS)
    def remove(name: str) -> None:
        """Let NAME sign in no more; sessions of NAME end."""
        with writing() as (session, _):
            removed = users.remove(session, name)
        click.echo(f"{removed} may not sign in any more, and is signed out")

    return group


def _read_password() -> str:
    if _is_terminal():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt="Once more"))
    return sys.stdin.readline().rstrip("\r\n")


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _facts(user: User) -> dict[str, Any]:
    return {
        "user": user.name,
        "created_at": user.created_at,
        "password_changed_at": user.password_changed_at,
    }
