"""What a pod's spec must hold, alone or in a template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from conformance.cluster.embedded.apiserver.field_errors import (
    duplicate,
    forbidden,
    invalid,
    not_found,
    required,
    unsupported,
)
from conformance.cluster.embedded.apiserver.names import LABEL_RE, LABEL_TEXT
from conformance.cluster.embedded.apiserver.status import FieldError

Errors = Iterator[FieldError]

_RESTART = ("Always", "OnFailure", "Never")
_PULL = ("Always", "IfNotPresent", "Never")
_MUTABLE = (
    "activeDeadlineSeconds",
    "terminationGracePeriodSeconds",
    "tolerations",
    "nodeName",
    "schedulingGates",
)
_UPDATE_TEXT = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def pod_spec_errors(spec: Mapping[str, Any], path: str) -> Errors:
    volumes = [volume.get("name", "") for volume in spec.get("volumes") or ()]
    for index, name in enumerate(volumes):
        yield from _name_errors(name, f"{path}.volumes[{index}].name")
        if name in volumes[:index]:
            yield duplicate(f"{path}.volumes[{index}].name", name)
    containers = spec.get("containers") or []
    if not containers:
        yield required(f"{path}.containers")
    names: set[str] = set()
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field) or ()):
            where = f"{path}.{field}[{index}]"
            yield from _container_errors(container, where, volumes)
            name = container.get("name")
            if name in names:
                yield duplicate(f"{where}.name", name)
            if name:
                names.add(name)
    if (policy := spec.get("restartPolicy", "Always")) not in _RESTART:
        yield unsupported(f"{path}.restartPolicy", policy, _RESTART)
    if (grace := spec.get("terminationGracePeriodSeconds", 0)) < 0:
        yield invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than or equal to 0")


def _name_errors(name: str, path: str) -> Errors:
    if not name:
        yield required(path)
    elif len(name) > 63:
        yield invalid(path, name, "must be no more than 63 characters")
    elif not LABEL_RE.match(name):
        yield invalid(path, name, LABEL_TEXT)


def _container_errors(container: Mapping[str, Any], path: str, volumes: list[str]) -> Errors:
    yield from _name_errors(container.get("name", ""), f"{path}.name")
    if not container.get("image"):
        yield required(f"{path}.image")
    if (policy := container.get("imagePullPolicy", "Always")) not in _PULL:
        yield unsupported(f"{path}.imagePullPolicy", policy, _PULL)
    ports: set[str] = set()
    for index, port in enumerate(container.get("ports") or ()):
        where = f"{path}.ports[{index}]"
        number = port.get("containerPort")
        if number is None:
            yield required(f"{where}.containerPort")
        elif not 1 <= number <= 65535:
            yield invalid(f"{where}.containerPort", number, "must be between 1 and 65535, inclusive")
        name = port.get("name")
        if name and name in ports:
            yield duplicate(f"{where}.name", name)
        if name:
            ports.add(name)
        if (protocol := port.get("protocol", "TCP")) not in ("SCTP", "TCP", "UDP"):
            yield unsupported(f"{where}.protocol", protocol, ("SCTP", "TCP", "UDP"))
    for index, variable in enumerate(container.get("env") or ()):
        if not variable.get("name"):
            yield required(f"{path}.env[{index}].name")
        if variable.get("value") and variable.get("valueFrom"):
            yield invalid(
                f"{path}.env[{index}].valueFrom", "", "may not be specified when `value` is not empty"
            )
    paths: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        where = f"{path}.volumeMounts[{index}]"
        if not mount.get("name"):
            yield required(f"{where}.name")
        elif mount["name"] not in volumes:
            yield not_found(f"{where}.name", mount["name"])
        target = mount.get("mountPath")
        if not target:
            yield required(f"{where}.mountPath")
        elif target in paths:
            yield invalid(f"{where}.mountPath", target, "must be unique")
        paths.add(target or "")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in container:
            yield from _probe_errors(container[name], f"{path}.{name}")


def _probe_errors(probe: Mapping[str, Any], path: str) -> Errors:
    handlers = [name for name in ("exec", "httpGet", "tcpSocket", "grpc") if probe.get(name) is not None]
    if not handlers:
        yield required(path, "must specify a handler type")
    for name in handlers[1:]:
        yield forbidden(f"{path}.{name}", "may not specify more than 1 handler type")
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "failureThreshold"):
        if probe.get(name, 0) < 0:
            yield invalid(f"{path}.{name}", probe[name], "must be greater than or equal to 0")


def pod_update_errors(new: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    if _fixed(new) != _fixed(old) or (old.get("nodeName") and new.get("nodeName") != old["nodeName"]):
        yield forbidden("spec", _UPDATE_TEXT)


def _fixed(spec: Mapping[str, Any]) -> dict[str, Any]:
    fixed = {name: value for name, value in spec.items() if name not in _MUTABLE}
    for field in ("containers", "initContainers"):
        if field in fixed:
            fixed[field] = [{k: v for k, v in c.items() if k != "image"} for c in fixed[field]]
    return fixed
