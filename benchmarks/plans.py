"""The query plans of the statements behind pages."""

from collections.abc import Mapping
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import event

from foundation.db.session import Database


def explain(client: FlaskClient, database: Database, pages: Mapping[str, str]) -> None:
    """Print the plan of each statement once, under the page that sends it first."""
    seen: set[str] = set()
    steps: list[str] = []
    word = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"

    def note(connection: Any, _: object, statement: str, given: Any, *_others: object) -> None:
        if not statement.startswith("SELECT") or statement in seen:
            return
        seen.add(statement)
        plan = connection.exec_driver_sql(f"{word} {statement}", given)
        steps.extend([" ".join(statement.split())[:160], *(f"    {row[-1]}" for row in plan), ""])

    event.listen(database.engine, "before_cursor_execute", note)
    for name, path in pages.items():
        steps.append(f"== {name}: {path}")
        client.get(path)
    event.remove(database.engine, "before_cursor_execute", note)
    print("\n".join(steps))
