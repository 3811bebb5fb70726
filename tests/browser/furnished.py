"""An eAssessment that has seen something of everything, for those who look at its pages."""

from datetime import UTC, datetime, timedelta

from foundation.crypto import Vault
from foundation.db.session import Database
from foundation.http.ssrf import Guard
from notifier.courses import service as courses
from notifier.models import SOURCE
from notifier.webhooks import deliveries, endpoints, outbox, replay
from notifier.webhooks.deliveries import Claimed, Settlement
from notifier.webhooks.retry_policy import Dead, Delivered, RetryAt
from notifier.worker import claims
from notifier.worker.claims import ClaimLimits, EndpointLimit

RIGHT_TO_LEFT = "مقدمة في البرمجة"
ACCENTS = "Música y matemáticas: álgebra"
MARKUP = "<script>alert('course')</script><b>bold</b> & \"quoted\""
LONG = "A very long title, " * 540
TITLES = {
    "CS101-2026": "Introduction to Programming",
    "CS102-2026": RIGHT_TO_LEFT,
    "LAW300-2026": LONG,
    "MUS200-2026": ACCENTS,
    "XSS<i>100": MARKUP,
}
URL = "https://elms.example.ac.uk/webhooks/eassessment"
OTHER_URL = "https://archive.example.ac.uk/hooks/" + "very-long-path-" * 12
BEGAN = datetime.now(UTC) - timedelta(hours=2)


def furnish(url: str, vault: Vault) -> None:
    """Fill an empty database: courses of all kinds, deliveries of every status and outcome."""
    outbox.subscribe()
    database = Database(url, info={SOURCE: "eassessment"})
    now = BEGAN
    with database.writing() as session:
        for address in (URL, OTHER_URL):
            endpoints.register(session, address, vault=vault, guard=Guard(), now=now)
        for course_id, title in TITLES.items():
            courses.add_course(session, course_id, title, now=now)
        courses.ensure_course(session, "7731", "A course in a Moodle", now=now)
        for number in range(130):
            courses.add_course(session, f"BIO{number:03}-2026", f"Biology {number}", now=now)
    _regenerate(database, "CS101-2026", "CS102-2026", "XSS<i>100")
    for minute in range(5):
        _attempt(database, now + timedelta(minutes=minute))
    _delete(database, "MUS200-2026")
    with database.writing() as session:
        endpoints.disable(session, 2, "answered 410", now=now + timedelta(hours=1))
    _regenerate(database, "LAW300-2026")
    with database.writing() as session:
        replay.replay(session, [1], by="ada on the pages", now=now + timedelta(minutes=90))
    database.dispose()


def _regenerate(database: Database, *course_ids: str) -> None:
    with database.writing() as session:
        for course_id in course_ids:
            courses.regenerate_token(session, course_id, now=BEGAN)


def _delete(database: Database, course_id: str) -> None:
    with database.writing() as session:
        courses.delete_course(session, course_id, now=BEGAN + timedelta(minutes=30))


def _attempt(database: Database, now: datetime) -> None:
    """Attempt what is due, each delivery with an outcome of its own."""
    places = ClaimLimits(100, 100, 100, {1: EndpointLimit(100, 100), 2: EndpointLimit(100, 100)})
    with database.writing() as session:
        claimed = claims.claim(session, places, lease=timedelta(minutes=1), now=now)
        deliveries.settle(session, [_settled(one, now) for one in claimed], now=now)


def _settled(one: Claimed, now: datetime) -> Settlement:
    match one.delivery_id % 4:
        case 0:
            said = '{"outcome":"applied"}'
            return Settlement(one, now, 84, Delivered(), status=200, detail=said)
        case 1:
            outcome = Dead("the receiver responded with 400: a retry would not help")
            return Settlement(one, now, 31, outcome, status=400, detail=MARKUP + LONG[:900])
        case 2:
            later = RetryAt(now + timedelta(minutes=1))
            detail = "elms.example.ac.uk:443: no response within 15 s"
            return Settlement(one, now, 15_004, later, failure="deadline", detail=detail)
        case _:
            later = RetryAt(now + timedelta(hours=20))
            detail = "elms.example.ac.uk:443: the certificate is not trusted: expired"
            return Settlement(one, now, 12, later, failure="tls-expired", detail=detail)
