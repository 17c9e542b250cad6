"""The defaults of built-in kinds that clients rely on (k8s.io/kubernetes/pkg/apis/*/v1/defaults.go).

`apply_defaults` changes the object it is given. An update may share parts with the stored object; those have
their defaults already, so nothing changes in them.
"""

from __future__ import annotations

import base64
from typing import Any

Object = dict[str, Any]


def apply_defaults(key: str, obj: Object) -> None:
    """`key` is the resource's storage name."""
    default = _BY_RESOURCE.get(key)
    if default is not None:
        default(obj)


def strip_nulls(value: Any) -> Any:
    """A null in a built-in kind is an absent field. Shares what holds none."""
    if isinstance(value, dict):
        if any(v is None or isinstance(v, dict | list) for v in value.values()):
            return {k: strip_nulls(v) for k, v in value.items() if v is not None}
        return value
    if isinstance(value, list):
        return [strip_nulls(item) for item in value]
    return value


def _namespace(obj: Object) -> None:
    obj["metadata"]["labels"] = {
        **(obj["metadata"].get("labels") or {}),
        "kubernetes.io/metadata.name": obj["metadata"].get("name", ""),
    }
    obj.setdefault("spec", {})
    obj.setdefault("status", {"phase": "Active"})


def _pod(obj: Object) -> None:
    _pod_spec(obj.setdefault("spec", {}))
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def _pod_spec(spec: Object) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    if account := spec.get("serviceAccountName") or spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for container in [*_dicts(spec.get("initContainers")), *_dicts(spec.get("containers"))]:
        _container(container)
    for volume in _dicts(spec.get("volumes")):
        _volume(volume)


def _container(container: Object) -> None:
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition(":")[2]
    latest = tag in ("", "latest") and "@" not in image
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    container.setdefault("resources", {})
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    for port in _dicts(container.get("ports")):
        port.setdefault("protocol", "TCP")
    for variable in _dicts(container.get("env")):
        source = variable.get("valueFrom")
        if isinstance(source, dict) and isinstance(source.get("fieldRef"), dict):
            source["fieldRef"].setdefault("apiVersion", "v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(name)
        if isinstance(probe, dict):
            _probe(probe)


def _probe(probe: Object) -> None:
    for name, value in (
        *(("timeoutSeconds", 1), ("periodSeconds", 10)),
        *(("successThreshold", 1), ("failureThreshold", 3)),
    ):
        if not probe.get(name):
            probe[name] = value
    get = probe.get("httpGet")
    if isinstance(get, dict):
        get.setdefault("path", "/")
        get.setdefault("scheme", "HTTP")


def _volume(volume: Object) -> None:
    for name in ("configMap", "secret", "downwardAPI", "projected"):
        source = volume.get(name)
        if isinstance(source, dict):
            source.setdefault("defaultMode", 0o644)
    projected = volume.get("projected")
    for source in _dicts(projected.get("sources")) if isinstance(projected, dict) else ():
        token = source.get("serviceAccountToken")
        if isinstance(token, dict):
            token.setdefault("expirationSeconds", 3600)
    if not set(volume) - {"name"}:
        volume["emptyDir"] = {}


def _deployment(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    if isinstance(strategy, dict):
        strategy.setdefault("type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            if isinstance(rolling, dict):
                rolling.setdefault("maxUnavailable", "25%")
                rolling.setdefault("maxSurge", "25%")
    template = spec.get("template")
    if isinstance(template, dict):
        template.setdefault("metadata", {})
        pod = template.setdefault("spec", {})
        if isinstance(pod, dict):
            _pod_spec(pod)
    obj.setdefault("status", {})


def _service(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    for port in _dicts(spec.get("ports")):
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port")
    obj.setdefault("status", {"loadBalancer": {}})


def _secret(obj: Object) -> None:
    plain = obj.pop("stringData", None)
    if isinstance(plain, dict):
        encoded = {k: base64.b64encode(str(v).encode()).decode() for k, v in plain.items()}
        obj["data"] = {**(obj.get("data") or {}), **encoded}
    obj.setdefault("type", "Opaque")


def _role_binding(obj: Object) -> None:
    role = obj.get("roleRef")
    if isinstance(role, dict) and not role.get("apiGroup"):
        role["apiGroup"] = "rbac.authorization.k8s.io"
    for subject in _dicts(obj.get("subjects")):
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", "rbac.authorization.k8s.io")
        if subject.get("apiGroup") == "":
            del subject["apiGroup"]


def _webhooks(obj: Object) -> None:
    mutating = obj.get("kind") == "MutatingWebhookConfiguration"
    for webhook in _dicts(obj.get("webhooks")):
        webhook.setdefault("failurePolicy", "Fail")
        webhook.setdefault("matchPolicy", "Equivalent")
        webhook.setdefault("namespaceSelector", {})
        webhook.setdefault("objectSelector", {})
        webhook.setdefault("timeoutSeconds", 10)
        if mutating:
            webhook.setdefault("reinvocationPolicy", "Never")
        for rule in _dicts(webhook.get("rules")):
            rule.setdefault("scope", "*")
        config = webhook.get("clientConfig")
        if isinstance(config, dict) and isinstance(config.get("service"), dict):
            config["service"].setdefault("port", 443)


def _network_policy(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    spec.setdefault("policyTypes", ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])


def _dicts(items: Any) -> list[Object]:
    """The objects of a list that may be missing or wrong: validation speaks about the rest."""
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


_BY_RESOURCE = {
    "namespaces": _namespace,
    "pods": _pod,
    "services": _service,
    "secrets": _secret,
    "deployments.apps": _deployment,
    "rolebindings.rbac.authorization.k8s.io": _role_binding,
    "clusterrolebindings.rbac.authorization.k8s.io": _role_binding,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": _webhooks,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": _webhooks,
    "networkpolicies.networking.k8s.io": _network_policy,
}
