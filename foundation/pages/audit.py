"""Audit: who changed what, newest first."""

from datetime import datetime
from typing import Annotated

from flask import Blueprint, Response, render_template, request
from pydantic import AfterValidator, ConfigDict

from foundation.db import audit
from foundation.db.audit import AuditFilter
from foundation.errors import Advice
from foundation.pages import downloads, forms, pagination
from foundation.pages.guards import signed_in
from foundation.pages.site import current_site
from foundation.services import Services
from foundation.web.app import takes

audit_pages = Blueprint("audit", __name__, template_folder="templates")

_CURSOR = (datetime, int)


def _check_action(text: str) -> str:
    return audit.check_action(text, current_site().actions)


class AuditParams(AuditFilter):
    """A filter from a query string."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)

    action: Annotated[str, AfterValidator(_check_action)] | None = None
    since: forms.Time | None = None
    until: forms.Until | None = None


@audit_pages.get("/audit")
@signed_in
@takes(AuditParams, *forms.CURSORS)
def listed() -> str:
    """Show the entries that match a filter."""
    params = forms.from_query(AuditParams)
    page, total = None, 0
    if isinstance(params, AuditParams):
        with Services.current().database.reading() as session:
            page = audit.find(session, params, pagination.read(request.args, _CURSOR))
            total = audit.count(session, params)
    return render_template(
        "pages/audit.html",
        faults={} if isinstance(params, AuditParams) else params,
        actions=_actions(),
        query=forms.entered(AuditFilter.model_fields),
        page=page,
        total=total,
        to_query=pagination.to_query,
    )


@audit_pages.get("/audit.csv")
@signed_in
@takes(AuditParams)
def export() -> Response:
    """Return all entries that match a filter as a CSV file."""
    params = forms.require_valid(
        forms.from_query(AuditParams), advice=Advice("Go back and change the filters.")
    )
    rows = audit.export(Services.current().database, params)
    return downloads.csv_file("audit", audit.COLUMNS, rows)


def _actions() -> list[tuple[str, str]]:
    """Return the actions as the options of a form, after those of one kind together."""
    actions = sorted(current_site().actions)
    of_kinds = [(kind, f"{kind}: all") for kind in audit.kinds(actions)]
    return [("", "Any"), *of_kinds, *((action, action) for action in actions)]
