"""What the pages of a service stand on: its name, its places, its database."""

from dataclasses import dataclass

from flask import Flask, current_app
from markupsafe import Markup

from foundation.db.session import Database
from foundation.pages import ways
from foundation.pages.ways import Way

_KEY = "pages"
ASSETS = "assets"
"""The blueprint of what pages load."""


@dataclass(frozen=True)
class Place:
    """Where the navigation leads: a view, what it is called, and which other pages are there."""

    endpoint: str
    name: str
    others: tuple[str, ...] = ()

    def holds(self, blueprint: str | None) -> bool:
        """Tell whether the pages of a blueprint are at this place."""
        return blueprint in {self.endpoint.partition(".")[0], *self.others}


@dataclass(frozen=True)
class Site:
    """What people call the service, how its command is named, and where its pages are.

    `ways` are the pages that stand for a command in an advice.
    """

    name: str
    command: str
    places: tuple[Place, ...]
    ways: tuple[Way, ...] = ()

    def spoken(self, text: str, about: str | None = None) -> Markup:
        """Return an advice with links to its pages; `about` is the page of what it is about."""
        return ways.spoken(text, self.command, self.ways, about)


@dataclass(frozen=True)
class Ground:
    """A site with the database of its users, and the blueprints whose answers are pages."""

    site: Site
    database: Database
    blueprints: frozenset[str]


def lay(app: Flask, ground: Ground) -> None:
    """Give an app the ground of its pages."""
    app.extensions[_KEY] = ground


def current() -> Ground:
    """Return the ground of the app that is at work."""
    ground: Ground = current_app.extensions[_KEY]
    return ground


def holds(app: Flask, endpoint: str) -> bool:
    """Tell whether a view is one of an app's pages, or of what they load."""
    ground: Ground | None = app.extensions.get(_KEY)
    blueprint = endpoint.rpartition(".")[0]
    return ground is not None and blueprint in ground.blueprints | {ASSETS}
