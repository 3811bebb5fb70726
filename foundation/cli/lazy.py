"""Command groups whose commands are imported when they run; refusals become exit codes."""

import ast
import io
import os
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click


class Lazy(click.Command):
    """A command that is not imported yet: its path as `module:function`."""

    def __init__(self, path: str) -> None:
        super().__init__(None)
        self.path = path

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first sentence of the function's docstring, read from the source."""
        module, _, function = self.path.partition(":")
        spec = find_spec(module)
        source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef) and node.name == function:
                return click.Command(None, help=ast.get_docstring(node)).get_short_help_str(limit)
        raise LookupError(f"there is no command {self.path}")


def load(path: str) -> Any:
    """Return the object at a path `module:attribute`."""
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


class LazyGroup(click.Group):
    """A group of commands; help and completion list the lazy ones without importing them."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported if it is lazy."""
        command = super().get_command(ctx, cmd_name)
        if isinstance(command, Lazy):
            imported: click.Command = load(command.path)
            return imported
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, each with its whole sentence; click would cut it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._sentences(ctx)))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Return the commands that begin as typed."""
        from click.shell_completion import CompletionItem

        commands = [
            CompletionItem(name, help=sentence)
            for name, sentence in self._sentences(ctx)
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def _sentences(self, ctx: click.Context) -> list[tuple[str, str]]:
        return [
            (name, self.commands[name].get_short_help_str(limit=sys.maxsize))
            for name in self.list_commands(ctx)
        ]

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; a refusal is a message and an exit code, never a trace.

        With `--json` the message is JSON, also that of a wrong option.
        """
        _open_closed_stdin()
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal's encoding may lack a character that is printed.
            sys.stdout.reconfigure(errors="backslashreplace")
        words = args[0] if args else kwargs.get("args")
        as_json = "--json" in (sys.argv if words is None else words)
        # click prints its own errors as text, unless it is asked to raise them.
        kwargs["standalone_mode"] = not as_json
        try:
            code = super().main(*args, **kwargs)
        except Exception as error:
            from foundation.cli import output

            if isinstance(error, OSError):
                _discard_stdout()
            code = output.report_error(error, str(self.name), as_json=as_json)
            if code is None:
                raise
        sys.exit(code)


def _open_closed_stdin() -> None:
    # Python has no stdin object if its descriptor is closed, and readers of it would fail.
    if sys.stdin is None:
        sys.stdin = open(  # noqa: SIM115 - it stays open to the end
            os.open(os.devnull, os.O_RDONLY), encoding="utf-8", closefd=False
        )


def _discard_stdout() -> None:
    # Python would try again at exit, and complain about, what a full disk did not take.
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
