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
    """Where the services lie: `number` is the axis, `blocks` how many entries each service has along it (all first
    ones, then all second ones)."""

    number: int
    blocks: int

    def places(self, services: Ints, array: Array) -> Ints:
        """The entries of some services along this axis."""
        total = array.shape[self.number] // self.blocks
        return np.concatenate([services + block * total for block in range(self.blocks)])


def blank(services: int) -> FleetPolicy:
    """A fleet that has seen nothing."""
    return FleetPolicy(services, latency=np.full(services, LATENCY_SECONDS), violations=np.full(services, VIOLATIONS))


def resized(fleet: FleetPolicy, before: int, after: int) -> FleetPolicy:
    """A fleet of another size with the same services in its first columns; `after` is at least `before`."""
    grown = blank(after)
    _copy_common(fleet, grown)
    kept = np.arange(min(before, after))
    copy(fleet, kept, grown, kept)
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
        there[path][(*before, axis.places(to, there[path]))] = array[(*before, axis.places(from_, array))]


def _copy_common(source: object, target: object) -> None:
    """Numbers that are the same for all services, such as the minute; not the size of the fleet."""
    sized = _sizes()
    for (path, owner, name, value), (_, other, _, _) in zip(_leaves(source), _leaves(target), strict=True):
        if path in sized or owner is None:
            continue
        if isinstance(value, np.ndarray):
            if path not in _axes():
                getattr(other, name)[...] = value
        else:
            setattr(other, name, value)


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
def _sizes() -> frozenset[str]:
    """Attributes that hold the size of the fleet itself."""
    one, two = _leaves(blank(1)), _leaves(blank(2))
    return frozenset(
        path
        for (path, _, _, a), (_, _, _, b) in zip(one, two, strict=True)
        if not isinstance(a, np.ndarray) and isinstance(a, int | float | str) and a != b
    )
