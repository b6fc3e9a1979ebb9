"""Whether the models can be loaded in the order that the resource gives them.

Here because Triton loads the steps of an ensemble together with it: an order that puts the ensemble first would be
silently another one. Nothing else has an order of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from nereus.triton.model_config import ModelConfig


class TooEarly(NamedTuple):
    """An ensemble that would be loaded before one of its steps."""

    model: str
    message: str


def findings(orders: Mapping[str, int], configs: Mapping[str, ModelConfig]) -> Iterator[TooEarly]:
    """Every ensemble whose number (`orders`, by model) is below that of a step."""
    for name, config in configs.items():
        if config.WhichOneof("scheduling_choice") != "ensemble_scheduling":
            continue
        steps = {step.model_name for step in config.ensemble_scheduling.step}
        later = sorted(step for step in steps if orders.get(step, 0) > orders.get(name, 0))
        if later:
            yield TooEarly(
                name,
                f"{orders.get(name, 0)} is before {orders[later[0]]} of its step {later[0]!r}, and Triton loads the"
                f" steps of an ensemble with it: raise it to {max(orders[step] for step in later)}",
            )
