"""The base of what commands and APIs return as JSON."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Response(BaseModel):
    """A response or a part of one; its fields are in the order in which they are written."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def of(cls, row: Any, **more: Any) -> Self:
        """Return the response for a row; `more` are the fields that the row does not have."""
        fields = {name: getattr(row, name) for name in cls.model_fields if name not in more}
        return cls(**fields, **more)
