"""What the API server demands of built-in kinds, as far as our clients can get it wrong.

Sentences are Kubernetes' own (k8s.io/kubernetes/pkg/apis/*/validation).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from conformance.cluster.embedded.apiserver.field_errors import (
    duplicate,
    forbidden,
    invalid,
    required,
    unsupported,
)
from conformance.cluster.embedded.apiserver.names import LABEL_RE, LABEL_TEXT
from conformance.cluster.embedded.apiserver.pod_validation import pod_spec_errors, pod_update_errors
from conformance.cluster.embedded.apiserver.status import FieldError

Object = Mapping[str, Any]
Errors = Iterator[FieldError]

_CONFIG_KEY_RE = re.compile(r"^[-._a-zA-Z0-9]+$")


def object_errors(obj: Object, old: Object | None, *, key: str) -> list[FieldError]:
    """Everything wrong with a built-in object; `old` is the stored one of an update."""
    check = _BY_RESOURCE.get(key)
    return list(check(obj, old)) if check is not None else []


def _pod(obj: Object, old: Object | None) -> Errors:
    yield from pod_spec_errors(obj["spec"], "spec")
    if old is not None:
        yield from pod_update_errors(obj["spec"], old["spec"])


def _deployment(obj: Object, old: Object | None) -> Errors:
    spec = obj["spec"]
    if spec.get("replicas", 0) < 0:
        yield invalid("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    template = spec.get("template") or {}
    selector = spec.get("selector")
    if not selector:
        yield required("spec.selector", "")
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield invalid("spec.selector", "{}", "empty selector is invalid for deployment")
    else:
        labels = (template.get("metadata") or {}).get("labels") or {}
        wanted = selector.get("matchLabels") or {}
        if any(labels.get(name) != value for name, value in wanted.items()):
            yield invalid(
                "spec.template.metadata.labels", labels, "`selector` does not match template `labels`"
            )
    if old is not None and selector != old["spec"].get("selector"):
        yield invalid("spec.selector", selector, "field is immutable")
    pod = template.get("spec") or {}
    yield from pod_spec_errors(pod, "spec.template.spec")
    if (policy := pod.get("restartPolicy", "Always")) != "Always":
        yield unsupported("spec.template.spec.restartPolicy", policy, ("Always",))
    strategy = (spec.get("strategy") or {}).get("type", "RollingUpdate")
    if strategy not in ("Recreate", "RollingUpdate"):
        yield unsupported("spec.strategy.type", strategy, ("Recreate", "RollingUpdate"))


def _service(obj: Object, old: Object | None) -> Errors:
    spec = obj["spec"]
    kind = spec.get("type", "ClusterIP")
    kinds = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if kind not in kinds:
        yield unsupported("spec.type", kind, kinds)
    ports = spec.get("ports") or []
    if not ports and kind != "ExternalName" and spec.get("clusterIP") != "None":
        yield required("spec.ports", "")
    if kind == "ExternalName" and not spec.get("externalName"):
        yield required("spec.externalName", "")
    names: set[str] = set()
    sockets: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        name = port.get("name", "")
        if len(ports) > 1 and not name:
            yield required(f"{path}.name", "")
        if name:
            if not LABEL_RE.match(name):
                yield invalid(f"{path}.name", name, LABEL_TEXT)
            if name in names:
                yield duplicate(f"{path}.name", name)
            names.add(name)
        number = port.get("port", 0)
        if not 1 <= number <= 65535:
            yield invalid(f"{path}.port", number, "must be between 1 and 65535, inclusive")
        target = port.get("targetPort")
        if isinstance(target, int) and not 1 <= target <= 65535:
            yield invalid(f"{path}.targetPort", target, "must be between 1 and 65535, inclusive")
        protocol = port.get("protocol", "TCP")
        if protocol not in ("SCTP", "TCP", "UDP"):
            yield unsupported(f"{path}.protocol", protocol, ("SCTP", "TCP", "UDP"))
        if (protocol, number) in sockets:
            yield duplicate(path, {"port": number, "protocol": protocol})
        sockets.add((protocol, number))
    if old is not None and "ExternalName" not in (kind, old["spec"].get("type")):
        before = old["spec"].get("clusterIP")
        if before and spec.get("clusterIP") != before:
            yield invalid("spec.clusterIPs[0]", spec.get("clusterIP", ""), "may not change once set")


def _config_map(obj: Object, old: Object | None) -> Errors:
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    for path, mapping in (("data", data), ("binaryData", binary)):
        yield from _data_key_errors(path, mapping)
    if old is not None and old.get("immutable"):
        if not obj.get("immutable"):
            yield forbidden("immutable", "field is immutable when `immutable` is set")
        if (obj.get("data"), obj.get("binaryData")) != (old.get("data"), old.get("binaryData")):
            yield forbidden("data", "field is immutable when `immutable` is set")


def _secret(obj: Object, old: Object | None) -> Errors:
    yield from _data_key_errors("data", obj.get("data") or {})
    for name, value in (obj.get("data") or {}).items():
        try:
            binascii.a2b_base64(value, strict_mode=True)
        except (binascii.Error, ValueError):
            yield invalid(f"data[{name}]", "<secret contents redacted>", "illegal base64 data")
    if old is not None and obj.get("type") != old.get("type"):
        yield invalid("type", obj.get("type", ""), "field is immutable")
    if old is not None and old.get("immutable") and obj.get("data") != old.get("data"):
        yield forbidden("data", "field is immutable when `immutable` is set")


def _data_key_errors(path: str, data: Mapping[str, Any]) -> Errors:
    for name in data:
        if not _CONFIG_KEY_RE.match(name) or name in (".", "..") or len(name) > 253:
            why = (
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
                "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
            )
            yield invalid(f"{path}[{name}]", name, why)


def _role_binding(obj: Object, old: Object | None) -> Errors:
    role = obj.get("roleRef") or {}
    if not role.get("name"):
        yield required("roleRef.name", "")
    if role.get("kind") not in ("ClusterRole", "Role"):
        yield unsupported("roleRef.kind", role.get("kind", ""), ("ClusterRole", "Role"))
    if old is not None and role != old.get("roleRef"):
        yield invalid("roleRef", role, "cannot change roleRef")


def _webhooks(obj: Object, old: Object | None) -> Errors:  # noqa: ARG001 - one signature for all checks
    names: set[str] = set()
    for index, webhook in enumerate(obj.get("webhooks") or ()):
        path = f"webhooks[{index}]"
        name = webhook.get("name", "")
        if name.count(".") < 2:
            yield invalid(
                f"{path}.name", name, "should be a domain with at least three segments separated by dots"
            )
        if name in names:
            yield duplicate(f"{path}.name", name)
        names.add(name)
        if webhook.get("sideEffects") not in ("None", "NoneOnDryRun"):
            yield unsupported(f"{path}.sideEffects", webhook.get("sideEffects", ""), ("None", "NoneOnDryRun"))
        if "v1" not in (webhook.get("admissionReviewVersions") or ()):
            yield invalid(
                f"{path}.admissionReviewVersions",
                webhook.get("admissionReviewVersions"),
                "must include at least one of v1, v1beta1",
            )
        config = webhook.get("clientConfig") or {}
        if ("url" in config) == ("service" in config):
            yield required(f"{path}.clientConfig", "exactly one of url or service is required")


_BY_RESOURCE: Mapping[str, Callable[[Object, Object | None], Errors]] = {
    "pods": _pod,
    "deployments.apps": _deployment,
    "services": _service,
    "configmaps": _config_map,
    "secrets": _secret,
    "rolebindings.rbac.authorization.k8s.io": _role_binding,
    "clusterrolebindings.rbac.authorization.k8s.io": _role_binding,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": _webhooks,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": _webhooks,
}
