"""The command line of a service: its own commands, and those that both services have."""

import builtins
import keyword
from collections.abc import Mapping

import click

from foundation.cli.lazy import Lazy, LazyGroup


def commands_of(module: str, *names: str) -> dict[str, click.Command]:
    """Return commands of a module: `set-token` is its function `set_token`, `list` is `list_`."""
    functions = {name: name.replace("-", "_") for name in names}
    return {
        name: Lazy(f"{module}:{function}{'_' if _is_taken(function) else ''}")
        for name, function in functions.items()
    }


def _is_taken(name: str) -> bool:
    return keyword.iskeyword(name) or hasattr(builtins, name)


def examples(*commands: str) -> str:
    """Return the examples of a group of commands, as its help shows them."""
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])


def new_program(name: str, commands: Mapping[str, click.Command], *, help: str) -> LazyGroup:  # noqa: A002 - click's name
    """Return the command line of the service that is the package `name`.

    Its module `cli.operations` has the commands `init`, `serve`, `doctor`, `rotate-key`, `prune`.
    """
    operations = f"{name}.cli.operations"
    program = LazyGroup(
        name,
        {
            "db": LazyGroup(
                "db",
                {
                    **commands_of("foundation.cli.db_commands", "upgrade", "check", "backup"),
                    **commands_of(operations, "rotate-key", "prune"),
                },
                help="Upgrade, check, back up and prune the database; rotate its encryption key.",
                epilog=examples(
                    f"{name} db backup {name}-2026-11-22.backup",
                    f"{name} db prune --older-than 400d",
                ),
            ),
            **commands_of(operations, "init", "serve", "doctor"),
            "audit": LazyGroup(
                "audit",
                commands_of("foundation.cli.audit_commands", "list"),
                help="Show who changed what: on the pages, with the API, with commands.",
                epilog=examples(
                    f"{name} audit list --since yesterday",
                    f"{name} audit list --action user --csv > users.csv",
                ),
            ),
            "users": LazyGroup(
                "users",
                commands_of(
                    "foundation.pages.user_commands", "add", "list", "set-password", "remove"
                ),
                help="Manage the users who can sign in to the pages.",
                epilog=examples(f"{name} users add ada", f"{name} users set-password ada"),
            ),
            **commands,
        },
        help=help,
        context_settings={"help_option_names": ["-h", "--help"], "obj": name},
    )
    click.version_option(package_name="course-webhooks", message=f"{name} %(version)s")(program)
    return program
