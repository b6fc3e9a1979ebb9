"""Who gets which plan now, and why: one pod first, then the rest. Pure.

A changed plan is tried by one pod while every other pod, and every pod that starts meanwhile, runs the last good one;
it becomes the plan of all when that pod reports that it serves it. Where the pod template changes too, the pods of the
new template try it: the Deployment brings them up one after the other and keeps the former ones until they serve.
The same way is taken where a pod's memory cannot hold the old and the new models at once: then the pods are replaced
instead of changed.

What stands is read from the live ConfigMaps (nereus.api.stages), so nothing is remembered here. A change that fails
stays with the pod that tries it, whose Triton goes on with the old models, until the spec or the source is corrected.

Decides only; the ConfigMaps are written, and the pods told, by the controller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from nereus.api import names
from nereus.api.protocol import PLAN_KEY, ModelPlan, ModelState, PodReport, model_key
from nereus.api.stages import NEXT_KEY, Bundle, NextPlan, bundle, next_bundle, next_model_key
from nereus.triton import model_config
from nereus.triton.model_config import ConfigError


class Phase(Enum):
    """How far a change is."""

    DONE = "Done"
    TRYING = "Trying"
    REPLACING = "Replacing"
    WAITING = "Waiting"


@dataclass(frozen=True, kw_only=True)
class RunningPod:
    """A pod that neither ended nor is about to. `prefix` is its `generateName`: one per pod template; `ready` is the
    kubelet's word; `report` is None while its sidecar has not been heard."""

    name: str
    prefix: str = ""
    created: str = ""
    ready: bool = False
    report: PodReport | None = None


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What surrounds a change. `rolling` is True while pods of a former template are left, None while the Deployment
    has not said; `template_changes` says that a new template is about to be applied. `restarted` is the revision that
    the pods were replaced for last; `memory_limit_bytes` is what Triton's container may use."""

    pods: tuple[RunningPod, ...] = ()
    template_changes: bool = False
    rolling: bool | None = False
    restarted: str = ""
    memory_limit_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What is to be done: the data of the ConfigMaps, who tries what, and the plan to keep before it is replaced."""

    data: tuple[dict[str, str], ...]
    stable: Bundle
    phase: Phase = Phase.DONE
    following: NextPlan | None = None
    kept: Bundle | None = None
    message: str = ""

    @property
    def first(self) -> tuple[str, ...]:
        """The pods that were named to try it."""
        return self.following.pods if self.following else ()

    @property
    def restart(self) -> str:
        """The revision for which the pods are to be replaced; empty when none are."""
        return self.following.plan.revision if self.following and self.following.restart else ""

    def revision_of(self, pod: str) -> str:
        """The plan that the pod of this name shall run."""
        tried = self.following is not None and self.following.runs_in(pod)
        return self.following.plan.revision if tried and self.following else self.stable.revision


def decide(
    wanted: Bundle, shards: Sequence[Mapping[str, str]], live: Sequence[Mapping[str, str]], situation: Situation
) -> Stage:
    """What to do now for `wanted` (`shards` is its ConfigMap data), given the data of the ConfigMaps as they are."""
    data = {key: text for shard in live for key, text in shard.items()}
    stable, tried = bundle(data), next_bundle(data)
    whole = Stage(data=_padded(shards, len(live)), stable=wanted)
    if stable is None or stable.revision == wanted.revision:
        return whole  # the first plan, one that somebody spoiled, or nothing to change
    serving = [pod for pod in situation.pods if pod.ready]
    promoted = replace(whole, kept=stable)
    if not serving:
        return replace(promoted, message="no pod serves, so there is nothing to protect")
    following = tried[0] if tried and tried[1].revision == wanted.revision else None
    former_try = tried[0] if tried else None
    if _by_template(following, situation):
        following, proven = _replacing(wanted, following, former_try, situation)
    elif why := _too_large(stable, wanted, situation):
        following, proven = _replacing(wanted, NextPlan(plan=wanted.plan, restart=why), former_try, situation)
    else:
        heard = [pod for pod in serving if pod.report is not None]
        if heard and not any(pod.report and pod.report.stages for pod in heard):
            return replace(promoted, message="the sidecars of the running pods know no stages")
        following, proven = _trying(wanted, following, former_try, situation)
    if proven:
        return promoted
    packed = _packed(shards_of(stable, live), wanted, stable, following)
    if packed is None:
        return replace(promoted, message="the former and the new plan do not fit into the ConfigMaps together")
    return Stage(
        data=_padded(packed, len(live)),
        stable=stable,
        phase=_phase(following),
        following=following,
        kept=stable,
        message=_words(following, situation),
    )


def serves(report: PodReport | None, wanted: Bundle) -> bool:
    """Whether a pod says that it serves every model of a plan as the plan has it."""
    if report is None or report.revision != wanted.revision or not report.ready:
        return False
    loaded = {model.name for model in report.models if model.state is ModelState.READY}
    return set(wanted.plan.models) <= loaded


def shards_of(stable: Bundle, live: Sequence[Mapping[str, str]]) -> tuple[dict[str, str], ...]:
    """The part of the live ConfigMaps that belongs to the plan that everybody runs."""
    keys = {PLAN_KEY, *(model_key(name) for name in stable.plan.models)}
    return tuple({key: text for key, text in shard.items() if key in keys} for shard in live)


def _by_template(following: NextPlan | None, situation: Situation) -> bool:
    """Whether the pods of a new template try the change, instead of one pod that runs already."""
    if situation.template_changes:
        return True
    if following is not None and following.former is not None:
        begun = not following.restart or situation.restarted == following.plan.revision
        return not begun or situation.rolling is not False or _newcomers(following, situation) != []
    return situation.rolling is True


def _replacing(
    wanted: Bundle, following: NextPlan | None, former_try: NextPlan | None, situation: Situation
) -> tuple[NextPlan, bool]:
    """The pods of the new template run it; proven when one of them serves it and no former pod is left."""
    former = former_try.former if former_try else None
    if former is None or (situation.template_changes and former_try and not _formers(former_try, situation)):
        former = tuple(sorted({pod.prefix for pod in situation.pods if pod.prefix}))
    restart = following.restart if following else ""
    made = NextPlan(plan=wanted.plan, former=former, restart=restart)
    if situation.template_changes or situation.rolling is not False:
        return made, False
    if restart and situation.restarted != wanted.revision:
        return made, False
    newcomers = _newcomers(made, situation)
    everybody = len(newcomers) == len(situation.pods)
    return made, everybody and any(pod.ready and serves(pod.report, wanted) for pod in newcomers)


def _newcomers(following: NextPlan, situation: Situation) -> list[RunningPod]:
    return [pod for pod in situation.pods if following.runs_in(pod.name)]


def _formers(following: NextPlan, situation: Situation) -> list[RunningPod]:
    return [pod for pod in situation.pods if not following.runs_in(pod.name)]


def _trying(
    wanted: Bundle, following: NextPlan | None, former_try: NextPlan | None, situation: Situation
) -> tuple[NextPlan, bool]:
    """One running pod tries it: the one that tries already, or else the oldest that serves and understands."""
    alive = {pod.name: pod for pod in situation.pods}
    named = [name for name in (following or former_try or NextPlan(plan=wanted.plan)).pods if name in alive]
    able = [pod for pod in situation.pods if pod.ready and pod.report and pod.report.stages and pod.report.ready]
    chosen = named[:1] or [pod.name for pod in sorted(able, key=lambda pod: (pod.created, pod.name))[:1]]
    made = NextPlan(plan=wanted.plan, pods=tuple(chosen))
    return made, any(serves(alive[name].report, wanted) for name in chosen)


def _phase(following: NextPlan) -> Phase:
    if following.former is not None:
        return Phase.REPLACING
    return Phase.TRYING if following.pods else Phase.WAITING


def _words(following: NextPlan, situation: Situation) -> str:
    if following.restart:
        return f"pods are replaced one after the other, because {following.restart}"
    if following.former is not None:
        return "the pods of the new template try the changed models and settings; the others go on with the former ones"
    others = len(situation.pods) - len(following.pods)
    if not following.pods:
        return "the changed models and settings wait for a pod that can try them first: none reports yet that it serves"
    rest = f"; {others} other{'s' if others > 1 else ''} and new pods go on with the former ones" if others else ""
    back = _taken_back(following, situation)
    if back:
        return f"pod {following.pods[0]} went back to the former models and settings: {back}; they are not tried again"
    return f"pod {following.pods[0]} tries the changed models and settings first{rest}"


def _taken_back(following: NextPlan, situation: Situation) -> str:
    """Why the pod that tries a plan does not try it any more; empty while it does."""
    reports = (pod.report for pod in situation.pods if pod.name in following.pods and pod.report)
    return next((report.rejected_why for report in reports if report.rejected == following.plan.revision), "")


# --- memory


def _too_large(stable: Bundle, wanted: Bundle, situation: Situation) -> str:
    """Why the old and the new models do not fit into a pod at once; empty when they may.

    A lower bound: a loaded model takes at least the size of its files, and while it is loaded again it is there twice.
    What cannot be known is taken to fit. The pod with the largest files counts.
    """
    limit = situation.memory_limit_bytes
    again = _loaded_again(stable, wanted) if limit else ()
    if limit is None or not again:
        return ""
    worst = ""
    for pod in situation.pods:
        sizes = {model.name: model.version_bytes or 0 for model in (pod.report.models if pod.report else ())}
        name = max(again, key=lambda each: sizes.get(each, 0))
        needed = sum(sizes.values()) + sizes.get(name, 0)
        if sizes.get(name, 0) and needed > limit:
            whole, once_more = (f"{amount / 2**20:,.0f} MiB" for amount in (sum(sizes.values()), sizes[name]))
            worst = (
                f"the memory limit of {limit / 2**20:,.0f} MiB cannot hold the models ({whole} of files) and"
                f" {name} ({once_more}) a second time"
            )
    return worst


def _loaded_again(stable: Bundle, wanted: Bundle) -> tuple[str, ...]:
    """The models that Triton loads anew behind the ones that serve."""
    both = [name for name in wanted.documents if name in stable.documents]
    return tuple(name for name in both if _reloads(stable.documents[name], wanted.documents[name]))


def _reloads(old: str, new: str) -> bool:
    """Whether a changed document means a second copy. Triton applies another number of instances and other versions to
    the model that serves (ConfigChangeRequiresReload in core's model_config_utils.cc)."""
    if old == new:
        return False
    try:
        return _in_place(ModelPlan.from_json(old)) != _in_place(ModelPlan.from_json(new))
    except (ValueError, KeyError, TypeError):
        return True


def _in_place(plan: ModelPlan) -> ModelPlan:
    return replace(
        plan,
        config_text=_without_instances(plan.config_text),
        fields_text=_without_instances(plan.fields_text),
        versions=(),
        load_order=0,
        load_seconds=0.0,
        optional=False,
    )


def _without_instances(text: str) -> str:
    try:
        config = model_config.parse(text)
    except ConfigError:
        return text
    config.ClearField("instance_group")
    config.ClearField("version_policy")
    return model_config.to_text(config)


# --- packing


def _padded(shards: Iterable[Mapping[str, str]], count: int) -> tuple[dict[str, str], ...]:
    """As many as there are already: a ConfigMap that is left over must not hold an outdated document."""
    made = [dict(shard) for shard in shards]
    return tuple(made + [{} for _ in range(count - len(made))])


def _packed(
    shards: Sequence[dict[str, str]], wanted: Bundle, stable: Bundle, following: NextPlan
) -> tuple[dict[str, str], ...] | None:
    """The plan of everybody with the tried one beside it; None when there is no room."""
    made = [dict(shard) for shard in shards]
    entries = [(NEXT_KEY, following.to_json())]
    entries += [
        (next_model_key(name), text) for name, text in wanted.documents.items() if stable.documents.get(name) != text
    ]
    for key, text in entries:
        needed = len(key.encode()) + len(text.encode())
        room = (shard for shard in made if _size(shard) + needed <= names.PLAN_SHARD_BYTES)
        place = next(room, None)
        if place is None:
            if len(made) == names.PLAN_SHARDS or needed > names.PLAN_SHARD_BYTES:
                return None
            made.append(place := {})
        place[key] = text
    return tuple(made)


def _size(shard: Mapping[str, str]) -> int:
    return sum(len(key.encode()) + len(text.encode()) for key, text in shard.items())
