"""What Prometheus would see: for every alert the fault, and what must not fire it (healthy, restart, counter reset).

Series are in promtool's notation: `0+60x30` is 0, 60, 120, … one a minute for 30 minutes; `_x5` five missing scrapes.
"""

from __future__ import annotations

from dataclasses import dataclass

POD = 'namespace="prod",serving_nereus_dev_service="resnet",pod="resnet-1"'
SECOND_POD = 'namespace="prod",serving_nereus_dev_service="resnet",pod="resnet-2"'
MODEL = f'{POD},model="m",version="1"'
SECOND_MODEL = f'{SECOND_POD},model="m",version="1"'
OPERATOR = 'modelservice_namespace="prod",modelservice="resnet",namespace="nereus-system",pod="nereus-0"'
BACKEND = f'{MODEL},reason="BACKEND"'
CANCELED = f'{MODEL},reason="CANCELED"'
THRESHOLD = "nereus_service_alert_threshold"


@dataclass(frozen=True)
class Case:
    """Series, one sample each `step` minutes, whether the alert fires at a minute, and what a person reads."""

    alert: str
    what: str
    series: dict[str, str]
    fires: bool
    minute: int
    says: str = ""
    step: int = 1
    """Minutes between two samples and two evaluations; the faults of hours and days are looked at more coarsely."""


def requests(per_minute: int, minutes: int, *, labels: str = MODEL) -> dict[str, str]:
    return {f"nv_inference_request_success{{{labels}}}": f"0+{per_minute}x{minutes}"}


def latency(milliseconds: int, minutes: int = 30) -> dict[str, str]:
    """One request a second, each of this many milliseconds, from Triton's counters."""
    return {
        **requests(60, minutes),
        f"nv_inference_request_duration_us{{{MODEL}}}": f"0+{60 * milliseconds * 1000}x{minutes}",
    }


def histogram(slow_share: float, minutes: int = 30) -> dict[str, str]:
    """100 requests a minute: this share takes between 0.5 and 2 s, the rest below 100 ms."""
    fast = round(100 * (1 - slow_share))
    name = "nv_inference_first_response_histogram_ms_bucket"
    counts = {"100": fast, "500": fast, "2000": 100, "5000": 100, "+Inf": 100}
    return {f'{name}{{{MODEL},le="{le}"}}': f"0+{count}x{minutes}" for le, count in counts.items()}


def operator(metric: str, values: str, labels: str = OPERATOR) -> dict[str, str]:
    return {f"nereus_service_{metric}{{{labels}}}": values}


def gpu(
    metric: str, values: str, *, pod: str = "resnet-1", container: str = "triton", device: str = "GPU-1"
) -> dict[str, str]:
    """From an agent, scraped under its own namespace and pod."""
    whose = f'modelservice_namespace="prod",modelservice="resnet",modelservice_pod="{pod}"'
    labels = f'{whose},modelservice_container="{container}",gpu="{device}",namespace="nereus-system",pod="agent-1"'
    return {f"nereus_gpu_pod_memory_{metric}_bytes{{{labels}}}": values}


CASES = (
    Case("NereusLatencyHigh", "a slow model", latency(800), True, 15, says="took 800 ms"),
    Case("NereusLatencyHigh", "a fast model", latency(40), False, 15),
    Case("NereusLatencyHigh", "slow for two minutes only", latency(800, 2), False, 15),
    Case(
        "NereusLatencyHigh",
        "a histogram with a slow tail, whose mean would look fine",
        {**latency(100), **histogram(0.05)},
        True,
        15,
        says="took 1700 ms",
    ),
    Case("NereusLatencyHigh", "a fast histogram beside a slow mean", {**latency(800), **histogram(0)}, False, 15),
    Case(
        "NereusLatencyHigh",
        "counters that start again at zero",
        {
            f"nv_inference_request_success{{{MODEL}}}": "1000+60x10 0+60x20",
            f"nv_inference_request_duration_us{{{MODEL}}}": "40000000+2400000x10 0+2400000x20",
        },
        False,
        15,
    ),
    Case(
        "NereusModelLoadFailing",
        "every load fails",
        {
            f'nereus_model_loads_total{{{POD},model="m"}}': "0+1x20",
            f'nereus_model_load_failures_total{{{POD},model="m"}}': "0+1x20",
        },
        True,
        5,
        says="100%",
    ),
    Case(
        "NereusModelLoadFailing",
        "a sidecar that counts failures only",
        {f'nereus_model_load_failures_total{{{POD},model="m"}}': "0x5 1x10"},
        True,
        8,
        says="100%",
    ),
    Case(
        "NereusModelLoadFailing",
        "loads that succeed, and a restart of the pod",
        {
            f'nereus_model_loads_total{{{POD},model="m"}}': "5+1x10 0+1x10",
            f'nereus_model_load_failures_total{{{POD},model="m"}}': "2x10 0x10",
        },
        False,
        15,
    ),
    Case(
        "NereusGPUMemoryHigh",
        "a pod at 95 % of the limit that its slice has",
        {**gpu("used", "5x3 9.5x20"), **gpu("limit", "10x30"), **gpu("used", "1x30", pod="resnet-2")},
        True,
        10,
        says="resnet-1 of prod/resnet uses 95%",
    ),
    Case(
        "NereusGPUMemoryHigh",
        "two containers on two devices that fill their pod's share, where only the service has a limit",
        {
            **gpu("used", "6x30"),
            **gpu("used", "4x30", container="sidecar", device="GPU-2"),
            **operator("gpu_memory_limit_bytes", "10x30"),
        },
        True,
        10,
    ),
    Case(
        "NereusGPUMemoryHigh",
        "a healthy pod",
        {**gpu("used", "8.5x30"), **gpu("limit", "10x30"), **operator("gpu_memory_limit_bytes", "9x30")},
        False,
        10,
    ),
    Case(
        "NereusGPUMemoryHigh",
        "two pods that would be too large as one, two replicas of the operator, and no limit of the driver",
        {
            **gpu("used", "8x30"),
            **gpu("used", "8x30", pod="resnet-2"),
            **operator("gpu_memory_limit_bytes", "10x30"),
            **operator("gpu_memory_limit_bytes", "10x30", OPERATOR.replace("nereus-0", "nereus-1")),
        },
        False,
        10,
    ),
    Case(
        "NereusGPUMemoryHigh",
        "a reload that holds two models for less than a minute",
        {**gpu("used", "5x8 9.9 5x20"), **gpu("limit", "10x30")},
        False,
        9,
    ),
    Case(
        "NereusGPUMemoryHigh",
        "an agent that is replaced by another",
        {
            **gpu("used", "8x20"),
            **{name.replace("agent-1", "agent-2"): "_x8 8x20" for name in gpu("used", "")},
            **gpu("limit", "10x30"),
        },
        False,
        10,
    ),
    Case("NereusGPUMemoryHigh", "no limit at all", gpu("used", "99x30"), False, 10),
    Case(
        "NereusQueueBacklog",
        "a full queue over two pods",
        {
            f"nv_inference_pending_request_count{{{MODEL}}}": "70x20",
            f"nv_inference_pending_request_count{{{SECOND_MODEL}}}": "60x20",
        },
        True,
        10,
        says="130 requests",
    ),
    Case("NereusQueueBacklog", "a short queue", {f"nv_inference_pending_request_count{{{MODEL}}}": "90x20"}, False, 10),
    Case(
        "NereusQueueBacklog",
        "a burst of a minute",
        {f"nv_inference_pending_request_count{{{MODEL}}}": "0x8 500 0x20"},
        False,
        10,
    ),
    Case(
        "NereusErrorsFast",
        "a third of the requests fails",
        {**requests(40, 90), f"nv_inference_request_failure{{{BACKEND}}}": "0+20x90"},
        True,
        70,
        says="33.33% of the requests",
    ),
    Case(
        "NereusErrorsFast",
        "failures that ended half an hour ago",
        {**requests(40, 120), f"nv_inference_request_failure{{{BACKEND}}}": "0+40x40 1600x80"},
        False,
        75,
    ),
    Case(
        "NereusErrorsFast",
        "requests that clients cancelled",
        {**requests(40, 90), f"nv_inference_request_failure{{{CANCELED}}}": "0+40x90"},
        False,
        70,
    ),
    Case(
        "NereusErrorsFast",
        "failure counters of a restarted server",
        {
            f"nv_inference_request_success{{{MODEL}}}": "90000+60x60 0+60x60",
            f"nv_inference_request_failure{{{BACKEND}}}": "400x60 0x60",
        },
        False,
        70,
    ),
    Case(
        "NereusErrorsSlow",
        "one in ten requests fails for hours",
        {**requests(450, 84), f"nv_inference_request_failure{{{BACKEND}}}": "0+50x84"},
        True,
        400,
        says="10% of the requests",
        step=5,
    ),
    Case(
        "NereusErrorsSlow",
        "one in a hundred fails, which is allowed",
        {**requests(495, 84), f"nv_inference_request_failure{{{BACKEND}}}": "0+5x84"},
        False,
        400,
        step=5,
    ),
    Case(
        "NereusTrafficVanished",
        "traffic that stops",
        {f"nv_inference_request_success{{{MODEL}}}": "0+60x90 5400x60"},
        True,
        110,
        says="100% of the traffic",
    ),
    Case(
        "NereusTrafficVanished",
        "series that are gone altogether",
        {f"nv_inference_request_success{{{MODEL}}}": "0+60x90 stale"},
        True,
        110,
        says="100% of the traffic",
    ),
    Case("NereusTrafficVanished", "steady traffic", requests(60, 150), False, 110),
    Case(
        "NereusTrafficVanished",
        "traffic that turned into failures",
        {
            f"nv_inference_request_success{{{MODEL}}}": "0+60x90 5400x60",
            f"nv_inference_request_failure{{{BACKEND}}}": "0x90 0+60x60",
        },
        False,
        110,
    ),
    Case(
        "NereusTrafficVanished",
        "a pod replaced by another",
        {
            f"nv_inference_request_success{{{MODEL}}}": "0+60x90 stale",
            f"nv_inference_request_success{{{SECOND_MODEL}}}": "_x90 0+60x60",
        },
        False,
        110,
    ),
    Case(
        "NereusNoPodReady",
        "no pod is ready",
        {**operator("pods_wanted", "2x30"), **operator("pods_ready", "2x10 0x20")},
        True,
        20,
        says="2 pods of prod/resnet are wanted",
    ),
    Case(
        "NereusNoPodReady",
        "scaled to zero on purpose",
        {**operator("pods_wanted", "0x30"), **operator("pods_ready", "0x30")},
        False,
        20,
    ),
    Case(
        "NereusNoPodReady",
        "one of two is ready",
        {**operator("pods_wanted", "2x30"), **operator("pods_ready", "1x30")},
        False,
        20,
    ),
    Case(
        "NereusPodsNotReady",
        "one of two is missing",
        {**operator("pods_wanted", "2x40"), **operator("pods_ready", "1x40")},
        True,
        20,
        says="1 of the pods",
    ),
    Case(
        "NereusPodsNotReady",
        "an outage of half an hour that is over: that was NereusNoPodReady's to tell",
        {**operator("pods_wanted", "2x60"), **operator("pods_ready", "0x30 2x30")},
        False,
        33,
    ),
    Case(
        "NereusPodsNotReady",
        "a restart of ten minutes",
        {**operator("pods_wanted", "2x40"), **operator("pods_ready", "2x5 1x10 2x25")},
        False,
        20,
    ),
    Case(
        "NereusPodsNotReady",
        "two replicas of the operator speak during a hand-over",
        {
            **operator("pods_wanted", "2x40"),
            **operator("pods_ready", "2x40"),
            **operator("pods_wanted", "2x40", OPERATOR.replace("nereus-0", "nereus-1")),
            **operator("pods_ready", "2x40", OPERATOR.replace("nereus-0", "nereus-1")),
        },
        False,
        20,
    ),
    Case(
        "NereusColdStartSlower",
        "starts take twice as long as yesterday",
        operator("cold_start_seconds", "60x288 120x20"),
        True,
        1460,
        says="2.0 times",
        step=5,
    ),
    Case("NereusColdStartSlower", "as yesterday", operator("cold_start_seconds", "60x320"), False, 1460, step=5),
    Case(
        "NereusColdStartSlower",
        "from 3 to 6 seconds",
        operator("cold_start_seconds", "3x288 6x20"),
        False,
        1460,
        step=5,
    ),
    Case("NereusAutoscalerBlind", "blind", operator("scaling_blind", "0x5 1x30"), True, 15, says="cannot read"),
    Case("NereusAutoscalerBlind", "sees", operator("scaling_blind", "0x30"), False, 15),
    Case("NereusAutoscalerBlind", "blind for a moment", operator("scaling_blind", "0x5 1x2 0x30"), False, 15),
    Case(
        "NereusPinnedAtMax",
        "wants what it may not exceed",
        {**operator("pods_wanted", "3x40"), **operator("pods_max", "3x40")},
        True,
        20,
        says="wanted 3 pods",
    ),
    Case(
        "NereusPinnedAtMax",
        "room is left",
        {**operator("pods_wanted", "2x40"), **operator("pods_max", "3x40")},
        False,
        20,
    ),
    Case("NereusForecastOff", "far off", operator("forecast_error", "0.8x60"), True, 40, says="80%"),
    Case("NereusForecastOff", "good enough", operator("forecast_error", "0.2x60"), False, 40),
    Case("NereusOperatorDown", "nobody is scraped", {}, True, 10, says="no metrics of any replica"),
    Case("NereusOperatorDown", "a standby is there", {'nereus_operator_leader{pod="a"}': "0x30"}, False, 10),
    Case(
        "NereusOperatorNotReconciling",
        "no replica leads",
        {'nereus_operator_leader{pod="a"}': "0x30"},
        True,
        10,
        says="0 for no leader",
    ),
    Case(
        "NereusOperatorNotReconciling",
        "a queue that does not move",
        {'nereus_operator_leader{pod="a"}': "1x30", 'nereus_operator_queue_oldest_seconds{pod="a"}': "0+60x30"},
        True,
        20,
        says="0 for no leader",
    ),
    Case(
        "NereusOperatorNotReconciling",
        "one leads, one stands by",
        {
            'nereus_operator_leader{pod="a"}': "1x30",
            'nereus_operator_leader{pod="b"}': "0x30",
            'nereus_operator_queue_oldest_seconds{pod="a"}': "2x30",
            'nereus_operator_working_seconds{pod="a"}': "1x30",
        },
        False,
        20,
    ),
    Case("NereusWatchdog", "always", {}, True, 1, says="always fires"),
)
