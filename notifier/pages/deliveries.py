"""Deliveries: search, show one with its attempts, replay one or all results."""

import json
from collections.abc import Iterable
from typing import Any

from flask import Blueprint, flash, g, redirect, render_template, url_for
from werkzeug.wrappers import Response

from foundation import logging
from foundation.db import session as db
from foundation.db.pagination import COUNTED
from foundation.errors import Advice
from foundation.pages import downloads, forms, redirects
from foundation.pages.guards import signed_in
from foundation.pages.sessions import actor
from foundation.text import count
from foundation.web.app import takes
from notifier import services
from notifier.errors import ReplayRefusedError
from notifier.models import MAX_ID, DeliveryStatus, Endpoint
from notifier.pages.params import TYPES, DeliveryParams, query_of
from notifier.webhooks import delivery_export, delivery_queries, endpoints, sent_headers
from notifier.webhooks import replay as replays
from notifier.webhooks.delivery_filter import DeliveryFilter
from notifier.webhooks.retry_policy import MAX_ATTEMPTS

deliveries = Blueprint("deliveries", __name__, template_folder="templates")
_log = logging.get_logger(__name__)

_DELIVERY = f"/deliveries/<int(max={MAX_ID}):delivery_id>"
_ROWS = 50
_GO_BACK = Advice("Go back to the deliveries and choose them with the form.")
MAX_REPLAYED = 1000
"""The limit of deliveries that are counted, and replayed at once."""


@deliveries.get("/deliveries")
@signed_in
@takes(DeliveryParams)
def listed() -> str:
    """Show the deliveries that match a filter."""
    query = forms.from_query(DeliveryParams)
    if isinstance(query, DeliveryParams):
        return _page(query, {})
    return _page(DeliveryParams(), query)


@deliveries.get("/deliveries.csv")
@signed_in
@takes(DeliveryParams)
def export() -> Response:
    """Return all deliveries that match a filter as a CSV file."""
    params = _params()
    rows = delivery_export.export(services.current().database, params, params.sort)
    return downloads.csv_file("deliveries", delivery_export.COLUMNS, rows)


@deliveries.get("/deliveries/live")
@signed_in
@takes(DeliveryParams)
def live() -> str:
    """Show the current list."""
    return render_template("notifier/deliveries_list.html", **_found(_params()))


@deliveries.get(_DELIVERY)
@signed_in
def show(delivery_id: int) -> str:
    """Show a delivery: its status, payload and attempts."""
    return render_template("notifier/delivery.html", **_details(delivery_id))


@deliveries.get(f"{_DELIVERY}/attempts.csv")
@signed_in
def export_attempts(delivery_id: int) -> Response:
    """Return the attempts of a delivery as a CSV file."""
    database = services.current().database
    with database.reading() as session:
        delivery_queries.get(session, delivery_id)
    rows = delivery_export.export_attempts(database, delivery_id)
    return downloads.csv_file(f"attempts-{delivery_id}", delivery_export.ATTEMPT_COLUMNS, rows)


@deliveries.get(f"{_DELIVERY}/live")
@signed_in
def live_one(delivery_id: int) -> str:
    """Show the current status of a delivery."""
    return render_template("notifier/delivery_details.html", **_details(delivery_id))


@deliveries.post(f"{_DELIVERY}/replay")
@signed_in
def replay_one(delivery_id: int) -> Response:
    """Make a delivery due now."""
    with services.current().writing() as (session, now):
        replays.replay(session, [delivery_id], by=actor(), now=now)
    _log.info("delivery replayed", delivery_id=delivery_id, user=g.current_user.name)
    flash(f"Delivery {delivery_id} is queued for replay.")
    page = redirects.referring_page() or url_for("deliveries.show", delivery_id=delivery_id)
    return redirect(page, 303)


@deliveries.get("/deliveries/replay")
@signed_in
@takes(DeliveryParams)
def preview_replay() -> str:
    """Show how many deliveries a replay by filter would send, and to which endpoints."""
    delivery_filter = _required_filter(_params())
    with services.current().database.reading() as session:
        preview = replays.preview_replay(session, delivery_filter, limit=MAX_REPLAYED + 1)
        rows = {row.id: row for row in endpoints.list_all(session, removed=True)}
    return render_template(
        "notifier/replay.html",
        query=query_of(delivery_filter),
        conditions=_describe(delivery_filter, rows),
        preview=preview,
        total=sum(preview.replayed.values()),
        rows=rows,
        max_replayed=MAX_REPLAYED,
    )


@deliveries.post("/deliveries/replay")
@signed_in
def replay() -> Response:
    """Replay up to MAX_REPLAYED of the deliveries that match a filter, oldest first."""
    delivery_filter = _required_filter(
        forms.require_valid(forms.parse_form(DeliveryParams), advice=_GO_BACK)
    )
    with services.current().writing() as (session, now):
        ids = replays.replay_found(session, delivery_filter, MAX_REPLAYED, by=actor(), now=now)
    _log.info("deliveries replayed", count=len(ids), user=g.current_user.name)
    flash(f"{count(len(ids), 'delivery', 'deliveries')} queued for replay.")
    # A replay changes the status, so a status filter would hide the replayed deliveries.
    shown = {name: value for name, value in query_of(delivery_filter).items() if name != "status"}
    return redirect(url_for("deliveries.listed", **shown), 303)


def _page(params: DeliveryParams, faults: forms.Faults) -> str:
    return render_template(
        "notifier/deliveries.html",
        faults=faults,
        types=_choices(TYPES),
        statuses=_choices(DeliveryStatus),
        **_found(params),
    )


def _choices(words: Iterable[str]) -> list[tuple[str, str]]:
    return [("", "Any"), *((str(word), str(word)) for word in words)]


def _found(params: DeliveryParams) -> dict[str, Any]:
    with services.current().database.reading() as session:
        page = delivery_queries.page(
            session, params, params.page_request, sort=params.sort, limit=_ROWS
        )
        last = delivery_queries.last_attempts(session, [row.id for row in page.rows])
        counts = delivery_queries.count_by_status(session, params, limit=COUNTED + 1)
        return {
            "params": params,
            "query": forms.entered(DeliveryParams.model_fields),
            "page": page,
            "last": last,
            "counts": counts,
            "total": counts.get(params.status) if params.status else sum(counts.values()),
            "endpoints": endpoints.list_all(session, removed=True),
            "now": db.now(session),
        }


def _details(delivery_id: int) -> dict[str, Any]:
    current = services.current()
    with current.database.reading() as session:
        row = delivery_queries.get(session, delivery_id)
        attempts = delivery_queries.attempts_of(session, delivery_id)
        replayed = delivery_queries.replays_of(session, delivery_id)
        secrets = sent_headers.signing_secrets(session, row.endpoint_id, current.vault)
        now = db.now(session)
    steps = [
        (attempt.started_at, attempt, sent_headers.headers_of(row, attempt, secrets))
        for attempt in attempts
    ]
    again = [(replay.replayed_at, replay, None) for replay in replayed]
    return {
        "row": row,
        "now": now,
        "payload": json.dumps(json.loads(row.event.body), indent=2, ensure_ascii=False),
        "curl": sent_headers.curl_command(row),
        "steps": sorted([*steps, *again], key=lambda step: step[0], reverse=True),
        "last": attempts[-1] if attempts else None,
        "max_attempts": MAX_ATTEMPTS,
        "fix_receiver": Advice("Fix the cause, most likely at the receiver."),
    }


def _params() -> DeliveryParams:
    return forms.require_valid(forms.from_query(DeliveryParams), advice=_GO_BACK)


def _required_filter(params: DeliveryParams) -> DeliveryFilter:
    if not params.conditions():
        raise ReplayRefusedError(
            "a replay needs a filter, because otherwise everything would be sent again",
            advice=Advice("Filter the deliveries, for example by the status dead."),
        )
    return params


def _describe(delivery_filter: DeliveryFilter, rows: dict[int, Endpoint]) -> list[tuple[str, Any]]:
    endpoint_id = delivery_filter.endpoint_id
    row = rows.get(endpoint_id or 0)
    endpoint = row.name or row.url if row else endpoint_id and f"number {endpoint_id}"
    conditions = (
        ("Status", delivery_filter.status or "all except delivered"),
        ("Event", delivery_filter.event_type),
        ("Endpoint", endpoint),
        ("Course", delivery_filter.course_id),
        ("Course contains", delivery_filter.matching),
        ("webhook-id", delivery_filter.webhook_id),
        ("From", delivery_filter.since),
        ("Before", delivery_filter.until),
    )
    return [(name, value) for name, value in conditions if value is not None]
