"""`init`: the first settings of a service, written to .env, and its schema."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from cryptography.fernet import Fernet

from foundation import config
from foundation.cli import context, db_commands
from foundation.cli.doctor import examine_env_file
from foundation.cli.lazy import load
from foundation.cli.output import print_json, print_warning
from foundation.config import ServiceSettings
from foundation.errors import Advice, ConfigurationError
from foundation.responses import InitResponse
from foundation.services import Services

# What .env can hold without quotes, for every program that reads it.
_PLAIN = re.compile(r"[^\s'\"`\\#$]+")
_WIDTH = 30

_Command = TypeVar("_Command", bound=Callable[..., Any])


def database_url_option(command: _Command) -> _Command:
    """Add the option `--database-url` to a command."""
    return click.option(
        "--database-url",
        help="sqlite:///FILE or postgresql://USER@HOST/DATABASE [default: a file in this folder].",
    )(command)


def initialize(
    settings: type[ServiceSettings],
    *,
    keys: Mapping[str, str],
    options: Mapping[str, str | None],
    next_steps: Sequence[tuple[str, str]],
    as_json: bool,
) -> None:
    """Write the settings that are missing to .env, make the schema, and print what was done.

    `keys` are new keys and `options` other values, by field. What is set already is kept; an
    option that contradicts it is refused, and so is a new encryption key for an existing database.
    `next_steps` are commands with their purpose.
    """
    given = config.given_variables(settings)
    new = _options(settings, options, given)
    new |= {field: key for field, key in keys.items() if not given.get(_name(settings, field))}
    _check(settings, new)
    file = config.env_file(settings)
    written = {_name(settings, field): value for field, value in new.items()}
    if new:
        _append(file, written)
    if new and not as_json:
        click.echo(f"wrote {', '.join(written)} to {file}")
        if "encryption_keys" in new:
            click.echo("back it up: without its keys the secrets in the database are lost")
    schema, sentence = db_commands.upgrade_schema()
    finding = examine_env_file(settings)
    if as_json:
        response = InitResponse(
            **dict(schema),
            env_file=str(file),
            written=[*written],
            warning=None if finding.ok else finding.found,
        )
        print_json(response)
        return
    click.echo(sentence)
    if not finding.ok:
        print_warning(finding.found, finding.advice)
    click.echo("\nNext:")
    for command, purpose in next_steps:
        click.echo(f"  {context.program()} {command:{_WIDTH}} {purpose}")


def new_encryption_key() -> str:
    """Return a new key for the setting `encryption_keys`."""
    return Fernet.generate_key().decode("ascii")


def _name(settings: type[ServiceSettings], field: str) -> str:
    return config.variable(settings, field)


def _options(
    settings: type[ServiceSettings], options: Mapping[str, str | None], given: Mapping[str, str]
) -> dict[str, str]:
    """Return the options that are not set yet; raise ConfigurationError if one is set otherwise."""
    new = {field: value for field, value in options.items() if value is not None}
    for field, value in [*new.items()]:
        name = _name(settings, field)
        if not _PLAIN.fullmatch(value):
            raise ConfigurationError(
                f"{name}: a space, a quote, or one of # $ \\ cannot be written to .env",
                advice=Advice("In a URL, write it with a percent sign: %23 for #, %24 for $."),
            )
        if given.get(name):
            if given[name] != value:
                raise ConfigurationError(
                    f"{name} already has another value",
                    advice=Advice("Change it in the environment or .env, or omit the option."),
                )
            del new[field]
    return new


def _check(settings: type[ServiceSettings], new: Mapping[str, str]) -> None:
    """Raise ConfigurationError if the settings are invalid with the new ones.

    Also if the encryption key is new and the database is not.
    """
    services: Services[Any] = load(f"{context.program()}.services:load")(
        config.load(settings, **new)
    )
    try:
        exists = context.schema().current(services.database) is not None
    finally:
        services.database.dispose()
    if exists and "encryption_keys" in new:
        raise ConfigurationError(
            f"the database exists, but {_name(settings, 'encryption_keys')} is missing, and a new "
            "key cannot decrypt the secrets in it",
            advice=Advice(
                "Copy the key from the backup of .env, or from another machine that uses this "
                "database."
            ),
        )


def _append(file: Path, variables: Mapping[str, str]) -> None:
    """Append variables to a file; a new file can be read by its owner only."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "r+b") as opened:
        content = opened.read()
        separator = b"" if not content or content.endswith(b"\n") else b"\n"
        lines = "".join(f"{name}={value}\n" for name, value in variables.items())
        opened.write(separator + lines.encode())
        opened.flush()
        os.fsync(opened.fileno())
