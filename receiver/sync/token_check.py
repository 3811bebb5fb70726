"""Tokens that were entered are proven: sites are asked, and the registry learns the answers."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database
from receiver.models import Entry
from receiver.registry import entries as registry
from receiver.registry.entries import EntryUpdate
from receiver.registry.history import Actor
from receiver.sources.base import GradeSource, Transient
from receiver.sync import deletion_check, facts, results
from receiver.sync.results import Heard

_AT_ONCE = 100
"""Of how many entries the registry learns in one transaction."""


def prove(
    database: Database,
    sources: Mapping[str, GradeSource],
    entries: Sequence[Entry],
    *,
    vault: Vault,
    actor: Actor,
    concurrency: int = 1,
) -> list[Heard]:
    """Ask each site about the tokens of its entries, and let the registry learn what it answers.

    So a token whose webhook was lost heals its entry. As many go in one request as a site takes;
    one that cannot be reached is not asked again. No session is open during a request.
    """
    asking = _Proving(sources, vault)
    proven: list[Heard] = []
    unlearnt: list[Heard] = []
    with ThreadPoolExecutor(concurrency, thread_name_prefix="proving") as pool:
        for heard in pool.map(asking.ask, _pieces(sources, entries)):
            unlearnt += deletion_check.confirmed(heard, sources, wait)
            if len(unlearnt) >= _AT_ONCE:
                _learn(database, unlearnt, actor)
                proven, unlearnt = proven + unlearnt, []
    _learn(database, unlearnt, actor)
    return proven + unlearnt


class _Proving:
    """Asks, from several threads; `_away` are the sites that could not be reached."""

    def __init__(self, sources: Mapping[str, GradeSource], vault: Vault) -> None:
        self._sources = sources
        self._vault = vault
        self._away: dict[str, Transient] = {}

    def ask(self, piece: Sequence[Entry]) -> list[Heard]:
        """Return what came of asking about entries of one site."""
        name = piece[0].source.name
        if name in self._away:
            return [Heard(entry, self._away[name]) for entry in piece]
        questions = [facts.question_about(entry, vault=self._vault) for entry in piece]
        heard = [
            Heard(entry, outcome, question=question)
            for entry, question, outcome in zip(
                piece, questions, self._sources[name].ask(questions), strict=True
            )
        ]
        for one in heard:
            if isinstance(one.outcome, Transient) and one.outcome.unreachable:
                self._away[name] = one.outcome
        return heard


def _pieces(
    sources: Mapping[str, GradeSource], entries: Sequence[Entry]
) -> Iterator[Sequence[Entry]]:
    of_site: dict[str, list[Entry]] = {}
    for entry in entries:
        of_site.setdefault(entry.source.name, []).append(entry)
    for name, asked in of_site.items():
        batch = sources[name].batch
        for start in range(0, len(asked), batch):
            yield asked[start : start + batch]


def _learn(database: Database, heard: Sequence[Heard], actor: Actor) -> None:
    if not heard:
        return
    with database.writing() as session:
        now = db.now(session)
        lessons = [EntryUpdate(one.entry.id, results.facts_of(one, now=now)) for one in heard]
        registry.apply_updates(session, lessons, actor=actor, now=now)
