"""What every part of the resource is made of: the base class, and texts, labels and annotations with their bounds."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from nereus.api.rules import Rule, broken, matching, with_rules


class Section(BaseModel):
    """Base of every part of the resource: immutable, camelCase outside, unknown fields refused.

    `rules` are the rules over several fields of the class; the API server and `read` hold to the same ones.
    """

    rules: ClassVar[tuple[Rule, ...]] = ()

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        arbitrary_types_allowed=True,
    )

    @model_validator(mode="after")
    def _holds_to_its_rules(self) -> Self:
        found = [rule.message for rule in self.rules if not rule.holds(self)]
        if found:
            raise broken(*found)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        reference = handler(schema)
        target = handler.resolve_ref_schema(reference)
        target.update(with_rules(target, cls.rules))
        return reference


Text = Annotated[str, Field(max_length=1024)]
_QUALIFIED_KEY = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[a-zA-Z0-9]([-_.a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$"
_LABEL_VALUE = r"^([a-zA-Z0-9]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?)?$"
_KEYS_ARE_QUALIFIED = Rule(
    cel=f"self.all(key, size(key) <= 317 && key.matches(r'{_QUALIFIED_KEY}'))",
    message="each key is a name of at most 63 letters, digits, '-', '_' and '.', or PREFIX/NAME with a DNS prefix,"
    " e.g. example.com/team: rename the key",
    holds=lambda entries: all(re.fullmatch(_QUALIFIED_KEY, key) for key in entries),
)
LabelMap = Annotated[
    dict[
        str,
        Annotated[
            str,
            Field(max_length=63),
            matching(
                _LABEL_VALUE,
                "a label value is made of letters, digits, '-', '_' and '.', and begins and ends with a letter"
                " or a digit: choose such a value",
            ),
        ],
    ],
    Field(max_length=64),
    _KEYS_ARE_QUALIFIED,
]
AnnotationMap = Annotated[dict[str, Annotated[str, Field(max_length=16384)]], Field(max_length=64), _KEYS_ARE_QUALIFIED]
