{{/* The rules of templates/admissionpolicy.yaml, in CEL. `object` is what shall be, `oldObject` what is; each is null where there is none. */}}

{{/* Release names repeat from namespace to namespace, names of policies must not. */}}
{{- define "capf.policyName" -}}
{{ printf "%s.%s.%s" (include "capf.fullname" (index . 0)) (index . 0).Release.Namespace (index . 1) }}
{{- end -}}

{{/* Deployment, Service and PodDisruptionBudget of a proxy's endpoints: (list $ "deployments"). */}}
{{- define "capf.policyOfEndpoints" -}}
variables:
  - name: proxy
    expression: object.metadata.?labels[?'capf.dev/proxy'].orValue('')
  - name: selector
    expression: "{'app.kubernetes.io/name': 'capf-endpoint', 'capf.dev/proxy': variables.proxy}"
  - name: labels
    expression: >-
      {'app.kubernetes.io/name': 'capf-endpoint', 'app.kubernetes.io/instance': variables.proxy,
      'app.kubernetes.io/managed-by': 'capf-operator', 'capf.dev/proxy': variables.proxy}
  - name: oldProxy
    expression: oldObject.metadata.?labels[?'capf.dev/proxy'].orValue('')
  {{- if eq (index . 1) "deployments" }}
  - name: pod
    expression: object.spec.template.spec
  - name: container
    expression: variables.pod.containers[0]
  - name: oldPod
    expression: oldObject.spec.template.spec
  {{- end }}
validations:
  - message: controllers change and delete only what they have made, labelled so and of a CertificateAuthorityProxy
    reason: Forbidden
    expression: >-
      oldObject == null || (
      oldObject.metadata.?labels[?'app.kubernetes.io/managed-by'].orValue('') == 'capf-operator' &&
      oldObject.metadata.name == variables.oldProxy + '-endpoint' &&
      oldObject.metadata.?ownerReferences.orValue([]).all(o, !o.?controller.orValue(false) ||
      (o.apiVersion.startsWith('capf.dev/') && o.kind == 'CertificateAuthorityProxy' && o.name == variables.oldProxy)))
  - message: controllers make only PROXY-endpoint, labelled as theirs, with the CertificateAuthorityProxy PROXY as controller
    reason: Forbidden
    expression: >-
      object == null || (
      object.metadata.name == variables.proxy + '-endpoint' &&
      variables.labels.all(l, object.metadata.?labels[?l].orValue('') == variables.labels[l]) &&
      object.metadata.?ownerReferences.orValue([]).exists(o, o.?controller.orValue(false) &&
      o.apiVersion.startsWith('capf.dev/') && o.kind == 'CertificateAuthorityProxy' && o.name == variables.proxy))
  {{- include (printf "capf.policyOf.%s" (index . 1)) (index . 0) | nindent 2 }}
{{- end -}}

{{- define "capf.policyOf.deployments" -}}
- message: endpoints select and are labelled by their proxy alone, and are 16 at most
  reason: Forbidden
  expression: >-
    object == null || (
    object.spec.?selector.?matchLabels.orValue({}) == variables.selector && !object.spec.?selector.?matchExpressions.hasValue() &&
    object.spec.template.?metadata.?labels.orValue({}) == variables.labels && object.spec.?replicas.orValue(1) <= 16)
- message: a pod of endpoints has one container, and none before it or beside it
  reason: Forbidden
  expression: >-
    object == null || (size(variables.pod.containers) == 1 && size(variables.pod.?initContainers.orValue([])) == 0)
# What is there may stay: controllers of before run on while an upgrade brings another image.
- message: endpoints run the image {{ include "capf.image" . }}
  reason: Forbidden
  expression: >-
    object == null || variables.container.image == {{ include "capf.image" . | squote }} ||
    (oldObject != null && variables.oldPod.containers.exists(c, c.image == variables.container.image))
- message: the container runs `endpoint`, with no command, environment or hook of its own, probed at its own address
  reason: Forbidden
  expression: >-
    object == null || (
    !has(variables.container.command) && variables.container.?args[?0].orValue('') == 'endpoint' &&
    size(variables.container.?env.orValue([])) == 0 && size(variables.container.?envFrom.orValue([])) == 0 &&
    !variables.container.?lifecycle.?postStart.hasValue() &&
    (!variables.container.?lifecycle.?preStop.hasValue() || variables.container.lifecycle.preStop.?sleep.hasValue()) &&
    [variables.container.?livenessProbe, variables.container.?readinessProbe, variables.container.?startupProbe].all(p,
    !p.hasValue() || (p.value().?httpGet.hasValue() && p.value().httpGet.?host.orValue('') == '')))
- message: the only volume is the Secret PROXY-endpoint
  reason: Forbidden
  expression: >-
    object == null || (size(variables.pod.?volumes.orValue([])) == 1 &&
    variables.pod.volumes[0].?secret.?secretName.orValue('') == object.metadata.name &&
    size(variables.container.?volumeDevices.orValue([])) == 0)
- message: endpoints run as service account {{ .Values.endpoints.serviceAccountName }}, whose token is not mounted
  reason: Forbidden
  expression: >-
    object == null || (variables.pod.?automountServiceAccountToken.orValue(true) == false &&
    (variables.pod.?serviceAccountName.orValue('default') == {{ .Values.endpoints.serviceAccountName | squote }} ||
    (oldObject != null &&
    variables.pod.?serviceAccountName.orValue('default') == variables.oldPod.?serviceAccountName.orValue('default'))))
{{- $secrets := list }}
{{- range .Values.image.pullSecrets }}{{- $secrets = append $secrets (squote .) }}{{- end }}
- message: images are pulled with the Secrets that the chart names
  reason: Forbidden
  expression: >-
    object == null || variables.pod.?imagePullSecrets.orValue([]).all(s, s.name in [{{ join ", " $secrets }}] ||
    (oldObject != null && variables.oldPod.?imagePullSecrets.orValue([]).exists(o, o.name == s.name)))
- message: endpoints take nothing of their node, no network, processes, ports or place on it
  reason: Forbidden
  expression: >-
    object == null || (
    !variables.pod.?hostNetwork.orValue(false) && !variables.pod.?hostPID.orValue(false) &&
    !variables.pod.?hostIPC.orValue(false) && variables.pod.?nodeName.orValue('') == '' &&
    size(variables.pod.?securityContext.?sysctls.orValue([])) == 0 && size(variables.pod.?resourceClaims.orValue([])) == 0 &&
    variables.container.?ports.orValue([]).all(p, p.?hostPort.orValue(0) == 0))
- message: endpoints run as user 65532, under the seccomp profile of the runtime
  reason: Forbidden
  expression: >-
    object == null || (
    variables.pod.?securityContext.?runAsNonRoot.orValue(false) && variables.pod.?securityContext.?runAsUser.orValue(0) == 65532 &&
    variables.pod.?securityContext.?seccompProfile.?type.orValue('') == 'RuntimeDefault' &&
    !variables.container.?securityContext.?runAsUser.hasValue() &&
    !variables.container.?securityContext.?runAsNonRoot.hasValue() &&
    !variables.container.?securityContext.?seccompProfile.hasValue())
- message: endpoints have no privilege and no capability, gain none, and write to no file of their own
  reason: Forbidden
  expression: >-
    object == null || (
    !variables.pod.?securityContext.?seLinuxOptions.hasValue() &&
    variables.pod.?securityContext.?appArmorProfile.?type.orValue('RuntimeDefault') == 'RuntimeDefault' &&
    !variables.container.?securityContext.?seLinuxOptions.hasValue() &&
    variables.container.?securityContext.?appArmorProfile.?type.orValue('RuntimeDefault') == 'RuntimeDefault' &&
    variables.container.?securityContext.?procMount.orValue('Default') == 'Default' &&
    !variables.container.?securityContext.?privileged.orValue(false) &&
    !variables.container.?securityContext.?allowPrivilegeEscalation.orValue(true) &&
    variables.container.?securityContext.?readOnlyRootFilesystem.orValue(false) &&
    variables.container.?securityContext.?capabilities.?drop.orValue([]) == ['ALL'] &&
    size(variables.container.?securityContext.?capabilities.?add.orValue([])) == 0)
{{- end -}}

{{- define "capf.policyOf.services" -}}
{{- /* What others have written there stays: some load balancers keep their address in it. */}}
- message: the Service of endpoints selects them alone, by no other name and at no address of somebody else's
  reason: Forbidden
  expression: >-
    object == null || (
    object.spec.?selector.orValue({}) == variables.selector && object.spec.?type.orValue('') != 'ExternalName' &&
    object.spec.?externalIPs.orValue([]).all(ip, oldObject != null && ip in oldObject.spec.?externalIPs.orValue([])) &&
    (object.spec.?loadBalancerIP.orValue('') == '' ||
    (oldObject != null && object.spec.loadBalancerIP == oldObject.spec.?loadBalancerIP.orValue(''))))
- message: the Service of endpoints has the one port, of TCP
  reason: Forbidden
  expression: >-
    object == null || (size(object.spec.?ports.orValue([])) == 1 &&
    object.spec.ports.all(p, p.?protocol.orValue('TCP') == 'TCP'))
{{- end -}}

{{- define "capf.policyOf.poddisruptionbudgets" -}}
- message: the PodDisruptionBudget is of endpoints alone, and lets all but one go
  reason: Forbidden
  expression: >-
    object == null || (
    object.spec.?selector.?matchLabels.orValue({}) == variables.selector && !object.spec.?selector.?matchExpressions.hasValue() &&
    object.spec.?minAvailable.orValue(0) == 1 && !object.spec.?maxUnavailable.hasValue())
{{- end -}}

{{- define "capf.policyOf.secrets" -}}
variables:
  - name: proxy
    expression: object.metadata.?labels[?'capf.dev/proxy'].orValue('')
  - name: kinds
    expression: "{'capf.dev/issuer': '-issuer', 'capf.dev/service': '-service', 'capf.dev/endpoint-bundle': '-endpoint'}"
validations:
  - message: controllers change Secrets only of the types capf.dev/issuer, capf.dev/service and capf.dev/endpoint-bundle
    reason: Forbidden
    expression: request.operation != 'UPDATE' || oldObject.?type.orValue('') in variables.kinds
  - message: controllers delete Secrets only of the type capf.dev/authentication-string
    reason: Forbidden
    expression: request.operation != 'DELETE' || oldObject.?type.orValue('') == 'capf.dev/authentication-string'
  - message: >-
      controllers make Secrets only of their types and names: PROXY-issuer, PROXY-service and PROXY-endpoint with the label of
      the proxy, OPERATION-string with that operation as owner, and capf-controller in their own namespace
    reason: Forbidden
    expression: >-
      object == null || (object.?type.orValue('') in variables.kinds ?
      object.metadata.name == variables.proxy + variables.kinds[object.type] :
      object.?type.orValue('') == 'capf.dev/authentication-string' ?
      object.metadata.?ownerReferences.orValue([]).exists(o, o.apiVersion.startsWith('capf.dev/') &&
      o.kind == 'CertificateOperation' && object.metadata.name == o.name + '-string') :
      object.?type.orValue('') == 'capf.dev/controller' && object.metadata.name == 'capf-controller' &&
      object.metadata.namespace == {{ .Release.Namespace | squote }})
{{- end -}}

{{- define "capf.policyOf.configmaps" -}}
validations:
  - message: controllers write only the ConfigMap PROXY-certificates, with the label of the proxy
    reason: Forbidden
    expression: >-
      request.operation != 'DELETE' && [object, oldObject].filter(map, map != null).all(map,
      map.metadata.name == map.metadata.?labels[?'capf.dev/proxy'].orValue('') + '-certificates')
{{- end -}}

{{- define "capf.policyOf.leases" -}}
validations:
  - message: controllers write only the Lease capf-controller in their own namespace
    reason: Forbidden
    expression: request.name == 'capf-controller' && request.namespace == {{ .Release.Namespace | squote }}
{{- end -}}
