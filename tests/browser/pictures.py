"""The screenshots in docs/pictures: `make pictures` takes them again."""

import io
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.browser import university
from tests.browser.conftest import WIDE, sign_in
from tests.browser.university import University

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
# Enough for a page; the file is less than half as large.
COLOURS = 256


@dataclass(frozen=True)
class Shot:
    """A page of a service, and the height of its picture in pixels."""

    service: str
    path: str
    height: int
    is_dark: bool = False


PICTURES: Mapping[str, Callable[[University], Shot]] = {
    "overview": lambda _: Shot("notifier", "/", 1040),
    "course": lambda seen: Shot("notifier", f"/courses/one?course_id={seen.deleted}", 700),
    "delivery": lambda seen: Shot("notifier", f"/deliveries/{seen.retried}", 960),
    "registry": lambda _: Shot("receiver", "/?status=token_invalid", 760),
    "runs": lambda _: Shot("receiver", "/runs", 820, is_dark=True),
}


def take(browser: Browser, address: str, shot: Shot) -> bytes:
    """Return the picture of a page as PNG."""
    page = browser.new_page(
        viewport={"width": WIDE, "height": shot.height},
        color_scheme="dark" if shot.is_dark else "light",
        timezone_id="Europe/London",
    )
    sign_in(page, address)
    page.goto(f"{address}{shot.path}")
    page.wait_for_load_state("networkidle")
    image = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    page.close()
    written = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return written.getvalue()


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=shutil.which("chromium")) as browser,
        university.running(Path(folder)) as seen,
    ):
        for name, shot_of in PICTURES.items():
            shot = shot_of(seen)
            picture = take(browser, seen.addresses[shot.service], shot)
            (FOLDER / f"{name}.png").write_bytes(picture)
            print(f"{name}.png: {len(picture) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
