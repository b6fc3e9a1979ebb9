"""Every reason that a condition or a status entry may carry, with its meaning and its remedy.

The reference in docs/status.md is generated from here. A reason is a promise to scripts: none is renamed.
"""

from __future__ import annotations

from enum import StrEnum


class ConditionType(StrEnum):
    """The conditions of a ModelService. `Stalled` exists only while it is true (kstatus reads it as Failed)."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> ConditionType:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    READY = "Ready", "The summary: every wanted pod serves every declared model. Its reason is the column REASON."
    PROGRESSING = "Progressing", "Something is under way: creation, a rollout, a change of the number of pods."
    MODELS_LOADED = "ModelsLoaded", "Every declared model is loaded in every pod."
    SCALING_ACTIVE = "ScalingActive", "The number of pods follows its metrics; False where it is set by hand or cannot."
    ALERTS_INSTALLED = "AlertsInstalled", "Prometheus itself has loaded the alert rules of this service."
    GPU_MEMORY_ENFORCED = (
        "GPUMemoryEnforced",
        "Whether the pods cannot take more GPU memory than spec.gpu.memory; True only when that was seen. Present only"
        " where spec.gpu.memory is.",
    )
    METRICS_AVAILABLE = (
        "MetricsAvailable",
        "The load is read from Prometheus. False: nothing is taken away until it is. Under Predictive and Reactive.",
    )
    FORECAST_TRUSTED = (
        "ForecastTrusted",
        "The forecast of the load is acted upon. False: only the present load is. Under Predictive.",
    )
    STALLED = "Stalled", "Nothing goes on until a person acts. Present only while it is true."


class Reason(StrEnum):
    """CamelCase words for why something is as it is. `meaning` and `remedy` are for people."""

    meaning: str
    remedy: str

    def __new__(cls, value: str, meaning: str, remedy: str = "") -> Reason:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        member.remedy = remedy
        return member

    # --- it works
    SERVING = "Serving", "Every wanted pod serves every declared model."
    SCALED_TO_ZERO = (
        "ScaledToZero",
        "Strategy Manual with replicas 0: no pod is wanted.",
        "Raise scaling.replicas.",
    )
    COMPLETE = "Complete", "Nothing is under way."
    LOADED = "Loaded", "Every declared model is loaded in every pod."
    SCALING = "Scaling", "The autoscaler reads its metrics and sets the number of pods."
    MANUAL = "Manual", "The number of pods is scaling.replicas; nothing scales by itself."

    # --- how far the load and its forecast can be believed
    METRICS_FRESH = "Fresh", "Every ready pod's load was read a moment ago."
    METRICS_NO_PODS = "NoPods", "No pod is ready, so there is no load to read."
    METRICS_RECOVERING = "Recovering", "Samples arrive again; rates are whole in a moment."
    METRICS_MISSING = (
        "Missing",
        "Prometheus answers and has no series of this service.",
        "Let Prometheus scrape the pods: they carry prometheus.io annotations, or a PodMonitor is made.",
    )
    METRICS_STALE = (
        "Stale",
        "The newest sample is too old.",
        "See in Prometheus whether its targets are up, and whether it is overloaded.",
    )
    METRICS_PARTIAL = (
        "Partial",
        "Not every ready pod, or not every model, was seen.",
        "See in Prometheus which targets are down.",
    )
    METRICS_INVALID = "Invalid", "A figure is no number, or is below zero.", "See the message; report it if it lasts."
    METRICS_SLOW = (
        "Slow",
        "Prometheus did not answer within the deadline.",
        "Give Prometheus more resources, or raise the chart's prometheus.timeoutSeconds.",
    )
    METRICS_UNREACHABLE = (
        "Unreachable",
        "Prometheus cannot be reached.",
        "Check that it runs, and the chart's prometheus.url.",
    )
    METRICS_DENIED = "Denied", "Prometheus refuses the operator.", "Check the credentials in the chart's prometheus."
    METRICS_NOT_PROMETHEUS = (
        "NotPrometheus",
        "What answers at the configured address is no Prometheus.",
        "Correct the chart's prometheus.url.",
    )
    METRICS_NOT_CONFIGURED = (
        "NotConfigured",
        "The operator knows no Prometheus.",
        "Set the chart's prometheus.url, or spec.scaling.strategy to Metrics or Manual.",
    )
    METRICS_UNREAD = "NotReadYet", "The load has not been read yet."
    FORECAST_HOLDS = "BoundsHold", "The forecast's bounds hold."
    FORECAST_LEARNING = "Learning", "Too little load is known yet; a wide margin is kept."
    FORECAST_MISSED = (
        "BoundsMissed",
        "The forecast's bounds were missed too often; the present load decides until they hold again.",
    )

    # --- it is on its way
    RECONCILING = "Reconciling", "A change of the resource is being carried out."
    CREATING = "Creating", "The first pods are being created."
    CHANGING = (
        "Changing",
        "One pod tries changed models and settings before the others get them; the former ones are served meanwhile.",
    )
    ROLLING_OUT = "RollingOut", "Pods of the former template are being replaced."
    SCALING_PODS = "ScalingPods", "Pods are being added or removed."
    CONTAINERS_STARTING = (
        "ContainersStarting",
        "A pod is placed; its images are pulled and its containers start.",
    )
    FETCHING_MODELS = "FetchingModels", "The sidecar fetches model files."
    LOADING_MODELS = "LoadingModels", "Triton loads and warms up models."
    # --- GPU memory
    LIMIT_ENFORCED = "LimitEnforced", "Hardware or driver hold the GPU memory limit, and the GPU agents see that."
    LIMIT_NOT_PROVEN = (
        "LimitNotProven",
        "The GPU memory limit ought to hold; nobody has seen yet that it does. The message says what is missing.",
        "Install the GPU agent (chart value gpu.agent.enabled), or wait until a pod uses its GPU.",
    )
    LIMIT_SOFT = (
        "LimitSoft",
        "The GPU memory limit holds for ordinary processes; the message says what escapes it.",
        "Where that is not enough, offer MIG slices or whole GPUs and set gpu.isolation.",
    )
    LIMIT_NOT_ENFORCED = (
        "LimitNotEnforced",
        "Nothing limits the GPU memory of a pod: time-slicing only counts shares.",
        "Offer MIG, MPS or HAMi on the nodes, or set gpu.onExceed: Evict.",
    )
    LIMIT_MISSING = (
        "LimitMissing",
        "The GPU agent sees that the limit which was asked for is not in effect.",
        "Check what the message names; docs/gpu-isolation.md lists what each mechanism needs.",
    )
    METRICS_PENDING = "MetricsPending", "The autoscaler is new and has not read its metrics yet."

    # --- somebody has to do something
    OBJECTIVE_TOO_SHORT = (
        "ObjectiveTooShort",
        "One inference alone takes longer than scaling.objective.latency: no number of pods keeps it.",
        "Raise scaling.objective.latency, or make the model faster.",
    )
    SUSPENDED = "Suspended", "spec.suspend is true: nothing is reconciled.", "Set spec.suspend to false."
    INVALID_SPEC = (
        "InvalidSpec",
        "The spec cannot be rendered; what ran before goes on unchanged.",
        "Correct the field that the message names and apply again.",
    )
    APPLY_FAILED = (
        "ApplyFailed",
        "The API server refused an object of this service.",
        "Read the server's words in the message; often a quota, an admission policy or a missing right.",
    )
    NAME_TAKEN = (
        "NameTaken",
        "An object with the needed name exists and belongs to somebody else; it is left alone.",
        "Rename the ModelService, or remove the other object.",
    )
    PODS_REFUSED = (
        "PodsRefused",
        "The API server refuses to create pods: a quota, a limit range or an admission policy.",
        "Read the message; raise the quota or change the field that the policy names.",
    )
    UNSCHEDULABLE = (
        "Unschedulable",
        "The scheduler finds no node for a pod.",
        "The message holds the scheduler's words: lower runtime.resources, change the selectors, or add a node.",
    )
    GPU_UNAVAILABLE = (
        "GPUUnavailable",
        "No node offers the GPU that spec.gpu asks for; the message says what each kind of node lacks.",
        "Lower gpu.memory, choose another gpu.isolation or gpu.product, or prepare a node.",
    )
    GPU_NOT_USED = (
        "GPUNotUsed",
        "A model of a service with a GPU runs on the CPU, or a pod with a GPU does not use it.",
        "Check that the image has the backend's GPU build and that instances.kind is not CPU.",
    )
    GPU_MEMORY_EXCEEDED = (
        "GPUMemoryExceeded",
        "A pod uses more GPU memory than spec.gpu.memory.",
        "Raise gpu.memory, serve less, choose an isolation that is Hard, or set gpu.onExceed: Evict.",
    )
    GPU_MEMORY_TOO_SMALL = (
        "GPUMemoryTooSmall",
        "The models need more GPU memory than spec.gpu.memory, while they serve or while one is loaded anew.",
        "Raise gpu.memory; the message holds the sum.",
    )
    IMAGE_PULL_FAILED = (
        "ImagePullFailed",
        "An image cannot be pulled.",
        "Check the image name and runtime.imagePullSecrets.",
    )
    CONTAINER_CONFIG_ERROR = (
        "ContainerConfigError",
        "The kubelet cannot build a container or mount a volume, often for a missing Secret, ConfigMap or claim.",
        "Create what the message names, or correct the reference.",
    )
    FETCH_FAILED = (
        "FetchFailed",
        "A model's files cannot be fetched; the sidecar keeps trying.",
        "Check source.uri; the message holds the last words of the source.",
    )
    MODEL_CONFIG_INVALID = (
        "ModelConfigInvalid",
        "The configuration in the source and in the resource do not make a valid model configuration.",
        "Correct config.pbtxt, configText or the field that the message names.",
    )
    OUT_OF_MEMORY = (
        "OutOfMemory",
        "A container was killed because it reached its memory limit.",
        "Raise runtime.resources.limits.memory, or lower instances or maxBatchSize.",
    )
    CRASHING = (
        "Crashing",
        "A container keeps ending; the message holds its exit code and last lines.",
        "Read the last lines; `kubectl logs POD -c CONTAINER --previous` has the rest.",
    )
    MODEL_LOAD_FAILED = (
        "ModelLoadFailed",
        "Triton cannot load a model; the message holds Triton's words. Models that served before go on serving.",
        "Correct the model or its configuration; the sidecar tries again by itself.",
    )
    CHANGE_TAKEN_BACK = (
        "ChangeTakenBack",
        "Triton ended while a pod tried changed models and settings; that pod went back to the former ones.",
        "Correct spec.models or set them back; `kubectl logs POD -c triton --previous` has Triton's last lines. A pod"
        " that is replaced tries the same change once more.",
    )
    UNHEALTHY = (
        "Unhealthy",
        "A pod runs but does not answer its probes or its state.",
        "See the pod's events and the sidecar's log.",
    )
    EVICTED = "Evicted", "The kubelet removed a pod, for example for lack of memory or disk on the node."
    DRIFTED = (
        "Drifted",
        "Somebody changed a model in Triton, past the resource; it was put right. Said for ten minutes.",
        "Find who calls the repository API: its key is only in the pod.",
    )
    HPA_BLIND = (
        "MetricsUnavailable",
        "The autoscaler cannot read a metric; it holds the number of pods.",
        "Check that metrics-server or the metrics adapter runs; the message holds the controller's words.",
    )
    HPA_FAILED = (
        "ScalingFailed",
        "The autoscaler cannot act.",
        "Read the controller's words in the message.",
    )
    RULES_LOADED = "RulesLoaded", "Prometheus lists the alert rules of this service as loaded."
    RULES_PENDING = "RulesPending", "The rules were written; Prometheus has not loaded them yet."
    RULES_UNVERIFIED = (
        "RulesUnverified",
        "The rules exist, and Prometheus could not be asked whether it has loaded them.",
        "Set the chart value prometheus.url to the address of the Prometheus that evaluates the rules.",
    )
    RULES_NOT_LOADED = (
        "RulesNotLoaded",
        "Prometheus answers and does not have these rules: no alert of this service can fire.",
        "Compare its labels with ruleSelector of the Prometheus object; chart value alerts.ruleLabels adds some.",
    )
    RULES_REFUSED = (
        "RulesRefused",
        "The API server, an admission webhook or Prometheus refuses the rules; the former ones stay.",
        "Read the words in the message.",
    )
    NO_RULE_KIND = (
        "NoRuleKind",
        "The cluster has no kind PrometheusRule, so nothing evaluates alerts of this service.",
        "Install prometheus-operator, or use the fleet's rules: see docs/alerts.md.",
    )
    ALERTS_OFF = "AlertsOff", "No alerts are wished.", "Chart value alerts.rules, or spec.alerts.disable."
    UNKNOWN = "Unknown", "Nothing has been observed yet."
