"""The row of a pod in `kubectl get pods`: its STATUS is a summary of all its containers."""

from __future__ import annotations

from typing import Any

from conformance.cluster.embedded.apiserver.ages import age

Object = dict[str, Any]


def pod_cells(pod: Object) -> list[Any]:
    """Ready, Status, Restarts, Age, IP, Node, Nominated Node, Readiness Gates."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    containers = status.get("containerStatuses") or []
    ready = sum(bool(container.get("ready")) for container in containers)
    restarts = sum(container.get("restartCount", 0) for container in containers)
    return [
        f"{ready}/{len(spec.get('containers') or ())}",
        pod_status(pod),
        str(restarts),
        age(pod["metadata"].get("creationTimestamp")),
        status.get("podIP") or "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        "<none>",
    ]


def pod_status(pod: Object) -> str:
    """Running, Init:0/1, CrashLoopBackOff, Terminating, ..."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    word = status.get("reason") or status.get("phase", "")
    word = _init_status(spec, status) or _containers_status(status, word)
    if "deletionTimestamp" in pod["metadata"]:
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return str(word)


def _init_status(spec: Object, status: Object) -> str:
    statuses = status.get("initContainerStatuses") or []
    always = {c["name"] for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"}
    for index, container in enumerate(statuses):
        state = container.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting")
        if ended is not None and ended.get("exitCode") == 0:
            continue
        if container.get("name") in always and container.get("started"):
            continue
        if ended is not None:
            return f"Init:{_ended_word(ended)}"
        if waiting is not None and waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{len(spec.get('initContainers') or ())}"
    return ""


def _containers_status(status: Object, word: str) -> str:
    running = False
    for container in reversed(status.get("containerStatuses") or []):
        state = container.get("state") or {}
        waiting, ended = state.get("waiting"), state.get("terminated")
        if waiting is not None and waiting.get("reason"):
            word = waiting["reason"]
        elif ended is not None:
            word = _ended_word(ended)
        elif container.get("ready") and state.get("running") is not None:
            running = True
    if word == "Completed" and running:
        ready = any(
            c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ()
        )
        return "Running" if ready else "NotReady"
    return word


def _ended_word(ended: Object) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    if ended.get("signal"):
        return f"Signal:{ended['signal']}"
    return f"ExitCode:{ended.get('exitCode', 0)}"
