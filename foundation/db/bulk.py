"""Statements whose rows are one JSON parameter or result; drivers would handle them one by one."""

import json
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import JSON, CursorResult, Dialect, Select, Text, bindparam, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from sqlalchemy.types import NullType, TypeEngine

_DIALECTS: Mapping[str, Dialect] = {
    "sqlite": sqlite.dialect(),
    "postgresql": postgresql.dialect(),  # type: ignore[no-untyped-call]
}


class RowsStatement:
    """A statement in whose SQL `{given}` is a FROM item: the rows that it is executed with.

    Args:
        columns: The columns of `given`, with their types.
        sql: The statement, for both databases or by the name of the dialect.
        types: The types of the other parameters, where they need one.
    """

    def __init__(
        self,
        columns: Mapping[str, TypeEngine[Any]],
        sql: str | Mapping[str, str],
        **types: TypeEngine[Any],
    ) -> None:
        self._columns = columns
        self._sql = sql
        self._binds = [bindparam(name, type_=type_) for name, type_ in types.items()]
        self._made = cache(self._make)

    def execute(
        self, session: Session, rows: Sequence[Mapping[str, Any]], **values: Any
    ) -> CursorResult[Any]:
        """Execute the statement with rows and other parameters."""
        statement, processors = self._made(session.get_bind().dialect.name)
        if processors:
            rows = [
                {**row, **{name: process(row[name]) for name, process in processors}}
                for row in rows
            ]
        values["rows"] = json.dumps(rows, ensure_ascii=False, default=str)
        return session.execute(statement, values)  # type: ignore[return-value]  # SQL as text

    def _make(self, dialect_name: str) -> Any:
        dialect = _DIALECTS[dialect_name]
        sql = self._sql if isinstance(self._sql, str) else self._sql[dialect_name]
        if dialect_name == "sqlite":
            listed = ", ".join(f"value ->> '{name}' AS \"{name}\"" for name in self._columns)
            given = f"(SELECT {listed} FROM json_each(:rows)) AS given"  # noqa: S608 - names in code
        else:
            typed = (f'"{name}" {of.compile(dialect)}' for name, of in self._columns.items())
            given = f"json_to_recordset(CAST(:rows AS json)) AS given({', '.join(typed)})"
        # JSON is a part of the parameter as it is.
        processors = [
            (name, process)
            for name, of in self._columns.items()
            if not isinstance(of, JSON)
            and (process := of.dialect_impl(dialect).bind_processor(dialect))
        ]
        return text(sql.replace("{given}", given)).bindparams(*self._binds), processors


class RowsQuery:
    """A query whose rows come as one value, which is JSON.

    sqlite3 gives other threads a turn for each row that it fetches.
    """

    def __init__(self, query: Select[Any]) -> None:
        found = query.subquery("found")
        self._statements: Mapping[str, Select[Any]] = {
            "sqlite": select(func.json_group_array(func.json_array(*found.c), type_=Text())),
            "postgresql": select(func.json_agg(func.json_build_array(*found.c), type_=NullType())),
        }

    def fetch(self, session: Session, **values: Any) -> list[list[Any]]:
        """Return the rows in the order of the query; timestamps are text."""
        found = session.scalar(self._statements[session.get_bind().dialect.name], values)
        rows: list[list[Any]] = json.loads(found) if isinstance(found, str) else found or []
        return rows


def insert(session: Session, table: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows with the same columns into the table of a model; nothing for no rows."""
    if rows:
        _insert(table.__table__, tuple(rows[0])).execute(session, rows)


@lru_cache
def _insert(table: Any, columns: tuple[str, ...]) -> RowsStatement:
    listed = ", ".join(f'"{name}"' for name in columns)
    sql = f"INSERT INTO {table.name} ({listed}) SELECT {listed} FROM {{given}}"  # noqa: S608 - names in code
    return RowsStatement({name: table.c[name].type for name in columns}, sql)
