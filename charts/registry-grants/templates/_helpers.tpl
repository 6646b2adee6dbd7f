{{/* The chart's name, as it stands in labels and as the container's name. */}}
{{- define "registry-grants.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/*
The name of what is made. A release that is called after the chart does not get "registry-grants-registry-grants".
Cut at 50, for the names of the aggregated roles are longer than this one, and labels end at 63.
*/}}
{{- define "registry-grants.fullname" -}}
{{- $name := include "registry-grants.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $full | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "registry-grants.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "registry-grants.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name: name the ServiceAccount to use, or set serviceAccount.create to true" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What selects the Pods: never changes in a release's life, for a Deployment's selector cannot. */}}
{{- define "registry-grants.selectorLabels" -}}
app.kubernetes.io/name: {{ include "registry-grants.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "registry-grants.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "registry-grants.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* A digest says exactly which image; a tag beside it would only be decoration. */}}
{{- define "registry-grants.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Not empty where the API server does not know AWSAccount yet, but will before this release is through. Helm looks up
every kind of the manifest before it creates the first resource of it, so on such a cluster the accounts cannot stand
in the manifest: accounts.yaml makes them a hook then.
*/}}
{{- define "registry-grants.accountsAreEarly" -}}
{{- if and .Values.crds.install (not (.Capabilities.APIVersions.Has "registrygrants.dev/v1alpha1/AWSAccount")) -}}
true
{{- end -}}
{{- end -}}
