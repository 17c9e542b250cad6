"""The pod patch: an init container that redirects TCP, and Envoy beside the application. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from enforcer import control_plane, ports, sidecar
from enforcer.errors import EnforcerError
from enforcer.mesh import Exempt, MeshOptions
from enforcer.tokens import AUDIENCE

Json = dict[str, Any]

INIT = "authz-init"
SIDECAR = "istio-proxy"
INJECT = "sidecar.istio.io/inject"
STATUS_ANNOTATION = "sidecar.istio.io/status"
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
EXCLUDE_INBOUND = "traffic.sidecar.istio.io/excludeInboundPorts"
EXCLUDE_OUTBOUND = "traffic.sidecar.istio.io/excludeOutboundPorts"
TOKEN_VOLUME, RUN_VOLUME = "authz-token", "authz-run"
TOKEN_SECONDS = 3600


class InjectionError(EnforcerError):
    """A pod that asks for a sidecar it cannot have; it must not start without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """A JSON Patch (RFC 6902), empty where the pod stays as it is, and what to tell who made the pod."""

    patch: tuple[Json, ...] = ()
    warning: str | None = None


def inject(pod: Json, options: MeshOptions, *, root: str) -> Injection:
    """The patch for a pod of a namespace that wants sidecars. Raises InjectionError.

    `root` is the mesh's root certificate (PEM), by which the sidecar knows its control plane.

    Whether the namespace wants them is the API server's to say, by the webhook's namespaceSelector: our own
    copy of the label may be older than the pod.
    """
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    # The label wins over the annotation, as in Istio.
    if labels.get(INJECT, annotations.get(INJECT)) == "false":
        return Injection()
    if any(entry.get("name") == SIDECAR for entry in spec.get("containers") or ()):
        return Injection()
    if spec.get("hostNetwork"):
        return Injection(
            warning="a pod in the host's network gets no sidecar: AuthorizationPolicies do not protect it"
        )
    patch = [
        *_append(spec, "initContainers", [_init_container(annotations, options)]),
        *_append(spec, "containers", [_sidecar_container(options, root)]),
        *_append(spec, "volumes", _volumes()),
        *_annotate(pod),
    ]
    return Injection(patch=tuple(patch))


def _append(spec: Json, name: str, values: list[Json]) -> list[Json]:
    if spec.get(name):
        return [{"op": "add", "path": f"/spec/{name}/-", "value": value} for value in values]
    return [{"op": "add", "path": f"/spec/{name}", "value": values}]


def _volumes() -> list[Json]:
    token = {"audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": control_plane.TOKEN}
    return [
        {"name": TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": RUN_VOLUME, "emptyDir": {"medium": "Memory"}},
    ]


def _annotate(pod: Json) -> list[Json]:
    metadata = pod.get("metadata") or {}
    before = metadata.get("annotations") or {}
    status = json.dumps({"initContainers": [INIT], "containers": [SIDECAR]}, separators=(",", ":"))
    after = {**before, STATUS_ANNOTATION: status}
    containers = (pod.get("spec") or {}).get("containers") or ()
    if containers and DEFAULT_CONTAINER not in before:
        # kubectl exec and logs go on meaning the application.
        after[DEFAULT_CONTAINER] = containers[0].get("name", "")
    return [{"op": "add", "path": "/metadata/annotations", "value": after}]


def excluded_ports(annotations: Json, name: str) -> str:
    """The ports of an annotation, as capture takes them. Raises InjectionError."""
    parts = [part.strip() for part in str(annotations.get(name, "")).split(",") if part.strip()]
    for part in parts:
        if not part.isascii() or not part.isdigit() or not 0 < int(part) <= 0xFFFF:
            raise InjectionError(f"metadata.annotations[{name}]: {part!r} is not a port")
    return ",".join(parts)


def _init_container(annotations: Json, options: MeshOptions) -> Json:
    arguments = ["capture"]
    if options.exempt is Exempt.UID:
        arguments += ["--exempt-uid", str(ports.PROXY_UID)]
    else:
        arguments += ["--exempt-mark", str(ports.MARK)]
    for option, annotation in (
        ("--exclude-inbound-ports", EXCLUDE_INBOUND),
        ("--exclude-outbound-ports", EXCLUDE_OUTBOUND),
    ):
        excluded = excluded_ports(annotations, annotation)
        if excluded:
            arguments += [option, excluded]
    return {
        "name": INIT,
        "image": options.image,
        "imagePullPolicy": options.image_pull_policy,
        "command": ["python3", "-m", "enforcer"],
        "args": arguments,
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"memory": "64Mi"},
        },
        "securityContext": {
            # nftables wants root of the pod's network namespace.
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
        },
    }


def _sidecar_container(options: MeshOptions, root: str) -> Json:
    marked = options.exempt is Exempt.MARK
    return {
        "name": SIDECAR,
        "image": options.image,
        "imagePullPolicy": options.image_pull_policy,
        "command": ["python3", "-m", "enforcer"],
        "args": ["sidecar"],
        "env": [
            _from_field("POD_NAME", "metadata.name"),
            _from_field("POD_NAMESPACE", "metadata.namespace"),
            _from_field("POD_IP", "status.podIP"),
            {"name": "XDS_ADDRESS", "value": options.xds_address},
            {"name": "MESH_ROOT", "value": root},
            {"name": "PROXY_MARK", "value": str(ports.MARK if marked else 0)},
        ],
        "ports": [{"name": "ready", "containerPort": ports.READY, "protocol": "TCP"}],
        "readinessProbe": {
            "httpGet": {"path": "/healthz/ready", "port": ports.READY},
            "periodSeconds": 5,
            "timeoutSeconds": 3,
            "failureThreshold": 4,
        },
        "resources": {
            "requests": {"cpu": "10m", "memory": "64Mi"},
            "limits": {"memory": "512Mi"},
        },
        "volumeMounts": [
            {"name": TOKEN_VOLUME, "mountPath": str(sidecar.TOKEN_DIRECTORY), "readOnly": True},
            {"name": RUN_VOLUME, "mountPath": str(sidecar.RUN_DIRECTORY)},
        ],
        "securityContext": _sidecar_security(marked=marked),
    }


def _sidecar_security(*, marked: bool) -> Json:
    user = 0 if marked else ports.PROXY_UID
    capabilities: Json = {"drop": ["ALL"]}
    if marked:
        # Setting a socket mark wants NET_RAW, and only root keeps an added capability.
        capabilities["add"] = ["NET_RAW"]
    return {
        "runAsUser": user,
        "runAsGroup": user,
        "runAsNonRoot": not marked,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": capabilities,
    }


def _from_field(name: str, path: str) -> Json:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
