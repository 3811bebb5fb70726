"""A grade sync that requests only what changed after a time, from a served eAssessment."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from pydantic import SecretStr

from contract.grades import Score
from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier.courses import grades
from notifier.courses import service as courses
from receiver.models import SCHEMA
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.sources import store as sources
from receiver.sources.eassessment import EAssessmentClient
from receiver.sources.http_client import HttpClient
from receiver.sync.run import SyncOptions, SyncRun
from tests.integration.story.conftest import KEY, EAssessment
from tests.receiver.conftest import Clients

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
SCORE = Score(user_id="ada", score_given=Decimal(7), score_maximum=Decimal(10), timestamp=NINE)


def test_only_what_changed_since_is_sent(
    eassessment: EAssessment, make_database: Callable[[Schema], Database]
) -> None:
    elms, vault, later = make_database(SCHEMA), Vault(SecretStr(KEY)), NINE + timedelta(days=1)
    with eassessment.database.writing() as session:
        tokens = {one: courses.add_course(session, one, one, now=NINE) for one in ("NEW", "OLD")}
        grades.load(session, {"OLD": [SCORE]}, now=NINE)
        grades.load(session, {"NEW": [SCORE]}, now=later)
    with elms.writing() as session:
        source = sources.add(session, "one", eassessment.url, now=NINE)
        actor = Actor(ActorKind.ADMINISTRATOR, "ada@elms")
        for course_id, token in tokens.items():
            registry.add(session, source, course_id, token, vault=vault, actor=actor, now=NINE)
    options = SyncOptions(
        holder="ada@elms",
        lease=timedelta(minutes=5),
        modified_since=later - timedelta(minutes=1),
    )

    with closing(HttpClient(connect_timeout=2, read_timeout=20, total=30)) as http_client:
        clients = Clients(EAssessmentClient(http_client), http_client)
        result = SyncRun(elms, vault, clients, options).execute()

    outcomes = {one.course_id: one.outcome for one in result.courses}
    assert outcomes == {"NEW": "synced", "OLD": "unchanged"}
