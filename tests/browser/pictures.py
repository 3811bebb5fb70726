"""Pictures of the pages of a university that lives with both platforms: `make pictures`.

`python -m tests.browser.pictures` makes those of the README anew. With `--every FOLDER` it puts
one of every page there, light and dark, wide and narrow, to be looked at.
"""

import argparse
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, FloatRect, Page, sync_playwright
from pydantic import SecretStr

from foundation.crypto import Vault
from foundation.db.session import Database
from tests.browser import university
from tests.browser.behind_forms import WAYS
from tests.browser.conftest import NARROW, SCHEMAS, WIDE, add_ada, address_of, sign_in
from tests.browser.university import Seen
from tests.integration.services import ENCRYPTION_KEY, Served, serve

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
HEIGHT = 800
COLOURS = 256
"""So many colours are enough for a page, and make its picture less than half as large."""


@dataclass(frozen=True)
class Shot:
    """One picture: of which page of which service, and how high it may be."""

    service: str
    path: str
    height: int = HEIGHT
    scheme: str = "light"


@dataclass(frozen=True)
class House:
    """Both services as they are served, and of what there is something to see."""

    served: Mapping[str, Served]
    seen: Seen


README: Mapping[str, Callable[[House], Shot]] = {
    "overview": lambda _: Shot("notifier", "/", 1040),
    "course": lambda house: Shot("notifier", f"/courses/one?course_id={house.seen.deleted}", 700),
    "delivery": lambda house: Shot("notifier", f"/deliveries/{house.seen.waited}", 960),
    "registry": lambda _: Shot("receiver", "/?status=token_invalid", 760),
    "runs": lambda _: Shot("receiver", "/runs", 820, "dark"),
}
"""The pictures of the README, by their names."""


def of_every_page(house: House) -> Mapping[str, Shot]:
    """Return every page of both services, by a name."""
    pages = {
        "notifier": {
            "overview": "/",
            "courses": "/courses",
            "courses-none": "/courses?q=zzz",
            "course": f"/courses/one?course_id={house.seen.renewed}",
            "course-deleted": f"/courses/one?course_id={house.seen.deleted}",
            "course-new": "/courses/new",
            "deliveries": "/deliveries",
            "deliveries-dead": "/deliveries?status=dead",
            "deliveries-fault": "/deliveries?since=yesterday",
            "delivery": f"/deliveries/{house.seen.waited}",
            "delivery-dead": f"/deliveries/{house.seen.dead}",
            "replay": "/deliveries/replay?status=dead",
            "endpoints": "/endpoints",
            "endpoint-well": "/endpoints/1",
            "endpoint-paused": "/endpoints/2",
            "endpoint-new": "/endpoints/new",
            "refused": "/courses/one?course_id=NONE",
            "docs": "/docs",
        },
        "receiver": {
            "registry": "/",
            "registry-tokens": "/?status=token_invalid",
            "registry-none": "/?begins=zzz",
            "entry": f"/entries/{house.seen.entries[house.seen.active]}",
            "entry-token": f"/entries/{house.seen.entries[house.seen.renewed]}",
            "entry-deleted": f"/entries/{house.seen.entries[house.seen.deleted]}",
            "entry-new": "/entries/new",
            "runs": "/runs",
            "run": "/runs/96",
            "run-failed": "/runs/71",
            "inbox": "/inbox",
            "sources": "/sources",
            "refused": "/entries/9999",
            "docs": "/docs",
        },
    }
    return {
        f"{service}-{name}": Shot(service, path)
        for service, paths in pages.items()
        for name, path in paths.items()
    }


@contextmanager
def furnished(folder: Path, library_ill_for: timedelta) -> Iterator[House]:
    """Serve both platforms of a university, with its last day in their databases."""
    urls = {name: f"sqlite:///{folder / name}.db" for name in SCHEMAS}
    for name, schema in SCHEMAS.items():
        database = Database(urls[name])
        schema.upgrade(database)
        database.dispose()
        add_ada(urls[name])
    vault = Vault(SecretStr(ENCRYPTION_KEY))
    seen = university.furnish(
        urls["notifier"],
        urls["receiver"],
        vault,
        library_ill_for=library_ill_for,
        now=datetime.now(UTC),
    )
    with ExitStack() as running:
        served = {}
        for name, schema in SCHEMAS.items():
            served[name] = serve(name, schema, urls[name], folder)
            running.callback(served[name].stop)
        yield House(served, seen)


def go(page: Page, house: House, service: str, path: str) -> None:
    """Be at a page of a service."""
    page.goto(f"{address_of(house.served[service])}{path}")


def take(page: Page, most: int | None = None) -> bytes:
    """Return a picture of the page one is at, so many pixels high at the most."""
    page.wait_for_load_state("networkidle")
    size = page.evaluate("document.documentElement.scrollHeight")
    width = page.viewport_size["width"] if page.viewport_size else WIDE
    clip: FloatRect = {"x": 0, "y": 0, "width": width, "height": min(size, most or size)}
    return page.screenshot(full_page=True, clip=clip, animations="disabled")


def _small(png: bytes) -> bytes:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    written = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return written.getvalue()


def make(browser: Browser, house: House, into: Path) -> None:
    """Make the README's pictures anew."""
    into.mkdir(parents=True, exist_ok=True)
    for name, of in README.items():
        shot = of(house)
        with _signed_in(browser, house, shot.scheme, WIDE) as page:
            go(page, house, shot.service, shot.path)
            picture = _small(take(page, shot.height))
        (into / f"{name}.png").write_bytes(picture)
        print(f"{name}.png: {len(picture) / 1000:.0f} kB")


def make_every(browser: Browser, house: House, into: Path) -> None:
    """Make a picture of the whole of every page, light and dark, wide and narrow.

    Those behind a form too: what it asks, what it shows once, and what it says to what is wrong.
    """
    into.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        for width in (WIDE, NARROW):
            with _signed_in(browser, house, scheme, width) as page:
                for name in _walk(page, house):
                    (into / f"{name}-{scheme}-{width}.png").write_bytes(take(page))


def _walk(page: Page, house: House) -> Iterator[str]:
    """Be at one page after the other, and tell its name."""
    for name, shot in of_every_page(house).items():
        go(page, house, shot.service, shot.path)
        yield name
    for name, way in WAYS.items():
        go(page, house, way.service, way.begins(house.seen))
        way.steps(page, house.seen)
        yield name
    page.context.clear_cookies()
    go(page, house, "notifier", "/")
    yield "sign-in"
    for box in (page.get_by_label("Name"), page.get_by_label("Password")):
        box.fill("nobody")
    page.get_by_role("button", name="Sign in").click()
    yield "sign-in-refused"


@contextmanager
def _signed_in(browser: Browser, house: House, scheme: str, width: int) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": width, "height": HEIGHT},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
        timezone_id="Europe/London",
    )
    page = context.new_page()
    for served in house.served.values():
        sign_in(page, address_of(served))
    yield page
    context.close()


def main() -> None:
    """Make the pictures that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.pictures")
    parser.add_argument("--every", type=Path, metavar="FOLDER", help="every page, into a folder")
    asked = parser.parse_args()
    ill_for = timedelta(minutes=45 if asked.every else 0)  # so that its endpoint is paused
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=shutil.which("chromium")) as browser,
        furnished(Path(folder), ill_for) as house,
    ):
        if asked.every:
            make_every(browser, house, asked.every)
        else:
            make(browser, house, FOLDER)


if __name__ == "__main__":
    main()
