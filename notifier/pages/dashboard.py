"""The overview: what needs attention, the backlog, the last day."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from flask import Blueprint, flash, g, redirect, render_template, url_for
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.wrappers import Response

from foundation import logging
from foundation.db import session as db
from foundation.errors import Advice
from foundation.pages import charts, forms
from foundation.pages.charts import Chart, Series
from foundation.pages.filters import milliseconds
from foundation.pages.guards import signed_in
from foundation.text import count
from notifier import services
from notifier.models import DeliveryStatus
from notifier.monitoring import dashboard as core
from notifier.monitoring import doctor, endpoint_status
from notifier.monitoring.dashboard import Hour
from notifier.monitoring.endpoint_status import EndpointSummary
from notifier.pages.labels import TONES
from notifier.pages.params import NUMBER
from notifier.webhooks import delivery_queries, failure_advice
from notifier.webhooks import replay as replays

overview = Blueprint("overview", __name__, template_folder="templates")
_log = logging.get_logger(__name__)

MAX_REPLAYED = 1000
"""The limit of dead letters that are replayed at once."""
_MILLISECOND = timedelta(milliseconds=1)


class DeadLetterForm(BaseModel):
    """The dead letters of an endpoint with one reason."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint_id: NUMBER
    reason: Annotated[str, Field(max_length=10_000)]


@overview.get("/")
@signed_in
def show() -> str:
    """Show what needs attention, the backlog and the last day."""
    return render_template("notifier/overview.html", **_facts())


@overview.get("/overview/live")
@signed_in
def live() -> str:
    """Show the current content of the overview."""
    return render_template("notifier/overview_now.html", **_facts())


@overview.post("/overview/replay")
@signed_in
def replay() -> Response:
    """Replay the dead letters of an endpoint with one reason."""
    advice = Advice("Go back to the overview and choose them there.")
    form = forms.require_valid(forms.parse_form(DeadLetterForm), advice=advice)
    with services.current().database.writing() as session:
        now = db.now(session)
        dead = core.dead_ids(session, form.endpoint_id, form.reason, limit=MAX_REPLAYED, now=now)
        by = f"{g.person.name} on the pages"
        ids = replays.replay(session, dead, by=by, now=now, statuses={DeliveryStatus.DEAD})
    _log.info(
        "deliveries replayed", count=len(ids), endpoint_id=form.endpoint_id, user=g.person.name
    )
    flash(f"{count(len(ids), 'delivery', 'deliveries')} queued for replay.")
    return redirect(url_for("overview.show"), 303)


def _facts() -> dict[str, Any]:
    here = services.current()
    findings = doctor.examine(here.database, here.vault)
    with here.database.reading() as session:
        now = db.now(session)
        oldest_due_at = delivery_queries.oldest_due_at(session, now=now)
        reports = endpoint_status.read(session)
        hours = core.day(session, now=now)
        letters = core.dead_letters(session, now=now)
    endpoints_to_fix = [one for one in reports if doctor.needs_attention(one.endpoint)]
    return {
        "now": now,
        "findings": findings,
        "needs": [finding for finding in findings if not finding.ok],
        "endpoints_to_fix": endpoints_to_fix,
        "failing": [one for one in reports if one.is_failing and one not in endpoints_to_fix],
        "untried": [one for one in reports if _is_untried(one) and one not in endpoints_to_fix],
        "letters": letters,
        "reports": reports,
        "counts": _counts(reports),
        "oldest_due_at": oldest_due_at,
        "delivered": sum(hour.delivered for hour in hours),
        "delays": _delays(hours),
        "charts": _charts(hours),
        "max_replayed": MAX_REPLAYED,
        "advice_for": failure_advice.advice_for,
        "tones": TONES,
    }


def _counts(reports: Sequence[EndpointSummary]) -> list[tuple[DeliveryStatus, int]]:
    """Return the open deliveries by status; summed, because counting a backlog is slow."""
    return [
        (DeliveryStatus.PENDING, sum(report.pending for report in reports)),
        (DeliveryStatus.HELD, sum(report.held for report in reports)),
        (DeliveryStatus.DEAD, sum(report.dead for report in reports)),
    ]


def _is_untried(report: EndpointSummary) -> bool:
    return not report.has_answered and report.last is None


def _delays(hours: Sequence[Hour]) -> tuple[float, float] | None:
    """Return the median and 95th percentile of the latest deliveries in milliseconds, if any."""
    known = next((hour for hour in reversed(hours) if hour.delays), None)
    if known is None:
        return None
    return _percentile(known, 50), _percentile(known, 95)


def _charts(hours: Sequence[Hour]) -> list[Chart]:
    if not any(hour.delivered or hour.dead for hour in hours):
        return []
    steps = [_clock(hour.begins_at) for hour in hours]
    settled = [
        Series("delivered", "good", [hour.delivered for hour in hours]),
        Series("dead", "bad", [hour.dead for hour in hours]),
    ]
    drawn = [charts.stacked_bars("settled", "Delivered and dead", steps, settled, step_name=_STEP)]
    if any(hour.delays for hour in hours):
        spans = [
            Series("median", "wait", [_percentile(hour, 50) for hour in hours]),
            Series("95th percentile", "warn", [_percentile(hour, 95) for hour in hours]),
        ]
        title = "Time to deliver"
        drawn.append(
            charts.lines(
                "delays",
                title,
                steps,
                spans,
                step_name=_STEP,
                format_value=milliseconds,
                ticks=charts.duration_ticks,
            )
        )
    return drawn


_STEP = "Hour (UTC)"


def _clock(at: datetime) -> str:
    return f"{at:%H:%M}"


def _percentile(hour: Hour, hundredth: float) -> float:
    if not hour.delays:
        return math.nan
    return charts.percentile([delay / _MILLISECOND for delay in hour.delays], hundredth)
