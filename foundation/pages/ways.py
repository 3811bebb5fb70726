"""Ways: what an advice names as a command, said as the page where one finds the same."""

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Lead = Callable[[Sequence[str], str | None], tuple[str, str] | None]
"""From a command's further words, and the page of what the advice is about if there is one, to
what the link says and where it leads; None if the words are not those of that command, for a name
that people gave can look like one."""

_CODE = re.compile("""`((?:[^`'"]|'[^']*'|"[^"]*")*|[^`]*)`""")
"""What stands between backticks; one within quotes, as of a name in a command, is not the end."""


@dataclass(frozen=True)
class Way:
    """A command by its first words, without the program's name, and what leads to its page."""

    command: str
    lead: Lead


def number(words: Sequence[str]) -> int | None:
    """Return the first of a command's further words if it is the number of a row."""
    word = words[0] if words else ""
    return int(word) if word.isascii() and word.isdecimal() else None


def to(command: str, says: str, url: Callable[[], str]) -> Way:
    """Return the way to a page that is the same for all further words of a command."""
    return Way(command, lambda _, __: (says, url()))


def spoken(text: str, program: str, ways: Sequence[Way], about: str | None = None) -> Markup:
    """Return a sentence in which a command between backticks is a link to where a page does it.

    A command that no page stands for looks like code: somebody has to give it on that machine.
    Markup stays as it is: so names that people gave are put into a sentence, for one of them can
    look like a command too.
    """
    if isinstance(text, Markup):
        return text
    parts = enumerate(_CODE.split(text))  # a backtick without a second one stays where it is
    return Markup("").join(
        _said(part, program, ways, about) if index % 2 else escape(part) for index, part in parts
    )


def _said(code: str, program: str, ways: Sequence[Way], about: str | None) -> Markup:
    words = _words(code)
    if words[:1] == [program]:
        for way in ways:
            first = way.command.split()
            if words[1 : len(first) + 1] == first:
                link = way.lead(words[len(first) + 1 :], about)
                if link is not None:
                    says, url = link
                    return Markup('<a href="{}">{}</a>').format(url, says)
    return Markup("<code>{}</code>").format(code)


def _words(code: str) -> list[str]:
    try:
        return shlex.split(code)
    except ValueError:  # a quote that nobody closed: no command of ours
        return []
