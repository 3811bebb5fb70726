"""The schemas of the API: what each field accepts."""

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from notifier.api import schemas

URL = "https://elms.example/webhooks"
SCORE = {
    "userId": "ben",
    "scoreGiven": "7.5",
    "scoreMaximum": "10",
    "timestamp": "2026-11-22T09:30:00Z",
}
VALID: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (schemas.NewCourse, {"course_id": "CS300", "title": "x"}),
    (schemas.NewEndpoint, {"url": URL, "event_types": ["course.deleted", "delivery.dead"]}),
    (schemas.GradesToLoad, {"scores": [SCORE]}),
    (schemas.ReplayRequest, {"ids": [1, 2**31 - 1], "dry_run": True}),
    (schemas.ReplayRequest, {"filter": {"status": "dead", "since": "2026-11-22T09:30:00Z"}}),
    (schemas.NewToken, {"token": "0123456789abcdef" * 2}),
    (schemas.NewToken, {}),
]
INVALID: list[tuple[type[BaseModel], str, tuple[Any, ...]]] = [
    (schemas.NewCourse, "course_id", (None, 1, "", "..", "x" * 256)),
    (schemas.NewCourse, "title", (None, 1, "", "x" * 10_001)),
    (schemas.NewEndpoint, "url", (None, 1, "", "x" * 2001)),
    (schemas.NewEndpoint, "event_types", ("course.deleted", [], ["course_deleted"])),
    (schemas.GradesToLoad, "scores", (None, {}, [{**SCORE, "scoreGiven": 1.5}])),
    (schemas.ReplayRequest, "ids", ([], [0], [2**31], [True], ["1"], [1] * 1001)),
    (schemas.ReplayRequest, "limit", (0, 1001, True)),
    (schemas.ReplayRequest, "dry_run", ("no", 1)),
    (schemas.ReplayRequest, "filter", ({"status": "x"}, {"statuses": "dead"}, {"endpoint_id": 0})),
    (schemas.DeliveryListParams, "since", ("now", "1700000000", "2026-11-22T09:00:00")),
    (schemas.NewToken, "token", ("eas_k7Qx2mPa_planted", "", 7)),
    (schemas.NewToken, "token_id", ("0123456789abcdef" * 2, True)),
]


def parse(schema: type[BaseModel], document: dict[str, Any]) -> None:
    if schema is schemas.DeliveryListParams:
        schema.model_validate(document)  # from a query string
    else:
        schema.model_validate_json(json.dumps(document), strict=True)


@pytest.mark.parametrize(("schema", "document"), VALID)
def test_valid_document_is_accepted(schema: type[BaseModel], document: dict[str, Any]) -> None:
    parse(schema, document)


@pytest.mark.parametrize("schema", list(dict.fromkeys(schema for schema, _ in VALID)))
def test_unknown_field_is_refused(schema: type[BaseModel]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        parse(schema, {"unknown": 1})


@pytest.mark.parametrize(
    ("schema", "field", "value"),
    [(schema, field, value) for schema, field, values in INVALID for value in values],
)
def test_invalid_value_is_refused(schema: type[BaseModel], field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        parse(schema, {field: value})

    assert field in {fault["loc"][0] for fault in refused.value.errors()}
