"""Small value types of the resource: durations, quantities, source URIs, and passed-through Kubernetes values.

They read the text that a user writes once and hand typed numbers to the rest. Each knows its JSON schema, so the
CRD and the parser cannot disagree. Patterns are written for both Python and RE2 (CEL): no look-around, no `\\s`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from nereus.api.rules import VALIDATIONS, Rule

DURATION_PATTERN = r"^([0-9]{1,4}(\.[0-9]{1,3})?h|[0-9]{1,6}(\.[0-9]{1,3})?(us|ms|s|m)){1,4}$"
"""Few digits and parts, so that no accepted text overflows CEL's duration()."""
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h)")
_MICROSECONDS = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
MAX_DURATION_MICROSECONDS = 7 * 24 * 3_600_000_000
MAX_DURATION_LENGTH = 32

MAX_QUANTITY_LENGTH = 32
QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
_NOT_A_QUANTITY = "is not a quantity; write e.g. 500m, 2, 512Mi or 8Gi; a fraction is a text in quotes"
_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")
_FACTOR: dict[str | None, Decimal] = {
    None: Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTP", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTP", start=1)},
}

_KUBERNETES_NAME = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
_SOURCE_OF_SCHEME = {
    "configmap://": rf"configmap://{_KUBERNETES_NAME}(/[-._a-zA-Z0-9]+)?",
    "pvc://": rf"pvc://{_KUBERNETES_NAME}(/[^/?#\x00-\x20\x7f]+)*/?",
    "hf://": r"hf://[a-zA-Z0-9][-_.a-zA-Z0-9]{0,95}/[a-zA-Z0-9][-_.a-zA-Z0-9]{0,95}(/[^/?#@\x00-\x20\x7f]+)*/?",
    "https://": (
        r"https://([a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[^#\x00-\x20\x7f]*)?"
    ),
    "": r"(s3|gs)://[a-z0-9][-_.a-z0-9]{1,220}[a-z0-9](/[^?#\x00-\x20\x7f]*)?",
}
SOURCE_PATTERN = rf"^({'|'.join(_SOURCE_OF_SCHEME.values())})$"


def _source_rule() -> str:
    """The pattern in CEL, one scheme after the other: the API server multiplies the length of a pattern with that of
    the text and refuses a definition whose rule could cost too much; of a choice only the dearest part counts."""
    *special, (_, rest) = _SOURCE_OF_SCHEME.items()
    chain = "".join(f"self.startsWith('{scheme}') ? self.matches(r'^{pattern}$') : " for scheme, pattern in special)
    return f"{chain}self.matches(r'^{rest}$')"


SOURCE_FORMS = (
    "s3://BUCKET/PATH, gs://BUCKET/PATH, hf://ORG/REPO[/PATH], https://HOST/PATH, pvc://CLAIM/PATH or"
    " configmap://NAME[/PREFIX]"
)
MAX_SOURCE_LENGTH = 2048
SOURCE_ESCAPE_PATTERN = r"/\.\.(/|$)"


def _cel_rule(expression: str, message: str) -> dict[str, Any]:
    return {VALIDATIONS: [{"rule": expression, "message": message}]}


def _parsed_text(parse: Callable[[Any], object], raw: CoreSchema) -> CoreSchema:
    """A value that is text outside and typed inside."""
    return core_schema.no_info_after_validator_function(parse, raw, serialization=core_schema.to_string_ser_schema())


@dataclass(frozen=True, order=True)
class Duration:
    """A length of time; written as in Go, e.g. `200ms`, `1m30s`."""

    microseconds: int

    @property
    def seconds(self) -> float:
        return self.microseconds / 1_000_000

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Raises ValueError when the text is not a duration of at most seven days."""
        parsed = cls.of_any_length(text)
        if parsed.microseconds > MAX_DURATION_MICROSECONDS:
            raise ValueError(f"{text!r} is longer than 168h, the longest duration accepted")
        return parsed

    @classmethod
    def of_any_length(cls, text: str) -> Duration:
        """For a field with bounds of its own; raises ValueError when the text is not a duration."""
        if len(text) > MAX_DURATION_LENGTH or not re.fullmatch(DURATION_PATTERN, text):
            raise ValueError(f"{text!r} is not a duration; write a number and a unit, e.g. 200ms, 30s or 5m")
        return cls(int(sum(Decimal(number) * _MICROSECONDS[unit] for number, unit in _DURATION_PART.findall(text))))

    @classmethod
    def of_seconds(cls, seconds: float) -> Duration:
        return cls(round(seconds * 1_000_000))

    def __str__(self) -> str:
        if self.microseconds == 0:
            return "0s"
        for unit in ("h", "m", "s", "ms"):
            if self.microseconds % _MICROSECONDS[unit] == 0:
                return f"{self.microseconds // _MICROSECONDS[unit]}{unit}"
        return f"{self.microseconds}us"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _parsed_text(cls.parse, core_schema.str_schema(strict=True))

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        rule = f"self.matches(r'{DURATION_PATTERN}') && duration(self) <= duration('168h')"
        message = "must be a number and a unit of us, ms, s, m or h, at most 168h; write e.g. 200ms, 30s or 5m"
        return {"type": "string", "maxLength": MAX_DURATION_LENGTH, **_cel_rule(rule, message)}


@dataclass(frozen=True)
class Within:
    """Bounds on a duration, in place of the usual seven days: `Annotated[Duration, Within("1s", "10m")]`."""

    low: str
    high: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _parsed_text(self._parse, core_schema.str_schema(strict=True))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        rule = (
            f"self.matches(r'{DURATION_PATTERN}') && duration(self) >= duration('{self.low}')"
            f" && duration(self) <= duration('{self.high}')"
        )
        message = f"must be a duration between {self.low} and {self.high}, e.g. {self.low} or {self.high}"
        return {"type": "string", "maxLength": MAX_DURATION_LENGTH, **_cel_rule(rule, message)}

    def _parse(self, text: str) -> Duration:
        value = Duration.of_any_length(text)
        if not Duration.of_any_length(self.low) <= value <= Duration.of_any_length(self.high):
            raise ValueError(f"'{value}' is outside {self.low} to {self.high}: choose a value within")
        return value


@dataclass(frozen=True)
class Quantity:
    """An amount in Kubernetes notation, e.g. `500m`, `8Gi`; a plain number is accepted too."""

    text: str

    @property
    def value(self) -> Decimal:
        """The amount in base units (cores, bytes)."""
        match = _QUANTITY.fullmatch(self.text)
        if match is None:
            raise ValueError(f"{self.text!r} is not a quantity")
        return Decimal(match[1]) * _FACTOR[match[2]]

    @classmethod
    def parse(cls, raw: str | int) -> Quantity:
        """Raises ValueError when the text is not a quantity."""
        text = str(raw)
        if len(text) > MAX_QUANTITY_LENGTH or not _QUANTITY.fullmatch(text):
            raise ValueError(f"{text!r} {_NOT_A_QUANTITY}")
        return cls(text)

    def __str__(self) -> str:
        return self.text

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _parsed_text(cls._parse_untyped, core_schema.any_schema())

    @classmethod
    def _parse_untyped(cls, raw: Any) -> Quantity:
        if isinstance(raw, bool) or not isinstance(raw, (str, int)):
            raise ValueError(f"{raw!r} {_NOT_A_QUANTITY}")
        return cls.parse(raw)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "x-kubernetes-int-or-string": True,
            "maxLength": MAX_QUANTITY_LENGTH,
            **_cel_rule(f"string(self).matches(r'{QUANTITY_PATTERN}')", _NOT_A_QUANTITY),
        }


def canonical_quantity(raw: str | int) -> str:
    """The text under which the API server stores an amount: `1000m` -> `1`, `1024Mi` -> `1Gi`, `0.5` -> `500m`.

    A text that is no quantity comes back unchanged. The rules are those of apimachinery's ParseQuantity and
    CanonicalizeBytes: the family of the suffix (powers of 1000 or of 1024) is kept where no digit is lost, the
    amount is an integer with the largest suffix that allows it, and some already short texts are left as written.
    """
    text = str(raw)
    match = _QUANTITY.fullmatch(text)
    if match is None or _kept_as_written(match[1], match[2] or ""):
        return text
    amount = Decimal(match[1]) * _FACTOR[match[2]]
    if (match[2] or "").endswith("i") and amount >= 1024 and amount == amount.to_integral_value():
        written = _with_suffix(int(amount), 1024, ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))
        # Without a suffix it has left its family: what was stored is read back as a decimal amount (62.5Ki -> 64k).
        return canonical_quantity(written) if written.isdigit() else written
    nano = (amount * 10**9).to_integral_value(ROUND_UP)
    return _with_suffix(int(nano), 1000, ("n", "u", "m", "", "k", "M", "G", "T", "P", "E"))


def _kept_as_written(number: str, suffix: str) -> bool:
    """The parser's fast path: a text that it takes for canonical is stored unchanged."""
    whole, _, fraction = number.partition(".")
    whole = whole.lstrip("0") or "0"
    digits = whole + fraction
    if suffix.endswith("i"):
        power = 10 * ("KMGTP".index(suffix[0]) + 1)
        fits = 15 - len(whole) - power * 3 // 10 - 1 >= 0
        return not fraction and fits and int(whole) & 0x07 != 0
    scale = {"m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}[suffix] - len(fraction)
    fits = 18 - len(whole) - len(fraction) >= 0 and scale >= -9
    return fits and scale % 3 == 0 and not digits.endswith("000") and not digits.startswith("0")


def _with_suffix(amount: int, base: int, suffixes: tuple[str, ...]) -> str:
    """An integer with the largest suffix that leaves it an integer; `amount` counts units of the first suffix."""
    if amount == 0:
        return "0"
    step = 0
    while step + 1 < len(suffixes) and amount % base == 0:
        amount //= base
        step += 1
    return f"{amount}{suffixes[step]}"


def decimal_of(quantity: str | int) -> Decimal | None:
    """The amount of a Kubernetes quantity, or None when it is not one of the forms that Nereus reads."""
    try:
        return Quantity.parse(quantity).value
    except (ValueError, InvalidOperation):
        return None


@dataclass(frozen=True)
class SourceUri:
    """Where a model comes from. `name` is the ConfigMap, the claim, the bucket, the organisation, or the host;
    `path` what follows, without the leading slash."""

    text: str
    scheme: str
    name: str
    path: str

    @classmethod
    def parse(cls, text: str) -> SourceUri:
        """Raises ValueError naming the schemes that work."""
        if len(text) > MAX_SOURCE_LENGTH:
            raise ValueError(f"{text[:60]!r}... has {len(text)} characters; at most {MAX_SOURCE_LENGTH} are accepted")
        if not re.fullmatch(SOURCE_PATTERN, text):
            raise ValueError(f"{text!r} is not a model source; write {SOURCE_FORMS}")
        scheme, _, rest = text.partition("://")
        name, _, path = rest.partition("/")
        if re.search(SOURCE_ESCAPE_PATTERN, text):
            raise ValueError(f"{text!r} points outside of its source; remove '..' from the path")
        return cls(text, scheme, name, path.strip("/") if scheme == "pvc" else path)

    @property
    def is_volume(self) -> bool:
        """Whether the source reaches the pod as a mounted volume rather than by download."""
        return self.scheme in ("configmap", "pvc")

    def __str__(self) -> str:
        return self.text

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _parsed_text(cls.parse, core_schema.str_schema(strict=True))

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "type": "string",
            "maxLength": MAX_SOURCE_LENGTH,
            VALIDATIONS: [
                {
                    "rule": _source_rule(),
                    "message": f"must be {SOURCE_FORMS}",
                },
                {
                    "rule": f"!self.matches(r'{SOURCE_ESCAPE_PATTERN}')",
                    "message": "points outside of its source: remove '..' from the path",
                },
            ],
        }


@dataclass(frozen=True)
class KubernetesType:
    """Marks a value that is handed to Kubernetes as it is.

    `definition` names the type in the Kubernetes API (e.g. `io.k8s.api.core.v1.Affinity`), from which the CRD
    takes field names and types when it is generated; `explain` is what to give to `kubectl explain` for its manual;
    `fields` narrows an object to these fields. `required` names fields that Nereus needs on top of it. `read` leaves
    names and types inside the value to the API server.
    """

    definition: str
    explain: str
    fields: tuple[str, ...] = ()
    required: tuple[str, ...] = ()

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "type": "object",
            "x-nereus-definition": self.definition,
            "x-nereus-explain": self.explain,
            "x-nereus-fields": list(self.fields),
            **({"required": list(self.required)} if self.required else {}),
        }


VOLUME_SOURCES = (
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "fc",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "persistentVolumeClaim",
    "projected",
    "secret",
)
"""Sources of a volume, without those that Kubernetes has deprecated or removed."""
METRIC_SOURCES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
"""Type of a metric (autoscaling/v2) and the field that goes with it."""

Json = dict[str, Any]
EnvVar = Annotated[
    Json,
    KubernetesType("io.k8s.api.core.v1.EnvVar", "pod.spec.containers.env"),
    Rule(
        cel="!has(self.value) || !has(self.valueFrom)",
        message="an environment variable has either value or valueFrom: remove one",
        holds=lambda variable: "value" not in variable or "valueFrom" not in variable,
    ),
]
Volume = Annotated[
    Json,
    KubernetesType("io.k8s.api.core.v1.Volume", "pod.spec.volumes", fields=("name", *VOLUME_SOURCES)),
    Rule(
        cel=f"[{', '.join(f'has(self.{source})' for source in VOLUME_SOURCES)}].exists_one(given, given)",
        message=f"a volume has a name and exactly one source: name one of {', '.join(VOLUME_SOURCES)}",
        holds=lambda volume: sum(source in volume for source in VOLUME_SOURCES) == 1,
    ),
]
VolumeMount = Annotated[Json, KubernetesType("io.k8s.api.core.v1.VolumeMount", "pod.spec.containers.volumeMounts")]
Toleration = Annotated[Json, KubernetesType("io.k8s.api.core.v1.Toleration", "pod.spec.tolerations")]
Affinity = Annotated[Json, KubernetesType("io.k8s.api.core.v1.Affinity", "pod.spec.affinity")]
TopologySpread = Annotated[
    Json,
    KubernetesType("io.k8s.api.core.v1.TopologySpreadConstraint", "pod.spec.topologySpreadConstraints"),
]
PodSecurityContext = Annotated[
    Json, KubernetesType("io.k8s.api.core.v1.PodSecurityContext", "pod.spec.securityContext")
]
LocalReference = Annotated[
    Json,
    KubernetesType("io.k8s.api.core.v1.LocalObjectReference", "pod.spec.imagePullSecrets", required=("name",)),
]
MetricSpec = Annotated[
    Json,
    KubernetesType("io.k8s.api.autoscaling.v2.MetricSpec", "hpa.spec.metrics --api-version=autoscaling/v2"),
    Rule(
        cel=" || ".join(f"(self.type == '{kind}' && has(self.{field}))" for kind, field in METRIC_SOURCES.items()),
        message=f"a metric has a type of {', '.join(METRIC_SOURCES)} and the field of that name: write e.g. type"
        " Resource and `resource`",
        holds=lambda metric: METRIC_SOURCES.get(str(metric.get("type")), "") in metric,
    ),
]
ScalingBehavior = Annotated[
    Json,
    KubernetesType(
        "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerBehavior",
        "hpa.spec.behavior --api-version=autoscaling/v2",
    ),
]
