"""Pod Security Standards by namespace label (`pod-security.kubernetes.io/enforce: restricted`).

The checks and their words follow k8s.io/pod-security-admission/policy, as far as they concern what a
pod can ask of this cluster; those of SELinux, AppArmor, Windows and /proc mounts are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from conformance.cluster.embedded.apiserver.attributes import Attributes
from conformance.cluster.embedded.apiserver.auth import Find
from conformance.cluster.embedded.apiserver.status import FieldError, forbidden

LEVELS: Final = ("privileged", "baseline", "restricted")
_LABEL: Final = "pod-security.kubernetes.io/"
_BASELINE_CAPABILITIES: Final = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
_RESTRICTED_VOLUMES: Final = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_SAFE_SYSCTLS: Final = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
    }
)
Spec = Mapping[str, Any]
Check = Callable[[Spec], str]  # the violation's words; empty: none


def check(attributes: Attributes, find: Find) -> list[str]:
    """Warnings of the namespace's `warn` level. Raises ApiError 403 for a pod beyond its `enforce` level."""
    obj = attributes.obj
    if obj is None or attributes.subresource or attributes.operation not in ("CREATE", "UPDATE"):
        return []
    resource = (attributes.group, attributes.resource)
    if resource == ("", "pods"):
        spec: Spec = obj.get("spec") or {}
        if attributes.old is not None and attributes.old.get("spec") == spec:
            return []
    elif resource == ("apps", "deployments"):
        spec = ((obj.get("spec") or {}).get("template") or {}).get("spec") or {}
    else:
        return []
    namespace = find("namespaces", "", attributes.namespace)
    labels: Mapping[str, str] = (namespace or {}).get("metadata", {}).get("labels") or {}
    if attributes.resource == "pods":
        words = _violations(spec, labels.get(f"{_LABEL}enforce", ""))
        if words:
            why = f'violates PodSecurity "{_policy(labels, "enforce")}": {words}'
            raise forbidden("pods", attributes.name, why)
    words = _violations(spec, labels.get(f"{_LABEL}warn", ""))
    return [f'would violate PodSecurity "{_policy(labels, "warn")}": {words}'] if words else []


def check_labels(labels: Mapping[str, str]) -> list[FieldError]:
    """The levels that a namespace's labels name must exist."""
    errors = []
    for mode in ("enforce", "audit", "warn"):
        value = labels.get(f"{_LABEL}{mode}", "privileged")
        if value not in LEVELS:
            message = f"Invalid value: {json.dumps(value)}: must be one of {', '.join(LEVELS)}"
            path = f"metadata.labels[{_LABEL}{mode}]"
            errors.append(FieldError(path=path, type="FieldValueInvalid", message=message))
    return errors


def _policy(labels: Mapping[str, str], mode: str) -> str:
    return f"{labels[f'{_LABEL}{mode}']}:{labels.get(f'{_LABEL}{mode}-version', 'latest')}"


def _violations(spec: Spec, level: str) -> str:
    checks = {"baseline": _BASELINE, "restricted": _RESTRICTED}.get(level, ())
    return ", ".join(words for words in (check(spec) for check in checks) if words)


def _containers(spec: Spec) -> Iterator[tuple[str, Spec]]:
    """Name and security context."""
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(key) or ():
            yield container.get("name", ""), container.get("securityContext") or {}


def _named(names: Sequence[str], noun: str = "container") -> str:
    return f"{noun if len(names) == 1 else noun + 's'} {', '.join(json.dumps(name) for name in names)}"


def _pod_context(spec: Spec) -> Spec:
    context: Spec = spec.get("securityContext") or {}
    return context


def _capabilities(context: Spec, key: str) -> list[str]:
    return list((context.get("capabilities") or {}).get(key) or ())


def _added_beyond(spec: Spec, allowed: frozenset[str]) -> str:
    names: list[str] = []
    beyond: dict[str, None] = {}
    for name, context in _containers(spec):
        extra = [c for c in _capabilities(context, "add") if c not in allowed]
        if extra:
            names.append(name)
            beyond |= dict.fromkeys(extra)
    if not names:
        return ""
    listed = ", ".join(json.dumps(capability) for capability in sorted(beyond))
    return f"{_named(names)} must not include {listed} in securityContext.capabilities.add"


def _baseline_capabilities(spec: Spec) -> str:
    words = _added_beyond(spec, _BASELINE_CAPABILITIES)
    return words and f"non-default capabilities ({words})"


def _host_namespaces(spec: Spec) -> str:
    used = [f"{key}=true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    return f"host namespaces ({', '.join(used)})" if used else ""


def _host_path(spec: Spec) -> str:
    names = [v["name"] for v in spec.get("volumes") or () if "hostPath" in v]
    return f"hostPath volumes ({_named(names, 'volume')})" if names else ""


def _host_ports(spec: Spec) -> str:
    names: list[str] = []
    ports: set[int] = set()
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        used = {p["hostPort"] for p in container.get("ports") or () if p.get("hostPort")}
        if used:
            names.append(container["name"])
            ports |= used
    if not names:
        return ""
    noun, verb = ("hostPort" if len(ports) == 1 else "hostPorts"), ("uses" if len(names) == 1 else "use")
    return f"hostPort ({_named(names)} {verb} {noun} {', '.join(str(p) for p in sorted(ports))})"


def _privileged(spec: Spec) -> str:
    names = [name for name, context in _containers(spec) if context.get("privileged")]
    return f"privileged ({_named(names)} must not set securityContext.privileged=true)" if names else ""


def _baseline_seccomp(spec: Spec) -> str:
    def unconfined(context: Spec) -> bool:
        return (context.get("seccompProfile") or {}).get("type") == "Unconfined"

    setters = ["pod"] if unconfined(_pod_context(spec)) else []
    if names := [name for name, context in _containers(spec) if unconfined(context)]:
        setters.append(_named(names))
    rule = 'must not set securityContext.seccompProfile.type to "Unconfined"'
    return f"seccompProfile ({' and '.join(setters)} {rule})" if setters else ""


def _sysctls(spec: Spec) -> str:
    names = [s["name"] for s in _pod_context(spec).get("sysctls") or () if s["name"] not in _SAFE_SYSCTLS]
    return f"forbidden sysctls ({', '.join(names)})" if names else ""


def _privilege_escalation(spec: Spec) -> str:
    names = [name for name, c in _containers(spec) if c.get("allowPrivilegeEscalation") is not False]
    rule = "must set securityContext.allowPrivilegeEscalation=false"
    return f"allowPrivilegeEscalation != false ({_named(names)} {rule})" if names else ""


def _restricted_capabilities(spec: Spec) -> str:
    keepers = [name for name, context in _containers(spec) if "ALL" not in _capabilities(context, "drop")]
    words = [f'{_named(keepers)} must set securityContext.capabilities.drop=["ALL"]'] if keepers else []
    if added := _added_beyond(spec, frozenset({"NET_BIND_SERVICE"})):
        words.append(added)
    return f"unrestricted capabilities ({'; '.join(words)})" if words else ""


def _volume_types(spec: Spec) -> str:
    names: list[str] = []
    types: dict[str, None] = {}
    for volume in spec.get("volumes") or ():
        kinds = [key for key in volume if key != "name"]
        if kinds and kinds[0] not in _RESTRICTED_VOLUMES:
            names.append(volume["name"])
            types[kinds[0]] = None
    if not names:
        return ""
    verb = "uses" if len(names) == 1 else "use"
    noun = "type" if len(types) == 1 else "types"
    listed = ", ".join(json.dumps(kind) for kind in types)
    return f"restricted volume types ({_named(names, 'volume')} {verb} restricted volume {noun} {listed})"


def _run_as_non_root(spec: Spec) -> str:
    asked = _pod_context(spec).get("runAsNonRoot")
    bad = [name for name, context in _containers(spec) if context.get("runAsNonRoot") is False]
    silent = [name for name, context in _containers(spec) if context.get("runAsNonRoot") is None]
    words = []
    if asked is False:
        words.append("pod must not set securityContext.runAsNonRoot=false")
    if bad:
        words.append(f"{_named(bad)} must not set securityContext.runAsNonRoot=false")
    if not words and asked is None and silent:
        words.append(f"pod or {_named(silent)} must set securityContext.runAsNonRoot=true")
    return f"runAsNonRoot != true ({' and '.join(words)})" if words else ""


def _run_as_user(spec: Spec) -> str:
    setters = ["pod"] if _pod_context(spec).get("runAsUser") == 0 else []
    if names := [name for name, context in _containers(spec) if context.get("runAsUser") == 0]:
        setters.append(_named(names))
    return f"runAsUser=0 ({' and '.join(setters)} must not set runAsUser=0)" if setters else ""


def _restricted_seccomp(spec: Spec) -> str:
    if words := _baseline_seccomp(spec):
        return words
    if _pod_context(spec).get("seccompProfile"):
        return ""
    names = [name for name, context in _containers(spec) if not context.get("seccompProfile")]
    rule = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return f"seccompProfile (pod or {_named(names)} {rule})" if names else ""


_BASELINE: Final[tuple[Check, ...]] = (
    *(_baseline_capabilities, _host_namespaces, _host_path, _host_ports, _privileged),
    *(_baseline_seccomp, _sysctls),
)
_RESTRICTED: Final[tuple[Check, ...]] = (
    *(_host_namespaces, _host_ports, _privileged, _sysctls, _privilege_escalation),
    *(_restricted_capabilities, _volume_types, _run_as_non_root, _run_as_user, _restricted_seccomp),
)
