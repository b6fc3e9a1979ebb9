"""What the operator's installation decides for every service: images and how they are pulled."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """From the chart's values, through the operator's environment.

    `triton_image` is empty when the installation has no default; then `spec.runtime.image` is required.
    `pod_monitor` says whether the cluster knows the PodMonitor kind (scrape annotations are used otherwise).
    """

    sidecar_image: str
    triton_image: str = ""
    sidecar_pull_policy: str = "IfNotPresent"
    pod_monitor: bool = False
