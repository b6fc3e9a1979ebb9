"""Moves the state of single services between fleets: a fleet has a fixed number of columns, services come and go.

Knows no attribute by name: which axis of which array runs over the services shows in the shapes of a fleet of one and
a fleet of two, so that the policy may keep whatever it likes. Everything that is no array is common to all services.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from nereus.api.objective import LATENCY_SECONDS, VIOLATIONS
from nereus.scaling.arrays import Array, Ints
from nereus.scaling.fleet import FleetPolicy

_ROOM = "nereus.scaling."


@dataclass(frozen=True)
class _Axis:
    """Where the services lie: `number` is the axis, `each` how many neighbouring entries every service has along it."""

    number: int
    each: int

    def places(self, services: Ints) -> Ints:
        """The entries of some services along this axis."""
        return (services[:, None] * self.each + np.arange(self.each)).ravel()


def blank(services: int) -> FleetPolicy:
    """A fleet that has seen nothing."""
    return FleetPolicy(services, latency=np.full(services, LATENCY_SECONDS), violations=np.full(services, VIOLATIONS))


def resize(fleet: FleetPolicy, after: int) -> None:
    """Gives a fleet room for more services; those it has stay in its first columns. Array by array, so that no more
    than one of them is there twice meanwhile."""
    axes, fresh, sizes = _axes(), dict(_arrays(blank(1))), _sizes()
    for path, owner, name in [(path, owner, name) for path, owner, name, _ in _leaves(fleet)]:
        if path in axes:
            setattr(owner, name, _grown(getattr(owner, name), axes[path], fresh[path], after))
        elif path in sizes:
            setattr(owner, name, sizes[path] * after)


def _grown(array: Array, axis: _Axis, fresh: Array, after: int) -> Array:
    shape = (*array.shape[: axis.number], axis.each * after, *array.shape[axis.number + 1 :])
    if fresh.any():
        grown = np.tile(fresh, [after if number == axis.number else 1 for number in range(array.ndim)])
    else:
        grown = np.zeros(shape, array.dtype)  # takes no memory before it is written
    grown[(*(slice(None),) * axis.number, slice(array.shape[axis.number]))] = array
    return grown


def copy(
    source: FleetPolicy, from_: Ints, target: FleetPolicy, to: Ints, *, parts: Sequence[str] | None = None
) -> None:
    """Copies the columns `from_` of one fleet onto the columns `to` of another: all of them, or of some attributes of
    the fleet alone."""
    axes = _axes()
    there = dict(_arrays(target))
    for path, array in _arrays(source):
        axis = axes.get(path)
        if axis is None or (parts is not None and path.split(".")[1] not in parts):
            continue
        before: tuple[Any, ...] = (slice(None),) * axis.number
        there[path][(*before, axis.places(to))] = array[(*before, axis.places(from_))]


def _leaves(owner: object, path: str = "") -> Iterator[tuple[str, object, str, Any]]:
    """Every attribute in a tree of objects of this room: its path, whose it is, its name and its value."""
    for name, value in sorted(vars(owner).items()):
        here = f"{path}.{name}"
        if type(value).__module__.startswith(_ROOM) and hasattr(value, "__dict__"):
            yield from _leaves(value, here)
        else:
            yield here, owner, name, value


def _arrays(owner: object) -> Iterator[tuple[str, Array]]:
    for path, _, _, value in _leaves(owner):
        if isinstance(value, np.ndarray):
            yield path, value


@cache
def _axes() -> dict[str, _Axis]:
    one, two = dict(_arrays(blank(1))), dict(_arrays(blank(2)))
    found = {}
    for path, array in one.items():
        growing: Sequence[int] = [
            number for number, (a, b) in enumerate(zip(array.shape, two[path].shape, strict=True)) if a != b
        ]
        if growing:
            (number,) = growing
            found[path] = _Axis(number, two[path].shape[number] - array.shape[number])
    return found


@cache
def _sizes() -> dict[str, int]:
    """Numbers that grow with the fleet, as those of one service are."""
    one, two = _leaves(blank(1)), _leaves(blank(2))
    return {
        path: a
        for (path, _, _, a), (_, _, _, b) in zip(one, two, strict=True)
        if isinstance(a, int) and isinstance(b, int) and a != b
    }
