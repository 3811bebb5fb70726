"""Take away, one at a time, what the promises rest on: each time a named test must fail.

`python -m tests.faults.mutation_check [NAME]…` works on a copy of the tree, on SQLite, and ends
with 1 if anything could be taken away unnoticed.
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
_FAILED, _ENDS_WITHIN = 1, 300


@dataclass(frozen=True)
class Mutation:
    """What is taken away, by text that stands once in a file, and the test that must notice."""

    name: str
    path: str
    text: str
    instead: str
    test: str

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
        "the compare of a course token",
        "notifier/grades.py",
        "not hmac.compare_digest(issued.secret_sha256, bearer.secret_sha256())",
        "not issued.secret_sha256",
        "tests/notifier/test_grades.py::test_unknown_token_is_refused",
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
        "the taking back of lost leases",
        "notifier/turn.py",
        "lost = leases.take_back(session, now=now)",
        "lost: list[Lost] = []",
        "tests/notifier/test_worker.py::test_lost_worker_is_followed_by_another",
    ),
    Mutation(
        "the holding back of a suspect",
        "notifier/pace.py",
        "alone=max(0, 1 - self._busy_in(Lane.ALONE)),",
        "alone=total,",
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
        "the version test",
        "receiver/memory.py",
        "return fact.course_version, fact.token_id, fact.at",
        "return 0, fact.token_id, fact.at",
        "tests/receiver/test_memory.py::test_the_highest_version_names_the_token",
    ),
    Mutation(
        "the finality of a deletion",
        "receiver/memory.py",
        "    if memory.deleted is not None:\n        return Status.COURSE_DELETED\n",
        "",
        "tests/receiver/test_memory.py::test_deletion_is_final",
    ),
    Mutation(
        "the token that was named last",
        "receiver/memory.py",
        "if _replacement(memory) is not None or _refusal(memory) is not None:",
        "if _refusal(memory) is not None:",
        "tests/receiver/test_memory.py::test_status_is_derived_from_what_is_remembered",
    ),
    Mutation(
        "the source's own door",
        "receiver/inbox.py",
        "event.data.source != door.name:",
        "event.data.source == '':",
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
        "the guard where a connection is made",
        "foundation/dial.py",
        "why = self._guard.why_barred(host, address) if self._guard else None",
        "why = None",
        "tests/faults/outbound/test_dns.py",
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
                unnoticed += not noticed
                verdict = "noticed by" if noticed else "UNNOTICED by"
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


def _is_noticed(copy: Path, mutation: Mutation) -> bool:
    """Tell whether the test fails, and by failing: one that cannot run has noticed nothing."""
    path = copy / mutation.path
    whole = path.read_text(encoding="utf-8")
    path.write_text(mutation.applied(whole), encoding="utf-8")
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutation.test],
            cwd=copy,
            env={key: each for key, each in os.environ.items() if key not in _UNWANTED},
            capture_output=True,
            timeout=_ENDS_WITHIN,
        )
    finally:
        path.write_text(whole, encoding="utf-8")
    return ran.returncode == _FAILED


_UNWANTED = {"CI", "TEST_POSTGRES_URL"}


if __name__ == "__main__":
    sys.exit(main())
