"""Secrets of endpoints: created when one is added or its secret rotated, and shown once."""

from collections.abc import Mapping, Sequence
from typing import Literal

from flask import Blueprint, g, render_template, request
from pydantic import ConfigDict

from contract.events import EVENT_TYPES
from contract.signatures import Secret
from foundation import logging
from foundation.db import audit
from foundation.pages import forms
from foundation.pages.error_pages import render_refusal
from foundation.pages.guards import signed_in
from foundation.pages.sessions import actor
from notifier import services
from notifier.errors import EndpointExistsError, EndpointUrlError
from notifier.pages.endpoints import (
    ENDPOINT,
    EVENT_TYPE_CHOICES,
    OVERLAPS,
    EventTypes,
    Name,
    endpoint_details,
    flash_warning,
    read,
)
from notifier.pages.params import NUMBER
from notifier.webhooks import endpoints as core

endpoint_secrets = Blueprint("endpoint_secrets", __name__, template_folder="templates")
_log = logging.get_logger(__name__)


class NewEndpointForm(EventTypes):
    """A URL to register, with its name and its event types."""

    model_config = ConfigDict(str_strip_whitespace=True)

    url: str
    name: Name = ""
    may_claim_tokens: Literal["on"] | None = None


class Rotation(forms.Form):
    """How long the old secret stays valid, and the newest secret that the form was made for."""

    overlap: Literal["24h", "1h", "7d", "none"]
    newest: NUMBER


@endpoint_secrets.get("/endpoints/new")
@signed_in
def new() -> str:
    """Show the form that registers a URL."""
    return _form({}, {}, EVENT_TYPES)


@endpoint_secrets.post("/endpoints/new")
@signed_in
def register() -> str | tuple[str, int]:
    """Register a URL and show its secret once."""
    form = forms.parse_form(NewEndpointForm, lists={"event_types"})
    if not isinstance(form, NewEndpointForm):
        return _refused(form)
    current = services.current()
    try:
        with current.writing() as (session, now):
            endpoint, secret = core.register(
                session,
                form.url,
                form.chosen(),
                name=form.name,
                may_claim_tokens=form.may_claim_tokens is not None,
                vault=current.vault,
                guard=current.settings.guard,
                now=now,
            )
            detail = core.describe(endpoint)
            audit.record(session, actor(), "endpoint.add", endpoint.id, detail, now=now)
    except (EndpointUrlError, EndpointExistsError) as refusal:
        return _refused({"url": render_refusal(refusal)})
    _log.info("endpoint registered", endpoint_id=endpoint.id, user=g.current_user.name)
    flash_warning(current.check_host(endpoint.url), endpoint.id)
    return _secret_page(endpoint.id, secret, is_new=True)


@endpoint_secrets.post(f"{ENDPOINT}/secret")
@signed_in
def rotate(endpoint_id: int) -> str:
    """Rotate an endpoint's secret and show the new one once.

    A form that is sent twice is refused, because there is a newer secret by then.
    """
    form = read(Rotation)
    current = services.current()
    _, overlap = OVERLAPS[form.overlap]
    with current.writing() as (session, now):
        secret = core.rotate_secret(
            session, endpoint_id, overlap=overlap, vault=current.vault, newest=form.newest, now=now
        )
        audit.record(session, actor(), "endpoint.rotate-secret", endpoint_id, now=now)
    _log.info("secret rotated", endpoint_id=endpoint_id, user=g.current_user.name)
    return _secret_page(endpoint_id, secret, is_new=False)


def _secret_page(endpoint_id: int, secret: Secret, *, is_new: bool) -> str:
    facts = endpoint_details(endpoint_id)
    return render_template("notifier/endpoint_secret.html", secret=secret, is_new=is_new, **facts)


def _form(faults: forms.Faults, given: Mapping[str, str], event_types: Sequence[str]) -> str:
    return render_template(
        "notifier/endpoint_new.html",
        faults=faults,
        given=given,
        chosen=event_types,
        types=EVENT_TYPE_CHOICES,
    )


def _refused(faults: forms.Faults) -> tuple[str, int]:
    return _form(faults, request.form, request.form.getlist("event_types")), 422
