"""Take a safeguard away, one at a time, in a copy of the tree: a named test must fail for each.

`python -m tests.faults.mutants` prints which test noticed each, and ends with 1 if one was not.
Those that only many writers at once can notice need TEST_POSTGRES_URL.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SECONDS = 45
"""How long one test may run: without its deadline an attempt would never end."""

_FAILED = re.compile(r"^(?:FAILED|ERROR) \S+::(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """A safeguard, the text that is it, what stands there without it, and who must notice."""

    safeguard: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    needs_postgres: bool = False

    def source(self, tree: Path = ROOT) -> str:
        """Return the module that the safeguard stands in."""
        return (tree / self.path).read_text(encoding="utf-8")


_SIGNATURE, _MEMORY = "tests/contract/test_signature.py", "tests/receiver/test_memory.py"
_MAC = "_MAC.verify_signature(secret.key, content, signature)"
_INSERT = """    written = session.scalar(
        db.insert(session, Taken).values(taken).on_conflict_do_nothing().returning(Taken.webhook_id)
    )
    return written is not None
"""
_ASK_FIRST = """    known = session.get(Taken, (taken["source_id"], taken["webhook_id"]))
    if known is None:
        session.execute(db.insert(session, Taken).values(taken))
    return known is None
"""
_SEND = "self._adapter.send(prepared, stream=True, timeout=timeout, proxies={})"
_FOLLOW = """requests.Session()
        response.mount("http://", self._adapter)
        response = response.send(prepared, stream=True, timeout=timeout)"""

MUTANTS = (
    Mutant(
        "the signature is looked at",
        "contract/signature.py",
        _MAC,
        "True",
        (f"{_SIGNATURE}::test_a_bit_flipped_in_the_body_is_refused",),
    ),
    Mutant(
        "signatures are compared in constant time",
        "contract/signature.py",
        _MAC,
        "_MAC.get_signature(secret.key, content) == signature",
        (f"{_SIGNATURE}::test_signatures_are_compared_in_constant_time",),
    ),
    Mutant(
        "a timestamp is not too old",
        "contract/signature.py",
        "if abs(age) > TOLERANCE",
        "if -age > TOLERANCE",
        (f"{_SIGNATURE}::test_a_clock_beyond_five_minutes_is_told_both_times",),
    ),
    Mutant(
        "a timestamp is not too far ahead",
        "contract/signature.py",
        "if abs(age) > TOLERANCE",
        "if age > TOLERANCE",
        (f"{_SIGNATURE}::test_a_clock_beyond_five_minutes_is_told_both_times",),
    ),
    Mutant(
        "only the lease's holder settles a failure",
        "notifier/deliveries.py",
        "(row.lease_token, row.attempts) != (one.claimed.lease_token, one.claimed.attempts)",
        "row.attempts != one.claimed.attempts",
        ("tests/notifier/test_deliveries.py::test_settlement_with_a_forged_lease_is_fenced",),
    ),
    Mutant(
        "a schedule begun anew fences the one before",
        "notifier/deliveries.py",
        "(row.lease_token, row.attempts) != (one.claimed.lease_token, one.claimed.attempts)",
        "row.lease_token != one.claimed.lease_token",
        ("tests/notifier/test_deliveries.py::test_attempt_from_before_a_release_is_fenced",),
    ),
    Mutant(
        "leases of lost workers are taken back",
        "notifier/turn.py",
        "lost = leases.take_back(session, now=now)",
        "lost: list[Lost] = []",
        ("tests/notifier/test_worker.py::test_lost_worker_is_followed_by_another",),
    ),
    Mutant(
        "a 410 disables its endpoint",
        "notifier/turn.py",
        "if isinstance(one.outcome, Disable) and one not in fenced:",
        "if False:",
        ("tests/notifier/test_worker.py::test_410_disables_the_endpoint_and_holds_the_rest",),
    ),
    Mutant(
        "a late 410 disables nothing",
        "notifier/turn.py",
        "if isinstance(one.outcome, Disable) and one not in fenced:",
        "if isinstance(one.outcome, Disable):",
        ("tests/notifier/test_hostile_hands.py::test_late_410_does_not_disable",),
    ),
    Mutant(
        "an event is rolled back with its change",
        "notifier/outbox.py",
        "    deliveries.create(session, [row.id], wanting, now=event.timestamp)\n",
        "    deliveries.create(session, [row.id], wanting, now=event.timestamp)\n"
        "    session.connection().connection.commit()\n",
        ("tests/notifier/test_outbox.py::test_rollback_leaves_no_event",),
    ),
    Mutant(
        "an id that was taken is a duplicate",
        "receiver/inbox.py",
        "return written is not None",
        "return True",
        ("tests/receiver/test_inbox.py::test_the_second_time_is_a_duplicate",),
    ),
    Mutant(
        "the inbox's primary key answers, not a question before",
        "receiver/inbox.py",
        _INSERT,
        _ASK_FIRST,
        (
            "tests/receiver/test_webhooks.py"
            "::test_the_same_event_a_hundred_times_at_once_has_one_effect",
        ),
        needs_postgres=True,
    ),
    Mutant(
        "the highest version wins",
        "receiver/memory.py",
        "named=max(memory.named or fact, fact, key=_named_weight)",
        "named=fact",
        (f"{_MEMORY}::test_all_orders_of_six_facts_give_one_memory",),
    ),
    Mutant(
        "versions decide, not times",
        "receiver/memory.py",
        "return fact.course_version, fact.token_id, fact.at",
        "return fact.at, fact.token_id, fact.course_version",
        (f"{_MEMORY}::test_versions_decide_and_not_times",),
    ),
    Mutant(
        "a deletion is final",
        "receiver/memory.py",
        "if memory.deleted is not None:\n        return Status.COURSE_DELETED",
        "if memory.deleted is not None and memory.named is None:\n"
        "        return Status.COURSE_DELETED",
        (f"{_MEMORY}::test_deletion_is_final",),
    ),
    Mutant(
        "the token that was named last is good",
        "receiver/memory.py",
        "named if named is not None and named.token_id != memory.held_token_id else None",
        "named",
        (f"{_MEMORY}::test_entering_the_named_token_heals",),
    ),
    Mutant(
        "a body has a limit",
        "foundation/web.py",
        "    if max(stated, len(raw)) > limit:\n",
        "    if stated > limit:\n",
        ("tests/notifier/web/test_bad_input_admin_api.py",),
    ),
    Mutant(
        "a stated length that is too large is not read",
        "foundation/web.py",
        'raw = b"" if stated > limit else _whole_body()',
        "raw = _whole_body()",
        ("tests/foundation/test_web.py", "tests/receiver/test_bad_input_webhooks.py"),
    ),
    Mutant(
        "redirects are not followed",
        "notifier/transport.py",
        _SEND,
        _FOLLOW,
        (
            "tests/faults/outbound/test_hostile_receivers.py"
            "::test_redirect_is_an_answer_and_never_followed",
        ),
    ),
    Mutant(
        "an exchange has a total deadline",
        "foundation/deadline.py",
        "_Exchange(time.monotonic() + seconds, silence, most_bytes)",
        '_Exchange(float("inf"), silence, most_bytes)',
        (
            "tests/faults/outbound/test_hostile_receivers.py::test_dripping_body_leaves_the_status",
            "tests/faults/outbound/test_hostile_receivers.py::test_attempt_ends_within_its_deadline",
        ),
    ),
    Mutant(
        "an answer is not read on for ever",
        "foundation/deadline.py",
        "if _current.exchange.bytes_left < 0:",
        "if False:",
        ("tests/faults/outbound/test_hostile_receivers.py",),
    ),
    Mutant(
        "every address of a host passes the guard",
        "foundation/dial.py",
        "            self._check(host, place.address)\n",
        "            pass\n",
        ("tests/faults/outbound/test_dns.py::test_any_barred_record_bars_the_name",),
    ),
    Mutant(
        "the address connected to passes the guard",
        "foundation/dial.py",
        'self._check(host, ip_address(connected.getpeername()[0].partition("%")[0]))',
        "pass",
        (
            "tests/faults/outbound/test_dns.py::test_address_that_is_connected_to_is_checked_as_well",
        ),
    ),
    Mutant(
        "an address is judged by the one it stands for",
        "foundation/addresses.py",
        "for one in meant(address):",
        "for one in (address,):",
        ("tests/foundation/test_addresses.py::test_address_is_barred_by_the_one_it_stands_for",),
    ),
)


def copy_tree(folder: Path) -> Path:
    """Copy what is part of the project into a folder."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def noticed_by(mutant: Mutant, tree: Path) -> str | None:
    """Return the test that fails without the safeguard; the tree is as it was afterwards."""
    source = mutant.source(tree)
    (tree / mutant.path).write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return failing(mutant.tests, tree)
    finally:
        (tree / mutant.path).write_text(source, encoding="utf-8")


def failing(tests: tuple[str, ...], tree: Path) -> str | None:
    """Run tests in a tree; return the first that fails, or None."""
    options = ["-q", "-x", "-p", "no:cacheprovider", f"--timeout={_SECONDS}"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    # Two writings of a module in one second would otherwise be one to the cache of bytecode.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if ran.returncode == 0:
        return None
    found = _FAILED.search(ran.stdout)
    if found is None:
        raise RuntimeError(f"the tests could not be run:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return found[1]


def main() -> int:
    """Try every mutant; return how the process should end."""
    survived = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = copy_tree(Path(folder))
        every = tuple(dict.fromkeys(test for mutant in MUTANTS for test in mutant.tests))
        broken = failing(every, tree)
        if broken:
            raise RuntimeError(f"{broken} fails with every safeguard in its place")
        for mutant in MUTANTS:
            if mutant.needs_postgres and "TEST_POSTGRES_URL" not in os.environ:
                told = "not tried: needs TEST_POSTGRES_URL"
            else:
                test = noticed_by(mutant, tree)
                survived += test is None
                told = f"noticed by {test}" if test else "SURVIVED"
            sys.stdout.write(f"{mutant.safeguard:<58} {told}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(MUTANTS)} safeguards, {survived} that no test misses\n")
    return min(survived, 1)


if __name__ == "__main__":
    sys.exit(main())
