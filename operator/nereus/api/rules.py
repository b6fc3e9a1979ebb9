"""A rule in both languages: CEL for the API server, Python for `nereus.api.service.read`, one sentence for the user.

Both stand side by side so that they are changed together; tests hold them against the same table of bad resources.
Used on a class (`Section.rules`) or on a value (`Annotated[..., Rule(...)]`). Says nothing about single-field bounds:
those are plain schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

VALIDATIONS = "x-kubernetes-validations"


def broken(*messages: str) -> PydanticCustomError:
    """The error of one or several broken rules; `service.read` shows it as it is, without the value."""
    return PydanticCustomError("rule", "{sentence}", {"sentence": "; ".join(messages)})


def with_rules(schema: Mapping[str, Any], rules: Iterable[Rule]) -> dict[str, Any]:
    """The schema with further CEL rules."""
    added = [{"rule": rule.cel, "message": rule.message} for rule in rules]
    return {**schema, VALIDATIONS: [*schema.get(VALIDATIONS, ()), *added]} if added else dict(schema)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """`cel` and `holds` say the same; `message` names the field and the remedy."""

    cel: str
    message: str
    holds: Callable[[Any], bool]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return with_rules(handler(schema), (self,))

    def _checked(self, value: Any) -> Any:
        if not self.holds(value):
            raise broken(self.message)
        return value


def matching(pattern: str, message: str) -> Rule:
    """A text as a whole matches a regular expression (RE2 and Python read it alike)."""
    return Rule(
        cel=f"self.matches(r'{pattern}')",
        message=message,
        holds=lambda text: re.fullmatch(pattern, text) is not None,
    )


def object_name(kind: str) -> Rule:
    """A text can be the name of an object of Kubernetes."""
    pattern = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
    return matching(pattern, f"is no name of a {kind}: choose small letters, digits, '-' and '.'")


@dataclass(frozen=True)
class Keyed:
    """A list whose entries are told apart by these fields, so that two writers can each apply entries of it.

    Without fields the entries themselves are told apart (a set).
    """

    fields: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        if not self.fields:
            return {**handler(schema), "x-kubernetes-list-type": "set"}
        return {
            **handler(schema),
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": list(self.fields),
        }

    def _checked(self, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        seen: dict[tuple[Any, ...], int] = {}
        for index, entry in enumerate(entries):
            key = tuple(self._value(entry, field, index) for field in self.fields) or (entry,)
            if key in seen:
                named = ", ".join(str(part) for part in key)
                raise broken(
                    f"{named!r} is entry {seen[key]} and entry {index}: each may occur once; remove or rename one"
                )
            seen[key] = index
        return entries

    @staticmethod
    def _value(entry: Any, field: str, index: int) -> Any:
        value = entry.get(field) if isinstance(entry, dict) else getattr(entry, field)
        if not isinstance(value, str):
            raise broken(f"entry {index} has no {field}: add `{field}`")
        return value
