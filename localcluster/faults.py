"""Ending and starting single components, for tests of what happens meanwhile. By recorded id, never by name."""

from __future__ import annotations

import signal
from pathlib import Path

from localcluster import cluster as cluster_module
from localcluster import processes
from localcluster.components import Component, components
from localcluster.config import Cluster
from localcluster.report import Progress, Refusal


def _component(cluster: Cluster, name: str, programs: Path) -> Component:
    plan = components(cluster, programs)
    if name not in plan:
        raise Refusal(f"component {name}: cluster {cluster.name} has {', '.join(plan)}")
    return plan[name]


def kill_component(cluster: Cluster, name: str, *, programs: Path) -> None:
    """End a component at once, as a crash would, and return when it is gone."""
    component = _component(cluster, name, programs)
    process = processes.recorded(cluster.record(component.name))
    if process is None:
        raise Refusal(f"component {name} of cluster {cluster.name} does not run")
    process.signal(signal.SIGKILL)
    if processes.wait_for_end([process], timeout_seconds=10.0):
        raise Refusal(f"component {name} (pid {process.pid}) did not end")


def start_component(cluster: Cluster, name: str, *, programs: Path, progress: Progress) -> None:
    """Start a component that ended, and return when it is up."""
    component = _component(cluster, name, programs)
    cluster_module.start(cluster, component, progress=progress)
    cluster_module.wait_for(cluster, component, progress=progress)
