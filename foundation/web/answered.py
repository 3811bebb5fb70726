"""What the views of `watch` and `openapi` answer, described for both services' documents."""

from pydantic import BaseModel

from contract.problems import ProblemType
from foundation.web.openapi import Answer, Operation


class Alive(BaseModel):
    """The process takes requests."""

    alive: bool


class Ready(BaseModel):
    """The service can do its work."""

    ready: bool


class Document(BaseModel):
    """An OpenAPI document."""

    openapi: str


WATCHED = {
    "watch.alive": Operation({200: Answer("It lives.", Alive)}),
    "watch.ready": Operation({200: Answer("It can work.", Ready)}, refuses=[ProblemType.NOT_READY]),
    "watch.metrics": Operation(
        {200: Answer("The numbers, as Prometheus reads them.", "text/plain")},
        refuses=[ProblemType.METRICS_TOKEN_REFUSED],
    ),
    "openapi.openapi": Operation({200: Answer("This document.", Document)}),
    "openapi.page": Operation({200: Answer("This document, for people.", "text/html")}),
}
"""The operations that both services have, by endpoint."""
