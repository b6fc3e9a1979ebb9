"""Which mechanism a service gets: the strongest that the nodes offer, the least waste at equal strength, and why.

Deterministic: the same spec and the same nodes give the same choice, in whatever order the nodes are listed. A choice
is made once. It is kept in the pod template that was rendered from it, as JSON, and taken from there again; what would
be chosen today is only shown (`better`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nereus.api.spec.gpu import Isolation
from nereus.gpu.ask import Ask
from nereus.gpu.mechanisms import REGISTRY, mechanism
from nereus.gpu.nodes import LABEL_PRODUCT, NodeGpus
from nereus.gpu.offer import Mechanism, Offer, Pairs, Strength, gib

MOST_WORDS = 600


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a service's pods get. `places` are the label sets that a node may have (any of them; empty: any node),
    `assumed` says that no node was seen that offers it, `others` why each other mechanism was not taken, `asked` the
    fingerprint of the spec that it was made for."""

    mechanism: Isolation
    resources: Pairs
    asked: str
    effective_bytes: int | None = None
    taken_bytes: int | None = None
    places: tuple[Pairs, ...] = ()
    env: Pairs = ()
    detail: str = ""
    assumed: bool = False
    others: Pairs = ()

    @property
    def strength(self) -> Strength:
        return mechanism(self.mechanism).strength

    def to_json(self) -> str:
        """One text for one choice."""
        return json.dumps(
            {
                "mechanism": self.mechanism.value,
                "resources": dict(self.resources),
                "asked": self.asked,
                "effectiveBytes": self.effective_bytes,
                "takenBytes": self.taken_bytes,
                "places": [dict(place) for place in self.places],
                "env": dict(self.env),
                "detail": self.detail,
                "assumed": self.assumed,
                "others": dict(self.others),
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Choice | None:
        """None when the text is no choice: somebody may have changed the annotation that holds it."""
        try:
            data = json.loads(text)
            return cls(
                mechanism=Isolation(data["mechanism"]),
                resources=_pairs(data["resources"]),
                asked=str(data["asked"]),
                effective_bytes=_amount(data.get("effectiveBytes")),
                taken_bytes=_amount(data.get("takenBytes")),
                places=tuple(_pairs(place) for place in data.get("places", ())),
                env=_pairs(data.get("env", {})),
                detail=str(data.get("detail", "")),
                assumed=bool(data.get("assumed")),
                others=_pairs(data.get("others", {})),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


@dataclass(frozen=True)
class Unavailable:
    """No node can ever give what is asked; `message` names what is missing."""

    message: str


def choose(ask: Ask, nodes: Sequence[NodeGpus] | None, *, asked: str = "") -> Choice | Unavailable:
    """The mechanism for an ask. `nodes` is None when the operator may not read them."""
    if not nodes:
        return _unseen(ask, known=nodes is not None, asked=asked)
    fitting = [node for node in sorted(nodes, key=lambda node: node.name) if ask.product in ("", node.product)]
    if not fitting:
        there = sorted({node.product or f"unlabelled ({node.name})" for node in nodes})
        return Unavailable(f"no node has a GPU {ask.product}; there are: {', '.join(there)[:MOST_WORDS]}")
    asked_of = _asked_of(ask)
    refusals: dict[Isolation, str] = {}
    options: list[tuple[Mechanism, Choice]] = []
    for entry in asked_of:
        offers, why = _offers(entry, fitting, ask)
        grouped, ambiguous = _grouped(entry, offers, nodes, asked)
        options += [(entry, option) for option in grouped]
        if not grouped:
            refusals[entry.name] = ambiguous or why
    if not options:
        return Unavailable(_nothing(ask, refusals))
    order = {entry.name: index for index, entry in enumerate(REGISTRY)}
    ranked = sorted(options, key=lambda option: (*_rank(ask, option[1]), order[option[0].name], option[1].resources))
    best = ranked[0][1]
    for _, option in reversed(ranked[1:]):
        if option.mechanism is not best.mechanism:
            refusals[option.mechanism] = _beaten(ask, option, best)
    return replace(best, others=tuple((name.value, refusals[name]) for name in order if name in refusals))


def better(kept: Choice, ask: Ask, nodes: Sequence[NodeGpus] | None) -> str:
    """What would be chosen today instead, when that is stronger, or wastes less at equal strength; otherwise empty."""
    fresh = choose(ask, nodes)
    if isinstance(fresh, Unavailable) or fresh.assumed:
        return ""
    strength, waste, _ = _rank(ask, fresh)
    before, wasted, _ = _rank(ask, kept)
    known = kept.taken_bytes is not None and fresh.taken_bytes is not None and ask.memory_bytes is not None
    if strength < before or (strength == before and known and waste < wasted):
        what = f"{fresh.mechanism} ({fresh.strength.word}, takes {gib(fresh.taken_bytes)})"
        return f"{what} is offered now; the annotation serving.nereus.dev/rollout with a new value moves to it"
    return ""


def missing(kept: Choice, ask: Ask, nodes: Sequence[NodeGpus] | None) -> str:
    """Why no node offers what was chosen any more (or yet); empty when one does, or when nobody may look."""
    if nodes is None or units(kept, ask, nodes) != 0:
        return ""
    fresh = choose(replace(ask, isolation=kept.mechanism), nodes)
    if isinstance(fresh, Unavailable):
        return fresh.message
    wanted = " and ".join(f"{name}: {amount}" for name, amount in kept.resources)
    return f"no node offers {wanted} as it was chosen ({kept.mechanism}{f', {kept.detail}' if kept.detail else ''})"


def units(kept: Choice, ask: Ask, nodes: Sequence[NodeGpus] | None) -> int | None:
    """How many pods of a choice the nodes take when they are empty; None when that is not known."""
    if nodes is None:
        return None
    entry, total = mechanism(kept.mechanism), 0
    for node in nodes:
        offer = entry.offer(node, replace(ask, isolation=kept.mechanism))
        if isinstance(offer, str) or offer.resources != kept.resources:
            continue
        if kept.places and not any(set(place) <= set(offer.labels) for place in kept.places):
            continue
        if offer.units is None:
            return None
        total += offer.units
    return total


def _asked_of(ask: Ask) -> tuple[Mechanism, ...]:
    if ask.isolation is not Isolation.AUTO:
        return (mechanism(ask.isolation),)
    # Without a limit asked for, a share would be a smaller GPU than anybody spoke of.
    return REGISTRY if ask.memory_bytes is not None else (mechanism(Isolation.EXCLUSIVE),)


def _offers(entry: Mechanism, nodes: Iterable[NodeGpus], ask: Ask) -> tuple[list[Offer], str]:
    """What a mechanism offers, and in words why the other nodes do not."""
    offers: list[Offer] = []
    refused: dict[str, list[str]] = {}
    for node in nodes:
        offer = entry.offer(node, ask)
        if isinstance(offer, str):
            refused.setdefault(offer, []).append(node.name)
        else:
            offers.append(offer)
    return offers, "; ".join(f"{_named(who)}: {why}" for why, who in refused.items())[:MOST_WORDS]


def _named(nodes: Sequence[str]) -> str:
    return nodes[0] if len(nodes) == 1 else f"{nodes[0]} and {len(nodes) - 1} more"


def _grouped(
    entry: Mechanism, offers: Iterable[Offer], nodes: Sequence[NodeGpus], asked: str
) -> tuple[list[Choice], str]:
    """Offers that are the same to a pod, as one choice each; and why none, where offers cannot be told apart."""
    groups: dict[tuple[Pairs, Pairs, int | None], list[Offer]] = {}
    for offer in offers:
        groups.setdefault((offer.resources, offer.env, offer.effective_bytes), []).append(offer)
    found, ambiguous = [], ""
    for (resources, env, effective), together in groups.items():
        members = together
        places = tuple(sorted({offer.labels for offer in members}))
        resource = resources[0][0]
        holders = [node for node in nodes if node.allocatable.get(resource, 0) > 0]
        if () in places and not members[0].own_scheduler and len(holders) > len(members):
            ambiguous = f"{resource} means different things on different nodes, and no label tells them apart:"
            ambiguous += " run GPU feature discovery"
            members = [offer for offer in members if offer.labels]
            places = tuple(place for place in places if place)
        if not members:
            continue
        taken = [offer.taken_bytes for offer in members]
        known = [amount for amount in taken if amount is not None]
        found.append(
            Choice(
                mechanism=entry.name,
                resources=resources,
                asked=asked,
                effective_bytes=effective,
                taken_bytes=max(known) if len(known) == len(taken) else None,
                places=() if () in places else places,
                env=env,
                detail=members[0].detail,
            )
        )
    return found, ambiguous


def _rank(ask: Ask, option: Choice) -> tuple[int, int, bool]:
    """Smaller is better: strength, waste in bytes, then whether another pod's fault can hurt."""
    taken = option.taken_bytes
    waste = sys.maxsize if taken is None else max(0, taken - (ask.memory_bytes or 0))
    return -option.strength, waste, not mechanism(option.mechanism).isolates_faults


def _beaten(ask: Ask, option: Choice, best: Choice) -> str:
    if option.strength < best.strength:
        return f"only {option.strength.word}"
    if option.taken_bytes != best.taken_bytes and ask.memory_bytes is not None:
        return f"takes {gib(option.taken_bytes)}"
    return "does not isolate faults"


def _nothing(ask: Ask, refusals: Mapping[Isolation, str]) -> str:
    wanted = f"{gib(ask.memory_bytes)} of GPU memory" if ask.memory_bytes else "a whole GPU"
    if ask.count > 1:
        wanted = f"{ask.count} whole GPUs"
    reasons = "; ".join(f"{name.value}: {why}" for name, why in refusals.items())
    return f"no node gives {wanted}: {reasons[: 2 * MOST_WORDS]}; {_remedy(ask)}"


def _remedy(ask: Ask) -> str:
    """What can be done about it, in the spec or on the nodes."""
    if ask.count > 1:
        return "lower gpu.count, or add a node with so many whole GPUs"
    lower = "lower gpu.memory, or add a node" if ask.memory_bytes is not None else "add a node"
    if ask.isolation is Isolation.AUTO:
        return f"{lower} that gives it"
    return f"{lower} with what {ask.isolation.value} needs ({mechanism(ask.isolation).needs}), or name no gpu.isolation"


def _unseen(ask: Ask, *, known: bool, asked: str) -> Choice | Unavailable:
    """Without a node to look at: what was named is taken at its word, so that a node may still come for the pods."""
    name = ask.isolation
    if name is Isolation.AUTO:
        if ask.memory_bytes is not None:
            why = "no node has a GPU" if known else "the operator may not read nodes (chart value gpu.readNodes)"
            return Unavailable(f"{why}, so what enforces gpu.memory cannot be chosen: name gpu.isolation")
        name = Isolation.EXCLUSIVE
    offer = mechanism(name).assumed(ask)
    if isinstance(offer, str):
        return Unavailable(f"{name.value}: {offer}")
    labels = (
        (ask.product, f"{ask.product}-SHARED") if name not in (Isolation.EXCLUSIVE, Isolation.MIG) else (ask.product,)
    )
    return Choice(
        mechanism=name,
        resources=offer.resources,
        asked=asked,
        effective_bytes=offer.effective_bytes,
        taken_bytes=offer.taken_bytes,
        places=tuple(((LABEL_PRODUCT, label),) for label in labels) if ask.product else (),
        env=offer.env,
        detail=offer.detail,
        assumed=True,
    )


def _pairs(value: Any) -> Pairs:
    return tuple((str(name), str(text)) for name, text in dict(value).items())


def _amount(value: Any) -> int | None:
    return None if value is None else int(value)
