"""A pod's status as its containers' states tell it: pure functions, with the words of Kubernetes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from conformance.cluster.embedded.kubelet.environment import NODE_IP, NODE_IP6

Object = dict[str, Any]

OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """One container at one moment. `state` and `last_state` are the API's own ContainerState objects."""

    name: str
    image: str
    state: Object
    last_state: Object = field(default_factory=dict)
    restarts: int = 0
    container_id: str = ""
    started: bool = False
    ready: bool = False
    sidecar: bool = False  # an init container that stays (restartPolicy: Always)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodMoment:
    """What the kubelet knows of a pod at one moment."""

    pod: Object
    ip: str  # empty until the sandbox is there
    ip6: str  # empty as well where the node has no IPv6
    start_time: str
    init: Sequence[ContainerState]
    main: Sequence[ContainerState]
    failure: tuple[str, str] | None = None  # (reason, message) that ended the whole pod


def timestamp(moment: datetime | None = None) -> str:
    """A metav1.Time: UTC, whole seconds."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def waiting(reason: str, message: str = "") -> Object:
    """The state of a container that does not run yet, or not now."""
    return {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}


def container_url(container_id: str) -> str:
    """A container's id as a status shows it."""
    return f"embedded://{container_id}"


def running(started_at: str) -> Object:
    """The state of a container that runs."""
    return {"running": {"startedAt": started_at}}


def terminated(
    *, exit_code: int, reason: str, started_at: str, finished_at: str, container_id: str, message: str = ""
) -> Object:
    """The state of a container that has ended."""
    told = {
        "exitCode": exit_code,
        "reason": reason,
        "startedAt": started_at,
        "finishedAt": finished_at,
        "containerID": container_id,
    }
    return {"terminated": {**told, "message": message} if message else told}


def status_of(moment: PodMoment, previous: Mapping[str, Any], *, now: str) -> Object:
    """The pod's status; the times of conditions that did not change are those of the previous one."""
    phase = "Failed" if moment.failure else phase_of(moment)
    status: Object = {
        "phase": phase,
        "startTime": moment.start_time,
        "hostIP": NODE_IP,
        "hostIPs": [{"ip": ip} for ip in (NODE_IP, NODE_IP6 if moment.ip6 else "") if ip],
        "conditions": conditions_of(moment, phase, previous.get("conditions") or (), now=now),
        "containerStatuses": [container_status(container) for container in moment.main],
        "qosClass": previous.get("qosClass") or qos_class(moment.pod),
    }
    if moment.init:
        status["initContainerStatuses"] = [container_status(as_init(container)) for container in moment.init]
    if moment.ip:
        status |= {"podIP": moment.ip, "podIPs": [{"ip": ip} for ip in (moment.ip, moment.ip6) if ip]}
    if moment.failure:
        status["reason"], status["message"] = moment.failure
    return status


def changes(status: Mapping[str, Any], written: Mapping[str, Any]) -> Object:
    """The merge patch that turns one status into another; empty where they are equal."""
    patch = {key: value for key, value in status.items() if written.get(key) != value}
    ours = ("reason", "message", "podIP", "podIPs", "initContainerStatuses")
    return patch | {key: None for key in ours if key in written and key not in status}


def phase_of(moment: PodMoment) -> str:
    """The pod's phase by the rules of the kubelet of Kubernetes."""
    policy = moment.pod["spec"].get("restartPolicy") or "Always"
    deleted = bool(moment.pod["metadata"].get("deletionTimestamp"))
    for container in moment.init:
        if container.sidecar or exit_code_of(container.state) == 0:
            continue
        failed = exit_code_of(container.state) is not None
        return "Failed" if failed and (policy == "Never" or deleted) else "Pending"
    codes = [exit_code_of(container.state) for container in moment.main]
    if any("running" in container.state for container in moment.main):
        return "Running"
    if any(
        "waiting" in container.state and "terminated" not in container.last_state for container in moment.main
    ):
        return "Pending"
    ended = all(code is not None for code in codes)
    if not ended or (policy == "Always" and not deleted):
        return "Running"
    if all(code == 0 for code in codes):
        return "Succeeded"
    return "Failed" if policy == "Never" or deleted else "Running"


def exit_code_of(state: Mapping[str, Any]) -> int | None:
    """The exit code of a terminated state; None for any other."""
    code: int | None = state["terminated"]["exitCode"] if "terminated" in state else None
    return code


def merged_conditions(written: Mapping[str, Any], seen: Mapping[str, Any]) -> list[Object]:
    """The kubelet's own conditions as it wrote them, and those of others as they stand in the API."""
    ours = [condition for condition in written.get("conditions") or () if condition["type"] in OWN_CONDITIONS]
    others = [
        condition for condition in seen.get("conditions") or () if condition["type"] not in OWN_CONDITIONS
    ]
    return [*ours, *others]


def conditions_of(
    moment: PodMoment, phase: str, previous: Iterable[Mapping[str, Any]], *, now: str
) -> list[Object]:
    """The pod's conditions: the kubelet's five, then those that others have set."""
    before = {condition["type"]: condition for condition in previous}
    uninitialized = [container.name for container in moment.init if not is_initialized(container)]
    staying = [container for container in moment.init if container.sidecar]
    unready = [container.name for container in (*staying, *moment.main) if not container.ready]
    completed = phase in ("Succeeded", "Failed")

    if completed:
        containers_ready = (False, "PodCompleted" if phase == "Succeeded" else "PodFailed", "")
    elif unready:
        containers_ready = (
            False,
            "ContainersNotReady",
            f"containers with unready status: [{' '.join(unready)}]",
        )
    else:
        containers_ready = (True, "", "")
    ready = containers_ready
    missing = [
        gate["conditionType"]
        for gate in moment.pod["spec"].get("readinessGates") or ()
        if before.get(gate["conditionType"], {}).get("status") != "True"
    ]
    if ready[0] and missing:
        why = ", ".join(f'"{name}"' for name in missing)
        ready = (False, "ReadinessGatesNotReady", f"the status of pod readiness gate {why} is not True")
    if uninitialized and not completed:
        names = " ".join(uninitialized)
        initialized = (False, "ContainersNotInitialized", f"containers with incomplete status: [{names}]")
    else:
        initialized = (True, "", "")
    ours = {
        "PodReadyToStartContainers": (bool(moment.ip), "", ""),
        "Initialized": initialized,
        "Ready": ready,
        "ContainersReady": containers_ready,
        "PodScheduled": (True, "", ""),
    }
    conditions = [
        condition_of(kind, holds=holds, reason=reason, message=message, before=before.get(kind), now=now)
        for kind, (holds, reason, message) in ours.items()
    ]
    return conditions + [dict(condition) for kind, condition in before.items() if kind not in ours]


def is_initialized(container: ContainerState) -> bool:
    """Whether an init container has done its part."""
    return container.started if container.sidecar else exit_code_of(container.state) == 0


def condition_of(
    kind: str, *, holds: bool, reason: str, message: str, before: Mapping[str, Any] | None, now: str
) -> Object:
    """A condition; its time moves only when it turns."""
    status = "True" if holds else "False"
    turned = before is None or before["status"] != status or not before.get("lastTransitionTime")
    since = now if before is None or turned else before["lastTransitionTime"]
    condition: Object = {"type": kind, "status": status, "lastTransitionTime": since}
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def as_init(container: ContainerState) -> ContainerState:
    """An init container as its status shows it: ready once it has succeeded, unless it is one that stays."""
    if container.sidecar:
        return container
    return replace(container, started=False, ready=exit_code_of(container.state) == 0)


def container_status(container: ContainerState) -> Object:
    """The API's ContainerStatus."""
    status: Object = {
        "name": container.name,
        "image": container.image,
        "imageID": container.image,
        "ready": container.ready,
        "restartCount": container.restarts,
        "started": container.started,
        "state": container.state,
        "lastState": container.last_state,
    }
    if container.container_id:
        status["containerID"] = container.container_id
    return status


def qos_class(pod: Object) -> str:
    """The pod's quality-of-service class; nothing here depends on it, kubectl shows it."""
    amounts = [container.get("resources") or {} for container in pod["spec"]["containers"]]
    if not any(amount.get("limits") or amount.get("requests") for amount in amounts):
        return "BestEffort"
    guaranteed = all(
        {"cpu", "memory"} <= set(amount.get("limits") or {})
        and (amount.get("requests") or amount["limits"]) == amount["limits"]
        for amount in amounts
    )
    return "Guaranteed" if guaranteed else "Burstable"
