"""The overview: what needs attention, the backlog, the last day."""

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

from flask import Blueprint, flash, g, redirect, render_template, url_for
from pydantic import Field
from werkzeug.wrappers import Response

from foundation import logging
from foundation.db import session as db
from foundation.errors import Advice
from foundation.pages import charts, forms
from foundation.pages.charts import Chart, Series
from foundation.pages.filters import milliseconds
from foundation.pages.guards import signed_in
from foundation.pages.sessions import actor
from foundation.text import count
from notifier import services
from notifier.models import DeliveryStatus
from notifier.monitoring import doctor, endpoint_summary, statistics
from notifier.monitoring.statistics import Hour
from notifier.pages.endpoints import sparklines
from notifier.pages.params import NUMBER
from notifier.webhooks import delivery_queries
from notifier.webhooks import replay as replays

overview = Blueprint("overview", __name__, template_folder="templates")
_log = logging.get_logger(__name__)

MAX_REPLAYED = 1000
"""The limit of dead deliveries that are replayed at once."""
_MILLISECOND = timedelta(milliseconds=1)
_STEP = "Hour (UTC)"


class DeadDeliveriesForm(forms.Form):
    """The dead deliveries of an endpoint with one reason."""

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
    """Replay the dead deliveries of an endpoint with one reason."""
    advice = Advice("Go back to the overview and choose them there.")
    form = forms.require_valid(forms.parse_form(DeadDeliveriesForm), advice=advice)
    with services.current().writing() as (session, now):
        dead = statistics.dead_ids(
            session, form.endpoint_id, form.reason, limit=MAX_REPLAYED, now=now
        )
        ids = replays.replay(session, dead, by=actor(), now=now, statuses={DeliveryStatus.DEAD})
    _log.info(
        "deliveries replayed",
        count=len(ids),
        endpoint_id=form.endpoint_id,
        user=g.current_user.name,
    )
    flash(f"{count(len(ids), 'delivery', 'deliveries')} queued for replay.")
    return redirect(url_for("overview.show"), 303)


def _facts() -> dict[str, Any]:
    current = services.current()
    findings = doctor.examine(current.database, current.vault)
    with current.database.reading() as session:
        now = db.now(session)
        oldest_due_at = delivery_queries.oldest_due_at(session, now=now)
        summaries = endpoint_summary.read(session)
        times = statistics.response_times(session, [one.endpoint.id for one in summaries])
        hours = statistics.day(session, now=now)
        dead = statistics.dead_deliveries(session, now=now)
    to_fix = [summary for summary in summaries if summary.needs_attention]
    others = [summary for summary in summaries if summary not in to_fix]
    return {
        "now": now,
        "findings": findings,
        "needs": [finding for finding in findings if not finding.ok],
        "endpoints_to_fix": to_fix,
        "failing": [summary for summary in others if summary.is_failing],
        "untried": [
            one for one in others if not (one.has_accepted or one.last or one.endpoint.disabled_at)
        ],
        "dead": dead,
        "summaries": summaries,
        "sparklines": sparklines(times),
        # Summed, because counting a backlog is slow.
        "counts": [
            (DeliveryStatus.PENDING, sum(summary.pending for summary in summaries)),
            (DeliveryStatus.HELD, sum(summary.held for summary in summaries)),
            (DeliveryStatus.DEAD, sum(summary.dead for summary in summaries)),
        ],
        "oldest_due_at": oldest_due_at,
        "delivered": sum(hour.delivered for hour in hours),
        "delays": _delays(hours),
        "charts": _charts(hours),
        "max_replayed": MAX_REPLAYED,
    }


def _delays(hours: Sequence[Hour]) -> tuple[float, float] | None:
    """Return the median and 95th percentile of the latest deliveries in milliseconds, if any."""
    for hour in reversed(hours):
        if hour.delays:
            return _percentile(hour, 50), _percentile(hour, 95)
    return None


def _charts(hours: Sequence[Hour]) -> list[Chart]:
    if not any(hour.delivered or hour.failed or hour.dead for hour in hours):
        return []
    steps = [f"{hour.begins_at:%H:%M}" for hour in hours]
    settled = [
        Series("delivered", "good", [hour.delivered for hour in hours]),
        Series("failed attempts", "warn", [hour.failed for hour in hours]),
        Series("dead", "bad", [hour.dead for hour in hours]),
    ]
    drawn = [
        Chart(
            "settled",
            "Deliveries and failed attempts",
            steps,
            settled,
            step_name=_STEP,
            stacked=True,
            note="A failed attempt is repeated; after the last one the delivery is dead.",
        )
    ]
    if any(hour.delays for hour in hours):
        spans = [
            Series("median", "wait", [_percentile(hour, 50) for hour in hours]),
            Series("95th percentile", "calm", [_percentile(hour, 95) for hour in hours]),
        ]
        drawn.append(
            Chart(
                "delays",
                "Time to deliver",
                steps,
                spans,
                step_name=_STEP,
                format_value=milliseconds,
                logarithmic=True,
                note="From the event to its delivery; if it was replayed, from the last replay. "
                "The scale is logarithmic.",
            )
        )
    return drawn


def _percentile(hour: Hour, hundredth: float) -> float:
    if not hour.delays:
        return math.nan
    return charts.percentile([delay / _MILLISECOND for delay in hour.delays], hundredth)
