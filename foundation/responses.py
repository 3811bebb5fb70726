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
    sentences for people. A list is in a field of its own, next to `next`, the cursor of
    the next page, which is None on the last page.
    """

    model_config = ConfigDict(frozen=True)

    @classmethod
    def of(cls, row: Any, **more: Any) -> Self:
        """Return the response for a row; `more` are the fields that the row does not have."""
        fields = {name: getattr(row, name) for name in cls.model_fields if name not in more}
        return cls(**fields, **more)


class AuditResponse(Response):
    """An entry of the audit table: who did what, when, from where, to what.

    `object_count` is above 1, and `object_id` empty, if the same was done to many objects; each of
    them is `part_of` that entry.
    """

    entry_id: int
    recorded_at: Timestamp
    actor: str
    channel: str
    address: str | None
    action: str
    object_kind: str
    object_id: str
    object_count: int
    part_of: int | None
    detail: str

    @classmethod
    def of_entry(cls, row: AuditEntry) -> Self:
        """Return the response for an entry."""
        return cls.of(row, entry_id=row.id)


class AuditEntries(Response):
    """A page of the audit table."""

    entries: list[AuditResponse]
    next: str | None = None


class CheckResponse(Response):
    """The result of one check of `doctor`."""

    check: str
    ok: bool
    detail: str
    next_step: str | None
    action: str | None


class DoctorResponse(Response):
    """The results of all checks."""

    ok: bool
    findings: list[CheckResponse]


class UserResponse(Response):
    """A user of the pages."""

    user: str
    created_at: Timestamp
    password_changed_at: Timestamp

    @classmethod
    def of(cls, row: Any, **more: Any) -> Self:
        """Return the response for a row."""
        return super().of(row, user=row.name, **more)


class Users(Response):
    """All users."""

    users: list[UserResponse]
    next: str | None = None


class SchemaResponse(Response):
    """The revision of the database schema, and the one before if it was upgraded."""

    revision: str
    previous_revision: str | None = None


class BackupResponse(Response):
    """A backup that was written."""

    file: str
    bytes: int


class InitResponse(SchemaResponse):
    """The file of the settings, those that were written to it, and why it is not safe there."""

    env_file: str
    written: list[str]
    warning: str | None


class Deleted(Response):
    """How many rows were deleted, by what they are."""

    deleted: dict[str, int]


class Reencrypted(Response):
    """How many secrets were encrypted with the first key, by what they are."""

    reencrypted: dict[str, int]
