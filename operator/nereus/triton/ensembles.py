"""Ensembles checked as a graph: steps that exist, no circle, every tensor made once before it is used, and fitting.

Here because an ensemble is the one configuration whose correctness depends on other models, and because Triton finds
out only when everything is loaded, in its log. What a model does not declare (its source may) is not known here, so
nothing is guessed about it. Says which model and which step; where that stands in the resource is for checks.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from nereus.triton.model_config import ModelConfig

NEWEST = -1
"""The `model_version` that means the newest one."""


class Finding(NamedTuple):
    """One thing wrong with the ensemble `model`; `step` counts from 0, None when no single step is to blame."""

    model: str
    step: int | None
    message: str


class _Shaped(NamedTuple):
    """A tensor as one model has it; `batches` is None when it is not known whether the model takes batches."""

    owner: str
    data_type: str
    dims: tuple[int, ...]
    batches: bool | None

    def __str__(self) -> str:
        return f"{self.data_type.removeprefix('TYPE_')}{list(self.dims)} of {self.owner}"

    def fits(self, other: _Shaped) -> bool:
        """As Triton compares: -1 fits any size, and the batch may be a dimension of a model that does not batch."""
        if self.data_type != other.data_type:
            return False
        return _same(self.dims, other.dims) or any(
            _same(mine, theirs) for mine in self._with_batch() for theirs in other._with_batch()
        )

    def _with_batch(self) -> Iterator[tuple[int, ...]]:
        if self.batches is not False:
            yield (-1, *self.dims)
        if not self.batches:
            yield self.dims


def findings(configs: Mapping[str, ModelConfig], *, declared: Collection[str]) -> Iterator[Finding]:
    """Everything wrong with the ensembles among `configs`. `declared` are all models of the service, also those whose
    configuration cannot be read."""
    for name, config in configs.items():
        if config.WhichOneof("scheduling_choice") == "ensemble_scheduling":
            yield from _Ensemble(name, config, configs, declared).findings()
    yield from _circles(configs)


class _Ensemble:
    """One ensemble while it is checked. `made` and `used` map a tensor of the ensemble to who makes and who takes it;
    None stands for a model that does not declare its tensors."""

    def __init__(
        self, name: str, config: ModelConfig, configs: Mapping[str, ModelConfig], declared: Collection[str]
    ) -> None:
        self.name, self.config, self.configs, self.declared = name, config, configs, declared
        self.steps = config.ensemble_scheduling.step
        self.made: dict[str, _Shaped | None] = {
            tensor.name: _shaped(f"the ensemble's input {tensor.name!r}", config, tensor) for tensor in config.input
        }
        self.used: list[tuple[str, int | None, _Shaped | None]] = [
            (tensor.name, None, _shaped(f"the ensemble's output {tensor.name!r}", config, tensor))
            for tensor in config.output
        ]

    def findings(self) -> Iterator[Finding]:
        if not self.steps:
            yield self._found(None, "has no steps: name the models that it runs")
        wrong = False
        for number, step in enumerate(self.steps):
            for message in self._step(number, step):
                wrong = True
                yield self._found(number, message)
        # A tensor that a wrong step was meant to make would be missed once more.
        if not wrong and self.config.input and self.config.output:
            yield from self._flow()

    def _step(self, number: int, step: ModelConfig) -> Iterator[str]:
        if step.model_name not in self.declared:
            yield f"ensemble step {step.model_name!r} is not among spec.models: add it, or correct the name"
            return
        model = self.configs.get(step.model_name)
        if model is not None and model.version_policy.specific.versions:
            versions = sorted(model.version_policy.specific.versions)
            if step.model_version != NEWEST and step.model_version not in versions:
                yield (
                    f"ensemble step {step.model_name!r} asks for version {step.model_version} and the model serves"
                    f" {versions}: change one of them"
                )
        yield from self._map(number, step, "inputMap", step.input_map, model.input if model else ())
        yield from self._map(number, step, "outputMap", step.output_map, model.output if model else ())

    def _map(
        self, number: int, step: ModelConfig, field: str, mapped: Mapping[str, str], tensors: Sequence[ModelConfig]
    ) -> Iterator[str]:
        what = "input" if field == "inputMap" else "output"
        who = f"ensemble step {step.model_name!r}"
        known = {tensor.name: tensor for tensor in tensors}
        if not mapped:
            yield f"{who} has no {field}: name the tensors of the ensemble that are its {what}s"
        for inner, outer in sorted(mapped.items()):
            if known and inner not in known:
                yield f"{who} has no {what} {inner!r}, only {', '.join(known)}: correct {field}"
                continue
            shaped = None
            if known:
                owner = f"{what} {inner!r} of step {step.model_name!r}"
                shaped = _shaped(owner, self.configs[step.model_name], known[inner])
            if what == "input":
                self.used.append((outer, number, shaped))
            elif outer in self.made:
                yield f"{who} makes tensor {outer!r}, which is made before: rename it in {field}"
            else:
                self.made[outer] = shaped
        if what == "input" and mapped:
            for name, tensor in known.items():
                if name not in mapped and not tensor.optional:
                    yield f"{who} needs its input {name!r}: add it to {field}"

    def _flow(self) -> Iterator[Finding]:
        for name, step, taken in self.used:
            if name not in self.made:
                what = f"output {name!r} of the ensemble" if step is None else f"tensor {name!r}"
                has = ", ".join(self.made)
                yield self._found(
                    step, f"{what} is made by no step and is no input of the ensemble ({has}): correct it"
                )
                continue
            given = self.made[name]
            if taken is not None and given is not None and not given.fits(taken):
                yield self._found(step, f"tensor {name!r} is {given} and {taken}: make them agree")
        used = {name for name, step, _ in self.used if step is not None}
        for tensor in self.config.input:
            if tensor.name not in used:
                yield self._found(None, f"input {tensor.name!r} is used by no step: remove it or map it")

    def _found(self, step: int | None, message: str) -> Finding:
        return Finding(self.name, step, message)


def _circles(configs: Mapping[str, ModelConfig]) -> Iterator[Finding]:
    """Ensembles that contain themselves, each circle told once: at the step that closes it."""
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> Iterator[Finding]:
        for number, step in enumerate(configs[name].ensemble_scheduling.step):
            inner = step.model_name
            if inner in (*above, name):
                circle = (*above, name)[(*above, name).index(inner) :]
                yield Finding(
                    name, number, f"runs in a circle, {' -> '.join((*circle, inner))}: remove one of the steps"
                )
            elif inner in configs and inner not in done:
                yield from visit(inner, (*above, name))
        done.add(name)

    for name in configs:
        if name not in done:
            yield from visit(name, ())


def _shaped(owner: str, config: ModelConfig, tensor: ModelConfig) -> _Shaped:
    values = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    batches = config.max_batch_size > 0 if config.HasField("max_batch_size") else None
    return _Shaped(owner, str(values[tensor.data_type].name), tuple(tensor.dims), batches)


def _same(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(one) == len(other) and all(-1 in pair or pair[0] == pair[1] for pair in zip(one, other, strict=True))
