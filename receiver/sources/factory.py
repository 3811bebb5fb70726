"""Clients of the sources and of ELMS's Moodle, opened according to the settings."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from typing import Self

from contract.tokens import MoodleToken
from foundation import tracing
from foundation.crypto import Vault
from receiver.config import Settings
from receiver.gradebook.base import Gradebook
from receiver.models import MOODLE, Source
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
        self._opened = ExitStack()
        self._eassessment = self._opened.enter_context(EAssessmentClient(self._http_client()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def open(self, source: Source) -> GradeSource:
        """Return the client of a source, or raise DecryptionError for its site-wide token."""
        if source.kind != MOODLE:
            return self._eassessment
        site_token = sources.site_token_of(source, vault=self._vault)
        exchange = self._opened.enter_context(closing(self._http_client(max_bytes=MAX_BYTES)))
        return MoodleGradeSource(exchange, site_token=site_token, now=lambda: datetime.now(UTC))

    def _http_client(self, *, max_bytes: int = MAX_RESPONSE_BYTES) -> HttpClient:
        return _http_client(self._settings, max_bytes=max_bytes, max_seconds=self._max_seconds)


@contextmanager
def open_gradebook(settings: Settings) -> Iterator[Gradebook | None]:
    """Give the gradebook of ELMS's Moodle, or None if grades go into ELMS's database."""
    if not settings.elms_is_moodle:
        yield None
        return
    token = MoodleToken.parse(settings.gradebook_token.get_secret_value())
    with closing(_http_client(settings, max_bytes=MAX_BYTES)) as exchange:
        yield MoodleGradebook(exchange, url=settings.gradebook_url, token=token)


def _http_client(
    settings: Settings, *, max_bytes: int, max_seconds: float | None = None
) -> HttpClient:
    total = settings.request_deadline
    return HttpClient(
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        total=total if max_seconds is None else min(total, max_seconds),
        bundle=settings.ca_bundle,
        connections=settings.sync_concurrency,
        span=tracing.current(),
        max_bytes=max_bytes,
    )
