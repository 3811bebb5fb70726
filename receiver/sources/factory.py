"""Clients of the sources and of ELMS's Moodle, opened according to the settings."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Self

from contract.tokens import MoodleToken
from foundation import tracing
from foundation.crypto import Vault
from receiver.config import Settings
from receiver.models import API, MOODLE, Source
from receiver.moodle.client import MAX_BYTES
from receiver.moodle.gradebook import MoodleGradebook
from receiver.moodle.source import MoodleGradeSource
from receiver.sources import store as sources
from receiver.sources.base import GradeSource
from receiver.sources.eassessment import EAssessmentClient
from receiver.sources.http_client import MAX_RESPONSE_BYTES, HttpClient


class ClientFactory:
    """Opens the clients of sources, and closes them at the end of a `with` block.

    `max_seconds` limits one request where a person waits for it.
    """

    def __init__(
        self, settings: Settings, vault: Vault, *, max_seconds: float | None = None
    ) -> None:
        self._settings = settings
        self._vault = vault
        self._max_seconds = max_seconds
        self._http_clients: list[HttpClient] = []
        self._eassessment = EAssessmentClient(self._http_client(API))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for http_client in self._http_clients:
            http_client.close()

    @property
    def requests(self) -> int:
        """The number of requests that the clients sent."""
        return sum(http_client.requests for http_client in self._http_clients)

    def cancel(self) -> None:
        """Cancel the requests in progress, from any thread, and send no more."""
        for http_client in self._http_clients.copy():
            http_client.cancel()

    def open(self, source: Source) -> GradeSource:
        """Return the client of a source, or raise DecryptionError for its site-wide token."""
        if source.kind != MOODLE:
            return self._eassessment
        site_token = sources.site_token_of(source, vault=self._vault)
        http_client = self._http_client(MOODLE)
        return MoodleGradeSource(http_client, site_token=site_token, now=lambda: datetime.now(UTC))

    def _http_client(self, kind: str) -> HttpClient:
        opened = _http_client(self._settings, kind, max_seconds=self._max_seconds)
        self._http_clients.append(opened)
        return opened


@contextmanager
def open_gradebook(settings: Settings) -> Iterator[MoodleGradebook | None]:
    """Give the gradebook of ELMS's Moodle, or None if grades go into ELMS's database."""
    if not settings.elms_is_moodle:
        yield None
        return
    token = MoodleToken.parse(settings.gradebook_token.get_secret_value())
    with closing(_http_client(settings, MOODLE)) as http_client:
        yield MoodleGradebook(http_client, url=settings.gradebook_url, token=token)


def _http_client(settings: Settings, kind: str, *, max_seconds: float | None = None) -> HttpClient:
    read_timeout, total = settings.read_timeout, settings.request_deadline
    if kind == MOODLE:
        read_timeout = total = settings.moodle_timeout
    return HttpClient(
        connect_timeout=settings.connect_timeout,
        read_timeout=read_timeout,
        total=total if max_seconds is None else min(total, max_seconds),
        bundle=settings.ca_bundle,
        connections=settings.sync_concurrency,
        span=tracing.current(),
        max_bytes=MAX_BYTES if kind == MOODLE else MAX_RESPONSE_BYTES,
    )
