"""The base of what commands and APIs return as JSON."""

from typing import Annotated, Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, PlainSerializer, WithJsonSchema

from contract.events import wire_time
from foundation.db.audit import AuditEntry

Timestamp = Annotated[
    AwareDatetime,
    PlainSerializer(wire_time, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A time as all JSON has it: RFC 3339, UTC, microseconds, as in 2026-11-22T09:00:00.123456Z."""


class Response(BaseModel):
    """A response or a part of one; its fields are in the order in which they are written.

    What a program compares is a code (`status`, `outcome`, `reason`); `detail` and `next_step` are
    sentences for people.
    """

    model_config = ConfigDict(frozen=True)

    @classmethod
    def of(cls, row: Any, **more: Any) -> Self:
        """Return the response for a row; `more` are the fields that the row does not have."""
        fields = {name: getattr(row, name) for name in cls.model_fields if name not in more}
        return cls(**fields, **more)


class AuditResponse(Response):
    """An entry of the audit table: who did what, when, from where, to what."""

    entry_id: int
    recorded_at: Timestamp
    actor: str
    channel: str
    address: str | None
    action: str
    object_kind: str
    object_id: str
    detail: str

    @classmethod
    def of_entry(cls, row: AuditEntry) -> Self:
        """Return the response for an entry."""
        return cls.of(row, entry_id=row.id)
