{{/* The chart's name, used in labels and as the container's name. */}}
{{- define "registry-grants.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/*
The name of the release's resources. A release that is named after the chart does not get "registry-grants-registry-grants".
It is cut at 50 characters, because the names of the aggregated roles are longer, and labels have at most 63.
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

{{/* The labels that select the Pods. They never change during a release's life, because a Deployment's selector cannot. */}}
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

{{/* A digest identifies the image exactly, so the tag is omitted. */}}
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
Not empty if the API server does not know AWSAccount yet, but this release installs it. Helm looks up every kind of the
manifest before it creates the first resource, so on such a cluster the manifest cannot contain the accounts. accounts.yaml
then makes them a hook.
*/}}
{{- define "registry-grants.accountsAreEarly" -}}
{{- if and .Values.crds.install (not (.Capabilities.APIVersions.Has "registrygrants.dev/v1alpha1/AWSAccount")) -}}
true
{{- end -}}
{{- end -}}
