"""The pages of eAssessment: navigation, colours, and which page does what an advice names."""

from flask import url_for

from foundation.errors import Advice
from foundation.pages.audit import audit_pages
from foundation.pages.site import Link, NavItem, Site
from notifier.models import ACTIONS, DeliveryStatus
from notifier.monitoring.endpoint_status import EndpointStatus
from notifier.pages.course_deletion import course_deletion
from notifier.pages.course_import import course_import
from notifier.pages.course_selection import course_selection
from notifier.pages.courses import courses
from notifier.pages.deliveries import deliveries
from notifier.pages.endpoint_secrets import endpoint_secrets
from notifier.pages.endpoints import endpoints
from notifier.pages.overview import overview
from notifier.pages.token_regeneration import token_regeneration
from notifier.webhooks import failure_advice

# The colours of statuses and states.
TONES = {
    DeliveryStatus.PENDING: "wait",
    DeliveryStatus.DELIVERED: "good",
    DeliveryStatus.DEAD: "bad",
    DeliveryStatus.HELD: "warn",
    DeliveryStatus.CANCELLED: "calm",
    EndpointStatus.ENABLED: "good",
    EndpointStatus.FAILING: "warn",
    EndpointStatus.PAUSED: "warn",
    EndpointStatus.DISABLED: "bad",
    EndpointStatus.REMOVED: "calm",
}

# The decision after an attempt: its colour and its meaning.
DECISIONS = {
    "delivered": ("good", "delivered"),
    "retry": ("warn", "retry scheduled"),
    "dead": ("bad", "failed permanently"),
    "disable": ("bad", "endpoint disabled, deliveries held"),
    "too late": ("calm", "ignored: another attempt or a replay was first"),
}


def link_for(advice: Advice, about: str | None = None) -> Link | None:
    """Return the link to the page where an advice's action is done, or None if there is none.

    `about` is the name of the endpoint if it has one; "" on its own page.
    """
    match (advice.action or "").split(), advice.args:
        case ["courses", _], _:
            return Link("Courses", url_for("courses.listed"))
        case ["endpoints", "add"], _:
            return Link("Add an endpoint", url_for("endpoint_secrets.new"))
        case ["endpoints", _], [number] if number.isdecimal():
            url = url_for("endpoints.show", endpoint_id=int(number))
            return Link(about or f"Endpoint {number}", "" if about == "" else url)
        case ["endpoints", _], _:
            return Link("Endpoints", url_for("endpoints.listed"))
        case ["deliveries", "replay"], ["--status", status]:
            return Link("Replay", url_for("deliveries.preview_replay", status=status))
        case ["deliveries", _], _:
            return Link("Deliveries", url_for("deliveries.listed"))
        case _:
            return None


def url_of(kind: str, object_id: str) -> str | None:
    """Return the URL of the page of a course, an endpoint or a delivery."""
    match kind:
        case "course":
            return url_for("courses.show", course_id=object_id)
        case "endpoint" if object_id:
            return url_for("endpoints.show", endpoint_id=int(object_id))
        case "delivery" if object_id:
            return url_for("deliveries.show", delivery_id=int(object_id))
        case _:
            return None


SITE = Site(
    "eAssessment",
    "notifier",
    (
        NavItem("overview.show", "Overview"),
        NavItem(
            "courses.listed",
            "Courses",
            ("course_selection", "course_deletion", "token_regeneration", "course_import"),
        ),
        NavItem("deliveries.listed", "Deliveries"),
        NavItem("endpoints.listed", "Endpoints", ("endpoint_secrets",)),
        NavItem("audit.listed", "Audit"),
    ),
    (
        overview,
        courses,
        course_selection,
        course_deletion,
        token_regeneration,
        course_import,
        deliveries,
        endpoints,
        endpoint_secrets,
        audit_pages,
    ),
    ACTIONS,
    link_for,
    url_of,
    {
        "tones": TONES,
        "decisions": DECISIONS,
        "advice_for": failure_advice.advice_for,
        "attempt_advice": failure_advice.of_attempt,
    },
)
