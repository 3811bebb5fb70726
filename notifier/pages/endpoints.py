"""Endpoints: the list, one of them, and its actions."""

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeVar

from flask import Blueprint, flash, g, redirect, render_template, url_for
from markupsafe import Markup, escape
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from werkzeug.wrappers import Response

from contract.events import EVENT_TYPES
from foundation import logging
from foundation.db import audit
from foundation.db import session as db
from foundation.errors import Advice, DecryptionError
from foundation.pages import charts, downloads, forms
from foundation.pages.charts import Chart, Series, Sparkline
from foundation.pages.error_pages import render_refusal
from foundation.pages.filters import milliseconds
from foundation.pages.guards import signed_in
from foundation.pages.sessions import actor
from foundation.pages.site import current_site
from foundation.text import count
from foundation.web.app import takes
from notifier import services
from notifier.errors import EndpointDisabledError
from notifier.models import MAX_ID, MAX_NAME
from notifier.monitoring import endpoint_summary, statistics
from notifier.monitoring.statistics import ResponseTime
from notifier.pages.params import TYPES
from notifier.webhooks import endpoints as core
from notifier.webhooks import failure_advice
from notifier.webhooks.receiver_probes import DESCRIPTIONS
from notifier.webhooks.retry_policy import Failure, WebhookResponse
from notifier.worker.ping import check_receiver, send_ping

endpoints = Blueprint("endpoints", __name__, template_folder="templates")
_log = logging.get_logger(__name__)
_Model = TypeVar("_Model", bound=BaseModel)

# How many characters of a failure a message shows; the page has all of it.
_BRIEF = 200
ENDPOINT = f"/endpoints/<int(max={MAX_ID}):endpoint_id>"
"""The path of one endpoint's page."""
OVERLAPS = {
    "24h": ("24 hours", timedelta(hours=24)),
    "1h": ("1 hour", timedelta(hours=1)),
    "7d": ("7 days", timedelta(days=7)),
    "none": ("not at all (it has leaked)", timedelta(0)),
}
"""How long the old secret stays valid after a rotation; the first is the default."""


def _check_types(types: list[str]) -> list[str]:
    if not types:
        raise ValueError("Choose at least one event type.")
    if not set(types) <= set(TYPES):
        raise ValueError("choose from the listed event types")
    return types


Name = Annotated[str, Field(max_length=MAX_NAME)]
"""The name of an endpoint."""


class EventTypes(forms.Form):
    """The event types that an endpoint subscribes to."""

    event_types: Annotated[list[str], AfterValidator(_check_types)] = Field(
        [], validate_default=True
    )

    def chosen(self) -> list[str] | None:
        """Return the types for the core: None for all course events, including future types."""
        return None if set(self.event_types) == set(EVENT_TYPES) else self.event_types


class EndpointParams(BaseModel):
    """Whether removed endpoints are listed too."""

    model_config = ConfigDict(frozen=True)

    removed: bool = False


class UrlForm(forms.Form):
    """The URL that an endpoint should have."""

    model_config = ConfigDict(str_strip_whitespace=True)

    url: str


class NameForm(forms.Form):
    """The name that an endpoint should have."""

    model_config = ConfigDict(str_strip_whitespace=True)

    name: Name = ""


class ClaimsForm(forms.Form):
    """Whether an endpoint may claim tokens."""

    allowed: Literal["on", "off"]


class DisableForm(forms.Form):
    """Why an endpoint is disabled."""

    reason: Annotated[str, Field(max_length=1000)] = ""


@endpoints.get("/endpoints")
@signed_in
@takes(EndpointParams)
def listed() -> str:
    """Show every endpoint with its state and its open deliveries."""
    return render_template("notifier/endpoints.html", **_find(_params()))


@endpoints.get("/endpoints.csv")
@signed_in
@takes(EndpointParams)
def export() -> Response:
    """Return the endpoints as a CSV file."""
    params = _params()
    with services.current().database.reading() as session:
        rows = endpoint_summary.export(session, removed=params.removed)
    return downloads.csv_file("endpoints", endpoint_summary.COLUMNS, [rows])


@endpoints.get("/endpoints/live")
@signed_in
@takes(EndpointParams)
def live() -> str:
    """Show the current list."""
    return render_template("notifier/endpoints_list.html", **_find(_params()))


@endpoints.get(ENDPOINT)
@signed_in
def show(endpoint_id: int) -> str:
    """Show an endpoint and its actions."""
    facts = endpoint_details(endpoint_id)
    with services.current().database.reading() as session:
        changes = audit.about(session, "endpoint", endpoint_id)
    return render_template(
        "notifier/endpoint.html",
        overlaps=[(value, word) for value, (word, _) in OVERLAPS.items()],
        types=EVENT_TYPE_CHOICES,
        chosen=facts["row"].event_types or EVENT_TYPES,
        changes=changes,
        **facts,
    )


@endpoints.get(f"{ENDPOINT}/live")
@signed_in
def live_one(endpoint_id: int) -> str:
    """Show the current status of an endpoint."""
    return render_template("notifier/endpoint_status.html", **endpoint_details(endpoint_id))


@endpoints.post(f"{ENDPOINT}/ping")
@signed_in
def ping(endpoint_id: int) -> Response:
    """Send a signed test and redirect to the endpoint."""
    try:
        result = send_ping(services.current(), endpoint_id)
    except (EndpointDisabledError, DecryptionError) as refusal:
        flash(Markup("No test was sent: {}").format(render_refusal(refusal)), "error")
        return _to(endpoint_id)
    _log.info(
        "endpoint tested",
        endpoint_id=endpoint_id,
        accepted=result.accepted,
        user=g.current_user.name,
    )
    match result.result:
        case WebhookResponse(status=status) if result.accepted:
            flash(f"Test OK: {status}.{_due(result.due)}")
        case WebhookResponse(status=status):
            flash(f"Test failed: {status}.", "error")
        case failure:
            flash(escape(f"Test failed: {failure.detail[:_BRIEF]}."), "error")
    return _to(endpoint_id)


@endpoints.post(f"{ENDPOINT}/check")
@signed_in
def check(endpoint_id: int) -> str | Response:
    """Check that the receiver of an endpoint verifies webhooks, and show what was found once."""
    try:
        result = check_receiver(services.current(), endpoint_id)
    except (EndpointDisabledError, DecryptionError) as refusal:
        flash(Markup("No ping was sent: {}").format(render_refusal(refusal)), "error")
        return _to(endpoint_id)
    codes = [finding.code for finding in result.findings]
    _log.info("receiver checked", endpoint_id=endpoint_id, findings=codes, user=g.current_user.name)
    facts = endpoint_details(endpoint_id)
    return render_template(
        "notifier/endpoint_check.html", check=result, descriptions=DESCRIPTIONS, **facts
    )


@endpoints.post(f"{ENDPOINT}/try")
@signed_in
def try_now(endpoint_id: int) -> Response:
    """End an endpoint's pause, so that a worker retries its deliveries now."""
    with services.current().writing() as (session, now):
        due = core.try_now(session, endpoint_id, now=now)
        audit.record(session, actor(), "endpoint.retry", endpoint_id, now=now)
    message = "A worker retries it now, and sends the rest if the first delivery is accepted."
    return _done(endpoint_id, "endpoint retried", f"{message}{_due(due)}", due=due)


@endpoints.post(f"{ENDPOINT}/disable")
@signed_in
def disable(endpoint_id: int) -> Response:
    """Stop sending to an endpoint and hold its pending deliveries."""
    form = read(DisableForm)
    reason = form.reason.strip() or "disabled by hand"
    with services.current().writing() as (session, now):
        core.disable(session, endpoint_id, reason, by=_by(), now=now)
        audit.record(session, actor(), "endpoint.disable", endpoint_id, form.reason, now=now)
    message = "Endpoint disabled. Its deliveries are held until it is enabled."
    return _done(endpoint_id, "endpoint disabled", message, reason=reason)


@endpoints.post(f"{ENDPOINT}/enable")
@signed_in
def enable(endpoint_id: int) -> Response:
    """Enable an endpoint and queue its held deliveries."""
    with services.current().writing() as (session, now):
        _, released = core.enable(session, endpoint_id, now=now)
        audit.record(session, actor(), "endpoint.enable", endpoint_id, now=now)
    held = count(released, "held delivery", "held deliveries")
    message = f"Endpoint enabled; {held} queued."
    return _done(endpoint_id, "endpoint enabled", message, released=released)


@endpoints.post(f"{ENDPOINT}/remove")
@signed_in
def remove(endpoint_id: int) -> Response:
    """Remove an endpoint and cancel its open deliveries."""
    with services.current().writing() as (session, now):
        cancelled = core.remove(session, endpoint_id, by=_by(), now=now)
        audit.record(session, actor(), "endpoint.remove", endpoint_id, now=now)
    deliveries = count(cancelled, "delivery was", "deliveries were")
    message = f"Endpoint removed; {deliveries} cancelled."
    return _done(endpoint_id, "endpoint removed", message, cancelled=cancelled)


@endpoints.post(f"{ENDPOINT}/url")
@signed_in
def correct_url(endpoint_id: int) -> Response:
    """Correct the URL of an endpoint that has accepted no delivery."""
    form = read(UrlForm)
    current = services.current()
    with current.writing() as (session, now):
        due = core.correct_url(
            session, endpoint_id, form.url, guard=current.settings.guard, now=now
        )
        url = core.get(session, endpoint_id).url
        audit.record(session, actor(), "endpoint.correct-url", endpoint_id, url, now=now)
    flash_warning(current.check_host(url), endpoint_id, about="")
    return _done(endpoint_id, "endpoint's URL corrected", f"URL changed. Send a test.{_due(due)}")


@endpoints.post(f"{ENDPOINT}/name")
@signed_in
def set_name(endpoint_id: int) -> Response:
    """Change the name of an endpoint."""
    form = read(NameForm)
    with services.current().writing() as (session, now):
        core.set_name(session, endpoint_id, form.name)
        audit.record(session, actor(), "endpoint.set-name", endpoint_id, form.name, now=now)
    return _done(endpoint_id, "endpoint named", "Name saved.")


@endpoints.post(f"{ENDPOINT}/token-claims")
@signed_in
def set_token_claims(endpoint_id: int) -> Response:
    """Allow an endpoint to claim new course tokens, or forbid it."""
    allowed = read(ClaimsForm).allowed
    with services.current().writing() as (session, now):
        core.set_token_claims(session, endpoint_id, allowed=allowed == "on")
        audit.record(session, actor(), "endpoint.set-token-claims", endpoint_id, allowed, now=now)
    return _done(endpoint_id, "token claims set", f"Token claims are {allowed}.", allowed=allowed)


@endpoints.post(f"{ENDPOINT}/types")
@signed_in
def set_event_types(endpoint_id: int) -> Response:
    """Change the event types of an endpoint."""
    form = read(EventTypes, lists={"event_types"})
    types = form.event_types
    with services.current().writing() as (session, now):
        core.set_event_types(session, endpoint_id, form.chosen())
        audit.record(
            session, actor(), "endpoint.set-event-types", endpoint_id, ", ".join(types), now=now
        )
    return _done(endpoint_id, "event types chosen", "Event types saved.", event_types=types)


def _params() -> EndpointParams:
    return forms.require_valid(
        forms.from_query(EndpointParams), advice=Advice("Go back to the endpoints.")
    )


def _find(params: EndpointParams) -> dict[str, Any]:
    with services.current().database.reading() as session:
        every, now = endpoint_summary.read(session, removed=True), db.now(session)
        times = statistics.response_times(session, [one.endpoint.id for one in every])
    present = [summary for summary in every if not summary.endpoint.removed_at]
    return {
        "summaries": every if params.removed else present,
        "removed": params.removed,
        "removed_count": len(every) - len(present),
        "sparklines": sparklines(times),
        "query": forms.entered(EndpointParams.model_fields),
        "now": now,
    }


def sparklines(times: Mapping[int, Sequence[ResponseTime]]) -> dict[int, Sparkline]:
    """Return the response times of each endpoint that has several, as a small line."""
    return {
        endpoint_id: Sparkline(
            _describe(found),
            [one.milliseconds for one in found],
            [not one.accepted for one in found],
        )
        for endpoint_id, found in times.items()
        if len(found) > 1
    }


def _describe(found: Sequence[ResponseTime]) -> str:
    times = [one.milliseconds for one in found]
    failed = sum(not one.accepted for one in found)
    return (
        f"Response times of the last {len(found)} attempts: "
        f"median {milliseconds(charts.percentile(times, 50))}, longest {milliseconds(max(times))}"
        f"{f', {failed} failed' if failed else ''}"
    )


def _chart(found: Sequence[ResponseTime]) -> Chart | None:
    """Return the chart of an endpoint's response times, if there are several."""
    if len(found) < 2:
        return None
    accepted = [one.milliseconds if one.accepted else math.nan for one in found]
    failed = [math.nan if one.accepted else one.milliseconds for one in found]
    series = [
        Series("accepted", "wait", accepted, joined="all"),
        Series("failed", "bad", failed, joined="none"),
    ]
    return Chart(
        "responses",
        f"Response times of the last {len(found)} attempts",
        [f"{one.started_at:%d %b %Y, %H:%M:%S}" for one in found],
        [one for one in series if one.known],
        step_name="Started (UTC)",
        format_value=milliseconds,
        logarithmic=True,
        note="The scale is logarithmic.",
        labels=[f"{one.started_at:%H:%M}\n{one.started_at:%d %b}" for one in found],
    )


def endpoint_details(endpoint_id: int) -> dict[str, Any]:
    """Return what the pages of one endpoint show."""
    with services.current().database.reading() as session:
        summary = endpoint_summary.read_one(session, endpoint_id)
        secrets = core.secrets_of(session, endpoint_id)
        times = statistics.response_times(session, [endpoint_id])
        now = db.now(session)
    return {
        "summary": summary,
        "row": summary.endpoint,
        "chart": _chart(times.get(endpoint_id, [])),
        "secrets": [one for one in secrets if one.expires_at is None or one.expires_at > now],
        "now": now,
    }


_DESCRIPTIONS = {
    "course.deleted": "a course was deleted",
    "course.restored": "the deletion of a course was undone",
    "token.regenerated": "the token of a course was regenerated",
    "endpoint.disabled": "an endpoint was disabled (for monitoring, not for ELMS)",
    "delivery.dead": "a delivery failed permanently (for monitoring, not for ELMS)",
}
EVENT_TYPE_CHOICES = [(name, f"{name}: {_DESCRIPTIONS[name]}") for name in TYPES]
"""The event types with their descriptions."""


def read(model: type[_Model], lists: Collection[str] = ()) -> _Model:
    """Return the form as a model, or raise RequestInvalidError."""
    advice = Advice("Go back to the page of the endpoint and try again.")
    return forms.require_valid(forms.parse_form(model, lists), advice=advice)


def flash_warning(warning: Failure | None, endpoint_id: int, about: str | None = None) -> None:
    """Show that the host of an endpoint is not resolved or is blocked, if that is so.

    `about` as for the links of an advice.
    """
    if warning is not None:
        advice = failure_advice.advice_for(warning.kind, None, endpoint_id)
        flash(
            Markup("Nothing can be sent to this URL now: {}. {}").format(
                warning.detail, current_site().render_advice(advice, about) if advice else ""
            ),
            "error",
        )


def _by() -> str:
    return f"{g.current_user.name} on the pages"


def _due(number: int) -> str:
    return f" {count(number, 'waiting delivery', 'waiting deliveries')} queued." if number else ""


def _done(endpoint_id: int, event: str, message: str, **fields: Any) -> Response:
    """Log what the user did, and show it on the page of the endpoint."""
    _log.info(event, endpoint_id=endpoint_id, **fields, user=g.current_user.name)
    flash(message)
    return _to(endpoint_id)


def _to(endpoint_id: int) -> Response:
    return redirect(url_for("endpoints.show", endpoint_id=endpoint_id), 303)
