"""Resources of the rate limiter over all models of a service: Triton knows a name once, for the server or per device.

Here because no model alone is wrong: Triton refuses whichever of two models it loads second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nereus.triton.model_config import ModelConfig


def conflicts(configs: Mapping[str, ModelConfig]) -> Iterator[tuple[str, str]]:
    """The models, in their order, that use a resource in another way than one before them: (model, message)."""
    first: dict[str, tuple[str, bool]] = {}
    for model, config in configs.items():
        found = {
            resource.name: bool(getattr(resource, "global"))
            for group in config.instance_group
            for resource in group.rate_limiter.resources
        }
        for name, shared in found.items():
            other, as_there = first.setdefault(name, (model, shared))
            if as_there != shared:
                here, there = (
                    ("for the whole server", "per device") if shared else ("per device", "for the whole server")
                )
                yield (
                    model,
                    f"resource {name!r} is {here} and in model {other!r} {there}: Triton takes one of the two;"
                    " give them different names, or the same value of global",
                )
