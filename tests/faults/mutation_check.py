"""Take away, one at a time, what the promises rest on: each time a named test must fail.

`python -m tests.faults.mutation_check [NAME]…` works on a copy of the tree, on SQLite, and ends
with 1 if anything could be taken away unnoticed. What only many writers at once notice is tried
on PostgreSQL, if TEST_POSTGRES_URL names a server.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("contract", "foundation", "notifier", "receiver", "migrations", "tests", "pyproject.toml")
_PASSED, _FAILED, _ENDS_WITHIN = 0, 1, 300
_POSTGRES = "TEST_POSTGRES_URL"
_VERDICTS = {True: "noticed by", False: "UNNOTICED by", None: "not tried, needs PostgreSQL:"}


@dataclass(frozen=True)
class Mutation:
    """What is taken away, by text that stands once in a file, and the test that must notice."""

    name: str
    path: str
    text: str
    instead: str
    test: str
    on_postgres: bool = False

    def applied(self, source: str) -> str:
        """Return the source without it; ValueError if the text does not stand there once."""
        if source.count(self.text) != 1:
            raise ValueError(f"{self.name}: {self.text!r} stands {source.count(self.text)} times")
        return source.replace(self.text, self.instead)


MUTATIONS = (
    Mutation(
        "the compare of a signature",
        "contract/signature.py",
        "if _MAC.verify_signature(secret.key, content, signature):",
        "if signature:",
        "tests/contract/test_signature.py::test_a_bit_flipped_in_the_body_is_refused",
    ),
    Mutation(
        "the constant time of that compare",
        "contract/signature.py",
        "_MAC.verify_signature(secret.key, content, signature)",
        "_MAC.get_signature(secret.key, content) == signature",
        "tests/contract/test_signature.py::test_signatures_are_compared_in_constant_time",
    ),
    Mutation(
        "the compare of a course token",
        "notifier/readings.py",
        "if hmac.compare_digest(row.secret_sha256, bearer.secret_sha256())",
        "if row.secret_sha256",
        "tests/notifier/test_readings.py::test_unknown_token_is_refused",
    ),
    Mutation(
        "the compare of the admin key",
        "foundation/web.py",
        "if not hmac.compare_digest(given.strip().encode(), expected.encode()):",
        "if not given.strip():",
        "tests/notifier/web/test_routes.py",
    ),
    Mutation(
        "the tolerance towards the past",
        "contract/signature.py",
        "if abs(age) > TOLERANCE",
        "if -age > TOLERANCE",
        "tests/contract/test_signature.py::test_the_bound_is_exact",
    ),
    Mutation(
        "the tolerance towards the future",
        "contract/signature.py",
        "if abs(age) > TOLERANCE",
        "if age > TOLERANCE",
        "tests/contract/test_signature.py::test_the_bound_is_exact",
    ),
    Mutation(
        "the lease token",
        "notifier/deliveries.py",
        "return (row.lease_token, row.attempts) != (one.claimed.lease_token, one.claimed.attempts)",
        "return bool(row.attempts != one.claimed.attempts and one.claimed.attempts < 0)",
        "tests/notifier/test_deliveries.py::test_late_failure_is_fenced",
    ),
    Mutation(
        "the fence of a schedule begun anew",
        "notifier/deliveries.py",
        "return (row.lease_token, row.attempts) != (one.claimed.lease_token, one.claimed.attempts)",
        "return bool(row.lease_token != one.claimed.lease_token)",
        "tests/notifier/test_deliveries.py::test_attempt_from_before_a_release_is_fenced",
    ),
    Mutation(
        "the fence of a late 410",
        "notifier/turn.py",
        "if isinstance(one.outcome, Disable) and one not in stood.fenced:",
        "if isinstance(one.outcome, Disable):",
        "tests/notifier/test_hostile_hands.py::test_late_410_does_not_disable",
    ),
    Mutation(
        "the taking back of lost leases",
        "notifier/turn.py",
        "lost = leases.take_back(session, now=now)",
        "lost: list[Lost] = []",
        "tests/notifier/test_worker.py::test_lost_worker_is_followed_by_another",
    ),
    Mutation(
        "the holding back of a suspect",
        "notifier/pace.py",
        "isolated=max(0, 1 - self._busy_in(Lane.ISOLATED)),",
        "isolated=total,",
        "tests/notifier/test_pace.py",
    ),
    Mutation(
        "the inbox's primary key",
        "receiver/inbox.py",
        "return written is not None",
        "return True",
        "tests/receiver/test_inbox.py::test_the_second_time_is_a_duplicate",
    ),
    Mutation(
        "the inbox's primary key under a race",
        "receiver/inbox.py",
        "    written = session.scalar(\n"
        "        db.insert(session, Taken).values(taken)"
        ".on_conflict_do_nothing().returning(Taken.webhook_id)\n"
        "    )\n"
        "    return written is not None\n",
        '    known = session.get(Taken, (taken["source_id"], taken["webhook_id"]))\n'
        "    if known is None:\n"
        "        session.execute(db.insert(session, Taken).values(taken))\n"
        "    return known is None\n",
        "tests/receiver/test_webhooks.py"
        "::test_the_same_event_a_hundred_times_at_once_has_one_effect",
        on_postgres=True,
    ),
    Mutation(
        "the version test",
        "receiver/memory.py",
        "return fact.course_version, fact.token_id, fact.at",
        "return 0, fact.token_id, fact.at",
        "tests/receiver/test_memory.py::test_the_highest_version_names_the_token",
    ),
    Mutation(
        "versions before times",
        "receiver/memory.py",
        "return fact.course_version, fact.token_id, fact.at",
        "return fact.at, fact.token_id, fact.course_version",
        "tests/receiver/test_memory.py::test_versions_decide_and_not_times",
    ),
    Mutation(
        "the finality of a deletion",
        "receiver/memory.py",
        "return memory.deleted or _replacement(memory)",
        "return _replacement(memory)",
        "tests/receiver/test_memory.py::test_deletion_is_final",
    ),
    Mutation(
        "the token that was named last",
        "receiver/memory.py",
        "return memory.deleted or _replacement(memory) or _refusal(memory)",
        "return memory.deleted or _refusal(memory)",
        "tests/receiver/test_memory.py::test_status_is_derived_from_what_is_remembered",
    ),
    Mutation(
        "the source's own door",
        "receiver/inbox.py",
        "if source is not None and source != door.name:",
        "if source == '':",
        "tests/receiver/test_inbox.py::test_anothers_event_leaves_nothing_behind",
    ),
    Mutation(
        "not following redirects",
        "notifier/transport.py",
        "response = self._adapter.send(prepared, stream=True, timeout=timeout, proxies={})",
        "session = requests.Session()\n"
        '        session.mount("http://", self._adapter)\n'
        "        response = session.send(\n"
        "            prepared, stream=True, timeout=timeout, proxies={}, allow_redirects=True\n"
        "        )",
        "tests/faults/outbound/test_hostile_receivers.py::"
        "test_redirect_is_an_answer_and_never_followed",
    ),
    Mutation(
        "the total deadline",
        "foundation/deadline.py",
        "left = exchange.ends - time.monotonic()",
        "left = exchange.silence",
        "tests/faults/outbound/test_hostile_receivers.py",
    ),
    Mutation(
        "the bound of what an exchange brings",
        "foundation/deadline.py",
        "if _current.exchange.bytes_left < 0:",
        "if False:",
        "tests/faults/outbound/test_hostile_receivers.py",
    ),
    Mutation(
        "the guard where a connection is made",
        "foundation/dial.py",
        "why = self._guard.why_barred(host, address) if self._guard else None",
        "why = None",
        "tests/faults/outbound/test_dns.py",
    ),
    Mutation(
        "the guard of the address connected to",
        "foundation/dial.py",
        'self._check(host, ip_address(connected.getpeername()[0].partition("%")[0]))',
        "pass",
        "tests/faults/outbound/test_dns.py::test_address_that_is_connected_to_is_checked_as_well",
    ),
    Mutation(
        "what a wrapped address means",
        "foundation/addresses.py",
        "        for one in meant(address):\n",
        "        for one in (address,):\n",
        "tests/foundation/test_addresses.py",
    ),
    Mutation(
        "the rollback of what is told with its change",
        "notifier/outbox.py",
        "    session.add(row)\n    session.flush()\n",
        "    session.add(row)\n    session.commit()\n",
        "tests/notifier/test_outbox.py::test_rollback_leaves_no_event",
    ),
    Mutation(
        "the end of an endpoint at 410",
        "notifier/retry.py",
        "        if answer.status == _GONE:\n"
        '            return Disable("the receiver answered 410: it wants no more events")\n',
        "",
        "tests/notifier/test_worker.py::test_410_disables_the_endpoint_and_holds_the_rest",
    ),
    Mutation(
        "the pause of who keeps failing",
        "notifier/pace.py",
        "if not health.is_paused(now)",
        "if health is not None",
        "tests/notifier/test_pace.py",
    ),
    Mutation(
        "the limit of a body",
        "foundation/web.py",
        "    if max(stated, len(raw)) > limit:\n",
        "    if limit < 0:\n",
        "tests/notifier/web/test_admin_api.py::test_a_body_too_large_is_refused",
    ),
    Mutation(
        "the compare of the ingest secret",
        "notifier/web/ingest_api.py",
        "if not hmac.compare_digest(borne.encode(), secret.encode()):",
        "if not secret:",
        "tests/notifier/web/test_ingest_api.py::test_without_the_secret_nothing_is_heard",
    ),
    Mutation(
        "the memory of what a Moodle told",
        "notifier/ingest.py",
        "    if taken.first() is None:\n        return Outcome.DUPLICATE\n",
        "    taken.close()\n",
        "tests/notifier/test_ingest.py::test_same_telling_is_a_duplicate",
    ),
    Mutation(
        "whose token it is that is borne",
        "notifier/readings.py",
        "if row.course_id != question.course_id:",
        "if row.course_id is None:",
        "tests/notifier/web/test_grades_batch.py::test_each_course_gets_what_it_gets_by_itself",
    ),
    Mutation(
        "the course that an item of a batch names",
        "receiver/batches.py",
        'answer.get("course_id") != question.course_id',
        "False",
        "tests/receiver/test_batches.py::test_an_item_of_another_course_answers_nothing",
    ),
)


def main() -> int:
    """Try each mutation, or those named, and print which test noticed; return the exit code."""
    wanted = set(sys.argv[1:])
    unnoticed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        _copy_to(copy)
        for mutation in MUTATIONS:
            if not wanted or mutation.name in wanted:
                noticed = _is_noticed(copy, mutation)
                unnoticed += noticed is False
                verdict = _VERDICTS[noticed]
                print(f"{mutation.name:46} {verdict} {mutation.test}", flush=True)
    print(f"{unnoticed} unnoticed")
    return 1 if unnoticed else 0


def _copy_to(copy: Path) -> None:
    copy.mkdir()
    unwanted = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=unwanted)
        else:
            shutil.copy(source, copy / name)


def _is_noticed(copy: Path, mutation: Mutation) -> bool | None:
    """Tell whether the test fails just for the want of it; None if that cannot be tried here."""
    if mutation.on_postgres and _POSTGRES not in os.environ:
        return None
    path = copy / mutation.path
    whole = path.read_text(encoding="utf-8")
    path.write_text(mutation.applied(whole), encoding="utf-8")
    try:
        without = _run(copy, mutation)
    finally:
        path.write_text(whole, encoding="utf-8")
    # A test that cannot run has noticed nothing, nor has one that fails anyhow.
    return without == _FAILED and _run(copy, mutation) == _PASSED


def _run(copy: Path, mutation: Mutation) -> int:
    unwanted = {"CI"} if mutation.on_postgres else {"CI", _POSTGRES}
    environment = {key: each for key, each in os.environ.items() if key not in unwanted}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutation.test],
        cwd=copy,
        # Two writings of a module in one second would be one to the cache of bytecode.
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        timeout=_ENDS_WITHIN,
    )
    return ran.returncode


if __name__ == "__main__":
    sys.exit(main())
