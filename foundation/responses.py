"""The base of what commands and APIs return as JSON."""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from foundation.db.audit import AuditEntry


class Response(BaseModel):
    """A response or a part of one; its fields are in the order in which they are written."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def of(cls, row: Any, **more: Any) -> Self:
        """Return the response for a row; `more` are the fields that the row does not have."""
        fields = {name: getattr(row, name) for name in cls.model_fields if name not in more}
        return cls(**fields, **more)


class AuditResponse(Response):
    """An entry of the audit table: who did what, when, from where, to what."""

    entry_id: int
    recorded_at: datetime
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
