"""Audit: who changed what, newest first."""

from datetime import UTC, datetime
from typing import Annotated

from flask import Blueprint, render_template, request
from pydantic import BeforeValidator, ConfigDict

from foundation.db import audit
from foundation.db.audit import AuditFilter
from foundation.pages import forms, pagination
from foundation.pages.guards import signed_in
from foundation.services import Services
from foundation.text import parse_since

audit_pages = Blueprint("audit", __name__, template_folder="templates")

_CURSOR = (datetime, int)


def _parse_since(text: object) -> datetime:
    return parse_since(str(text), now=datetime.now(UTC))


class AuditParams(AuditFilter):
    """A filter from a query string."""

    model_config = ConfigDict(extra="ignore", frozen=True, str_strip_whitespace=True)

    since: Annotated[datetime, BeforeValidator(_parse_since)] | None = None


@audit_pages.get("/audit")
@signed_in
def listed() -> str:
    """Show the entries that match a filter."""
    params = forms.from_query(AuditParams)
    page = None
    if isinstance(params, AuditParams):
        with Services.current().database.reading() as session:
            page = audit.find(session, params, pagination.read(request.args, _CURSOR))
    # As they were entered, so that "2h" stays relative.
    entered = {name: request.args.get(name, "") for name in AuditFilter.model_fields}
    return render_template(
        "pages/audit.html",
        faults={} if isinstance(params, AuditParams) else params,
        entered=entered,
        query={name: value for name, value in entered.items() if value.strip()},
        page=page,
        to_query=pagination.to_query,
    )
