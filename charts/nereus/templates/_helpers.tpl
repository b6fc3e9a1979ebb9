{{- define "nereus.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains "nereus" .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-nereus" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "nereus.selectorLabels" -}}
app.kubernetes.io/name: nereus
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "nereus.labels" -}}
{{ include "nereus.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "nereus.agentSelectorLabels" -}}
app.kubernetes.io/name: nereus
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gpu-agent
{{- end -}}

{{- define "nereus.agentLabels" -}}
{{ include "nereus.agentSelectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "nereus.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "nereus.fullname" .) -}}
{{- end -}}

{{- /* "true" when the External Metrics API is ours to serve. */ -}}
{{- define "nereus.externalMetrics" -}}
{{- $wish := toString .Values.externalMetrics.enabled -}}
{{- if eq $wish "true" -}}
true
{{- else if and (eq $wish "auto") .Values.prometheus.url (not .Values.watchNamespaces) -}}
{{- $found := lookup "apiregistration.k8s.io/v1" "APIService" "" "v1beta1.external.metrics.k8s.io" | default dict -}}
{{- $by := dig "spec" "service" dict $found | default dict -}}
{{- $ours := and (eq ($by.namespace | default "") .Release.Namespace) (eq ($by.name | default "") (include "nereus.fullname" .)) -}}
{{- if or (not $found) $ours -}}
true
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "nereus.image" -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .appVersion) -}}
{{- end -}}

{{- /* The rights that are needed in every watched namespace. Each is needed: see docs/operations.md. */ -}}
{{- define "nereus.rules" -}}
- apiGroups: [serving.nereus.dev]
  resources: [modelservices]
  verbs: [list, watch]
- apiGroups: [serving.nereus.dev]
  resources: [modelservices/status]
  verbs: [patch]
- apiGroups: [serving.nereus.dev] # lets us own objects where blockOwnerDeletion is guarded
  resources: [modelservices/finalizers]
  verbs: [update]
# What serves is never deleted by the operator: garbage collection does it, with the ModelService.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps] # the floor
  resources: [deployments/scale]
  verbs: [patch]
- apiGroups: [apps] # pod templates; the newest ten are kept
  resources: [controllerrevisions]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [get, list, watch, create, patch]
- apiGroups: [autoscaling] # deleted under strategy Manual
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""] # patch: an annotation that makes the kubelet refresh the plan at once
  resources: [pods]
  verbs: [list, watch, patch]
{{- if .Values.gpu.agent.enabled }}
- apiGroups: [""] # spec.gpu.onExceed: Evict
  resources: [pods/eviction]
  verbs: [create]
{{- end }}
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors]
  verbs: [get, create, patch]
- apiGroups: [monitoring.coreos.com] # deleted when alerts are switched off or all disabled
  resources: [prometheusrules]
  verbs: [get, create, patch, delete]
{{- end -}}

{{- /* NAME=VALUE,... as the operator reads it. */ -}}
{{- define "nereus.ruleLabels" -}}
{{- $labels := list -}}
{{- range $name, $value := .Values.alerts.ruleLabels -}}
{{- $labels = append $labels (printf "%s=%s" $name $value) -}}
{{- end -}}
{{- join "," $labels -}}
{{- end -}}
