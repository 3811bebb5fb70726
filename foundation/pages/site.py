"""The pages of one service: name, navigation and links."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, Flask, current_app
from markupsafe import Markup

from foundation.errors import Advice

_KEY = "pages"


@dataclass(frozen=True)
class NavItem:
    """A link of the navigation: a view, its label, and other blueprints that it includes."""

    endpoint: str
    label: str
    blueprints: tuple[str, ...] = ()

    def includes(self, blueprint: str | None) -> bool:
        """Return True if the pages of a blueprint belong to this link."""
        return blueprint in {self.endpoint.partition(".")[0], *self.blueprints}


@dataclass(frozen=True)
class Link:
    """A link: its text and its URL."""

    label: str
    url: str


LinkFor = Callable[[Advice, str | None], Link | None]
"""Returns the link to the page that does an advice's action, or None if there is none.

The second argument is what a template says of the subject of the advice; "" on its own page. The
URL of the link is "" if that is the page itself.
"""


@dataclass(frozen=True)
class Site:
    """A service as its pages present it.

    `command` is the name of its command line; `actions` are those of its audit table; `url_of`
    returns the URL of the page of an object by kind and id, if it has one; all its templates see
    `globals`.
    """

    name: str
    command: str
    navigation: tuple[NavItem, ...]
    pages: tuple[Blueprint, ...]
    actions: tuple[str, ...]
    link_for: LinkFor = lambda _advice, _about: None
    url_of: Callable[[str, str], str | None] = lambda _kind, _id: None
    globals: Mapping[str, Any] = field(default_factory=dict)

    @property
    def blueprints(self) -> frozenset[str]:
        """The names of the blueprints whose responses are pages."""
        return frozenset({"sign_in", *(page.name for page in self.pages)})

    def render_advice(self, advice: Advice | None, about: str | None = None) -> Markup:
        """Return an advice with a link to where its action is done, or with the command to run."""
        if advice is None:
            return Markup()
        if advice.command is None:
            return Markup.escape(advice.text)
        link = self.link_for(advice, about)
        if link is not None and not link.url:
            return Markup.escape(advice.text)
        if link is not None:
            return Markup('{} <a href="{}">{}</a>').format(advice.text, link.url, link.label)
        return Markup("{} <code>{} {}</code>").format(advice.text, self.command, advice.command)


def attach_site(app: Flask, site: Site) -> None:
    """Give an app its pages."""
    app.extensions[_KEY] = site


def current_site() -> Site:
    """Return the pages of the current app."""
    site: Site = current_app.extensions[_KEY]
    return site
