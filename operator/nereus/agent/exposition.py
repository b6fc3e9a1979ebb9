"""The last look as Prometheus metrics. What is not known has no sample: an absent series is not a zero.

Names and labels are a contract with dashboards and alerts (nereus.alerting uses them). Whose the memory is stands under
names that no scrape gives to its targets: `namespace`, `pod` and `container` there are those of the agent itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from nereus.gpu.usage import NodeUsage

POD_LABELS = ("modelservice_namespace", "modelservice", "modelservice_pod", "modelservice_container", "gpu")
DEVICE_LABELS = ("gpu", "product", "parent")


class Exposition(Collector):
    """Collects from the sampler's last look."""

    def __init__(self, usage: Callable[[], NodeUsage], service: Callable[[str, str], str]) -> None:
        self._usage = usage
        self._service = service

    def collect(self) -> Iterable[GaugeMetricFamily]:
        usage = self._usage()
        up = _gauge("nereus_gpu_agent_up", "1 while the driver answers, 0 with the reason in /v1/usage.", ())
        up.add_metric((), 0.0 if usage.trouble else 1.0)
        yield up
        simulated = _gauge("nereus_gpu_agent_simulated", "1 where the GPUs are simulated, not real.", ())
        simulated.add_metric((), float(usage.simulated))
        yield simulated
        for name, words, field in (
            ("nereus_gpu_pod_memory_used_bytes", "GPU memory that a container uses on a device.", "used_bytes"),
            ("nereus_gpu_pod_memory_peak_bytes", "The most that it used, as seen once a second.", "peak_bytes"),
            ("nereus_gpu_pod_memory_limit_bytes", "The limit that hardware or driver report for it.", "limit_bytes"),
            ("nereus_gpu_pod_utilization_ratio", "Share of time that it kept the GPU busy, 0 to 1.", "utilization"),
        ):
            family = _gauge(name, words, POD_LABELS)
            for pod in usage.pods:
                if (value := getattr(pod, field)) is not None:
                    service = self._service(pod.namespace, pod.pod)
                    family.add_metric((pod.namespace, service, pod.pod, pod.container, pod.device), float(value))
            yield family
        for name, words, field in (
            ("nereus_gpu_device_memory_total_bytes", "Memory of a GPU or of a MIG slice.", "total_bytes"),
            ("nereus_gpu_device_memory_used_bytes", "Used memory of a GPU or of a MIG slice.", "used_bytes"),
            ("nereus_gpu_device_utilization_ratio", "Share of time that a GPU was busy, 0 to 1.", "utilization"),
        ):
            family = _gauge(name, words, DEVICE_LABELS)
            for device in usage.devices:
                if (value := getattr(device, field)) is not None:
                    family.add_metric((device.uuid, device.product, device.parent), float(value))
            yield family


def _gauge(name: str, words: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, labels=list(labels))
