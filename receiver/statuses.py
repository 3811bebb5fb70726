"""The law of `memory.status_of` in SQL: a condition for each status, to filter and count by."""

from typing import Any

from sqlalchemy import ColumnElement, and_, not_, or_

from receiver.course_state import Status


def conditions(row: Any) -> dict[Status, ColumnElement[bool]]:
    """Return when a row of entries has each status; exactly one of them is true of any row.

    None of it is ever NULL, or its negation would be NULL too. There are no parameters in it, so
    that an index can stand on it.
    """
    deleted = and_(row.deleted_version.is_not(None), row.deleted_at.is_not(None))
    invalid = or_(_is_replaced(row), _is_refused(row))
    return {
        Status.ACTIVE: and_(not_(deleted), not_(invalid)),
        Status.TOKEN_INVALID: and_(not_(deleted), invalid),
        Status.COURSE_DELETED: deleted,
    }


def _is_replaced(row: Any) -> ColumnElement[bool]:
    return and_(
        _is_named(row),
        or_(row.held_token_id.is_(None), row.announced_token_id != row.held_token_id),
        not_(_is_proven_since(row, row.announced_at)),
    )


def _is_refused(row: Any) -> ColumnElement[bool]:
    named_again = and_(
        _is_named(row),
        row.announced_token_id == row.refused_token_id,
        row.announced_at > row.refused_at,
    )
    return and_(
        row.held_token_id.is_not(None),
        row.refused_token_id.is_not(None),
        row.refused_at.is_not(None),
        row.refused_token_id == row.held_token_id,
        not_(named_again),
        not_(_is_proven_since(row, row.refused_at)),
    )


def _is_named(row: Any) -> ColumnElement[bool]:
    return and_(row.announced_version.is_not(None), row.announced_at.is_not(None))


def _is_proven_since(row: Any, at: Any) -> ColumnElement[bool]:
    return and_(
        row.held_token_id.is_not(None),
        row.proven_token_id.is_not(None),
        row.proven_at.is_not(None),
        row.proven_token_id == row.held_token_id,
        row.proven_at > at,
    )
