"""Every metric and label name that a rule, a route or a dashboard uses: names are a contract with series we cannot see.

Label names of ours never collide with target labels. What is read from a service's pods carries `namespace` and the
pod label of the service, put there by the scrape; what the operator says of a service carries `modelservice` and
`modelservice_namespace`, because `namespace`, `pod` and `service` there are those of the operator's own pod and a
label of ours with such a name would be renamed to `exported_namespace`.
"""

NAMESPACE = "namespace"
POD_SERVICE = "serving_nereus_dev_service"
"""The pod label serving.nereus.dev/service, as Prometheus writes it."""
SERVICE = "modelservice"
SERVICE_NAMESPACE = "modelservice_namespace"
POD = "modelservice_pod"
CONTAINER = "modelservice_container"
"""Of the GPU agents, which speak of pods of others."""
ALERT = "alert"

# --- Triton's own (research: which of them lie is said in docs/alerts.md)
SUCCESS = "nv_inference_request_success"
FAILURE = "nv_inference_request_failure"
DURATION_US = "nv_inference_request_duration_us"
QUEUE_US = "nv_inference_queue_duration_us"
COMPUTE_US = "nv_inference_compute_infer_duration_us"
INFERENCES = "nv_inference_count"
EXECUTIONS = "nv_inference_exec_count"
PENDING = "nv_inference_pending_request_count"
LATENCY_BUCKET = "nv_inference_first_response_histogram_ms_bucket"
"""Triton 24.11 and later, with --metrics-config histogram_latencies=true; whole milliseconds, queue included."""
CACHE_HITS = "nv_cache_num_hits_per_model"
CACHE_MISSES = "nv_cache_num_misses_per_model"

# --- the sidecar's
LOADS = "nereus_model_loads_total"
LOAD_FAILURES = "nereus_model_load_failures_total"
LOAD_SECONDS = "nereus_model_load_seconds"
BATCH_FIXED_SECONDS = "nereus_model_batch_fixed_seconds"
BATCH_SECONDS_EACH = "nereus_model_batch_seconds_per_inference"
BATCH_LARGEST = "nereus_model_batch_seen_max"
POD_READY_SECONDS = "nereus_pod_ready_seconds"
POD_FETCHED_SECONDS = "nereus_pod_fetched_seconds"

# --- the operator's, of one service
PODS_WANTED = "nereus_service_pods_wanted"
PODS_READY = "nereus_service_pods_ready"
PODS_MIN = "nereus_service_pods_min"
PODS_MAX = "nereus_service_pods_max"
NOT_READY = "nereus_service_not_ready"
SCALING_BLIND = "nereus_service_scaling_blind"
COLD_START_SECONDS = "nereus_service_cold_start_seconds"
LATENCY_OBJECTIVE = "nereus_service_latency_objective_seconds"
LOAD = "nereus_service_load"
FORECAST = "nereus_service_forecast"
FORECAST_MEDIAN = "nereus_service_forecast_median"
FLOOR = "nereus_service_floor"
REACTIVE = "nereus_service_reactive"
FORECAST_ERROR = "nereus_service_forecast_error"
GPU_LIMIT = "nereus_service_gpu_memory_limit_bytes"
THRESHOLD = "nereus_service_alert_threshold"

# --- the GPU agents', of each container and device
GPU_USED = "nereus_gpu_pod_memory_used_bytes"
GPU_BUSY = "nereus_gpu_pod_utilization_ratio"
GPU_SEEN_LIMIT = "nereus_gpu_pod_memory_limit_bytes"

# --- the operator's, of itself
LEADER = "nereus_operator_leader"
QUEUE_OLDEST = "nereus_operator_queue_oldest_seconds"
WORKING = "nereus_operator_working_seconds"

THRESHOLD_RECORD = "nereus:alert_threshold"
"""THRESHOLD with the labels that series of pods carry, recorded once for all rules of the fleet."""
