"""A page of every part, for the tests of the shared templates; `/sample` of an app."""

import itertools
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from flask import Blueprint, Flask, flash, render_template
from pydantic import AfterValidator, BaseModel, Field

from foundation.db.pagination import Sort
from foundation.errors import Advice
from foundation.pages import forms
from foundation.pages.charts import Chart, Series
from foundation.pages.guards import signed_in
from foundation.pages.site import Site, attach_site

# A hostile name.
TEXT = 'Été <script>alert(1)</script> & "ß" عربي \u202eخلط\u202c 漢字 ' + "x" * 300
TONES = ("good", "wait", "warn", "bad", "calm")
_STEPS = [f"{hour:02}:00" for hour in range(24)]
_times = itertools.count(1)


def _checked(title: str) -> str:
    if title == "no":
        raise ValueError("a title is not a no")
    return title


def add_sample_page(app: Flask) -> None:
    sample_page = Blueprint(
        "sample_page", __name__, template_folder=str(Path(__file__).parent / "templates")
    )
    sample_page.add_url_rule("/sample", view_func=signed_in(show))
    sample_page.add_url_rule("/sample/now", view_func=signed_in(now))
    sample_page.add_url_rule("/sample/broken", view_func=signed_in(broken))
    sample_page.add_url_rule("/sample/form", view_func=signed_in(form), methods=["POST"])
    site: Site = app.extensions["pages"]
    attach_site(app, replace(site, pages=(*site.pages, sample_page)))
    app.register_blueprint(sample_page)


def show() -> str:
    flash("It is done.")
    flash("It is not done.", "error")
    bars = [
        Series(tone, tone, [(3 * i + j) % 7 for i in range(24)]) for j, tone in enumerate(TONES)
    ]
    curve = [math.nan if hour == 12 else 40 + 30 * math.sin(hour / 3) for hour in range(24)]
    return render_template(
        "sample_page.html",
        text=TEXT,
        tones=TONES,
        at=datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC),
        recent=datetime.now(UTC) - timedelta(hours=2, minutes=5),
        sort=Sort("number", (), descending=True),
        bars=Chart("bars", "Deliveries by hour", _STEPS, bars, stacked=True),
        lines=Chart(
            "lines",
            "Milliseconds by hour",
            _STEPS,
            [Series("median", "wait", curve), Series("95 of 100", "warn", [2 * y for y in curve])],
        ),
    )


def now() -> str:
    """Return another text for each request."""
    return f'<p id="now">look {next(_times)}</p>'


class Given(BaseModel):
    title: Annotated[str, Field(min_length=1, max_length=10), AfterValidator(_checked)]


def form() -> str:
    return forms.require_valid(forms.parse_form(Given), advice=Advice("Go back.")).title


def broken() -> str:
    raise LookupError("a planted inner detail")
