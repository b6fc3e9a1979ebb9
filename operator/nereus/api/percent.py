"""A percentage as users write it, and its bounds in both languages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from nereus.api.rules import Rule

MAX_PERCENT_LENGTH = 8
PERCENT_PATTERN = r"^[0-9]{1,3}(\.[0-9]{1,3})?%$"


@dataclass(frozen=True)
class Percent:
    """A share, written with its sign: `1%`, `0.5%`. Its bounds come from `percent_within`, which every use has."""

    text: str

    @property
    def share(self) -> float:
        """As a fraction of 1."""
        return self._number / 100

    @classmethod
    def parse(cls, text: str) -> Percent:
        """Raises ValueError when the text is not a percentage."""
        if len(text) > MAX_PERCENT_LENGTH or not re.fullmatch(PERCENT_PATTERN, text):
            raise ValueError(f"{text!r} is not a percentage; write e.g. 1% or 0.5%")
        return cls(text)

    def between(self, low: float, high: float) -> bool:
        """Bounds in percent, both allowed."""
        return low <= self._number <= high

    def __str__(self) -> str:
        return self.text

    @property
    def _number(self) -> float:
        return float(self.text.removesuffix("%"))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls.parse, core_schema.str_schema(strict=True), serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "maxLength": MAX_PERCENT_LENGTH}


def percent_within(low: float, high: float, message: str) -> Rule:
    """Bounds in percent, both allowed: `Annotated[Percent, percent_within(0.01, 50, "must be ...")]`."""
    number = "double(self.substring(0, self.size() - 1))"
    return Rule(
        cel=f"self.matches(r'{PERCENT_PATTERN}') && {number} >= {float(low)} && {number} <= {float(high)}",
        message=message,
        holds=lambda percent: percent.between(low, high),
    )
