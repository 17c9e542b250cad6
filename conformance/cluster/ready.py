"""Waiting until what was applied runs, and giving up at once where it cannot.

A container that will not start is noticed by the reason the kubelet gives, with its message, instead of a
timeout that says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from conformance.cluster.kube import Kube, ObjectKey
from conformance.cluster.logs import read_log
from conformance.errors import SetupError

__all__ = ["has_sidecar", "is_ready", "wait_for_deletion", "wait_for_deployments", "wait_for_pods"]

# A waiting container with one of these will not get better by waiting a little longer.
HOPELESS = frozenset(
    {
        "CrashLoopBackOff",
        "StartError",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImagePullBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
FOR_GOOD = "violates PodSecurity"  # in the message of a refused pod
LOOK_AGAIN_SECONDS = 5.0
LAST_WORDS = 20  # lines
Pods = list[dict[str, Any]]


def is_ready(pod: Mapping[str, Any]) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)


def has_sidecar(pod: Mapping[str, Any], container: str = "istio-proxy") -> bool:
    spec = pod.get("spec") or {}
    names = [item["name"] for part in ("containers", "initContainers") for item in spec.get(part) or []]
    return container in names


def raise_if_hopeless(kube: Kube, pod: Mapping[str, Any]) -> None:
    """Raises SetupError with the pod, the container, the reason, the message and its last words."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    for part in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(part) or []:
            state = container.get("state") or {}
            ended = state.get("terminated") or {}
            waiting = state.get("waiting") or {}
            last = (container.get("lastState") or {}).get("terminated") or {}
            broken = waiting.get("reason") in HOPELESS or ended.get("reason") == "StartError"
            if not broken:
                continue
            reason = waiting.get("reason") or ended.get("reason")
            cause = last or ended
            said = (cause.get("reason"), cause.get("message"), waiting.get("message"))
            message = "; ".join(dict.fromkeys(text for text in said if text and text != reason))
            where = f"{metadata['namespace']}/{metadata['name']}"
            words = read_log(
                kube,
                namespace=metadata["namespace"],
                pod=metadata["name"],
                container=container["name"],
                tail=LAST_WORDS,
                previous=bool(last),
            ).strip()
            tail = f"\nits last words:\n{words}" if words else ""
            raise SetupError(f"pod {where}, container {container['name']}: {reason}: {message}{tail}")


class NotInTime(SetupError):
    """What was waited for did not come until the deadline."""


def wait_for_pods(
    kube: Kube,
    namespace: str,
    *,
    done: Callable[[Pods], bool],
    deadline: float,
    what: str,
    ran_before: bool = False,
) -> Pods:
    """The namespace's pods as soon as `done` holds for them. `deadline` is of time.monotonic.

    Raises SetupError at the deadline, or at once for a container that cannot start; not for one that ran
    before, which will run again."""
    while True:
        pods, version = kube.list("v1", "Pod", namespace=namespace)
        known = {pod["metadata"]["name"]: pod for pod in pods}
        for pod in pods if not ran_before else ():
            raise_if_hopeless(kube, pod)
        if done(pods):
            return pods
        if time.monotonic() >= deadline:
            raise NotInTime(f"{what}: not in time: {_summary(pods)}")
        events = kube.watch("v1", "Pod", namespace=namespace, resource_version=version, deadline=deadline)
        for event in events:
            if event.type not in ("ADDED", "MODIFIED", "DELETED"):
                break  # 410 and the like: list again
            name = event.object["metadata"]["name"]
            if event.type == "DELETED":
                known.pop(name, None)
            else:
                known[name] = dict(event.object)
                if not ran_before:
                    raise_if_hopeless(kube, event.object)
            if done(list(known.values())):
                events.close()
                return list(known.values())


def _summary(pods: Pods) -> str:
    if not pods:
        return "no pod was created"
    parts = []
    for pod in pods:
        status = pod.get("status") or {}
        waiting = [
            (item.get("state") or {}).get("waiting", {}).get("reason")
            for part in ("initContainerStatuses", "containerStatuses")
            for item in status.get(part) or []
        ]
        state = "ready" if is_ready(pod) else ", ".join(filter(None, waiting)) or status.get("phase", "?")
        parts.append(f"{pod['metadata']['name']} is {state}")
    return "; ".join(parts)


def wait_for_deployments(kube: Kube, namespace: str, names: set[str], *, deadline: float) -> Pods:
    """The ready pods of Deployments whose pods carry the label `app: <name>`. Raises SetupError at the
    deadline, or soon for pods that the namespace's PodSecurity level will never let in."""

    def done(pods: Pods) -> bool:
        ready = {pod["metadata"].get("labels", {}).get("app") for pod in pods if is_ready(pod)}
        return names <= ready

    what = f"{', '.join(sorted(names))} in {namespace}"
    while True:
        # No event of a pod tells that there is none.
        until = min(deadline, time.monotonic() + LOOK_AGAIN_SECONDS)
        try:
            return wait_for_pods(kube, namespace, done=done, deadline=until, what=what)
        except SetupError as error:
            refused = _refused_pods(kube, namespace)
            if not isinstance(error, NotInTime) or time.monotonic() >= deadline or FOR_GOOD in refused:
                raise SetupError(f"{error.message}{refused}") from None


def _refused_pods(kube: Kube, namespace: str) -> str:
    """Why a Deployment has no pods, where its conditions tell (an admission webhook said no)."""
    deployments, _ = kube.list("apps/v1", "Deployment", namespace=namespace)
    said = [
        f"{item['metadata']['name']}: {condition.get('message')}"
        for item in deployments
        for condition in (item.get("status") or {}).get("conditions") or []
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True"
    ]
    return f"; {'; '.join(said)}" if said else ""


def wait_for_deletion(kube: Kube, key: ObjectKey, *, deadline: float) -> bool:
    """True as soon as the object is gone; false at the deadline (of time.monotonic)."""
    pause = 0.01
    while kube.get(key).code != 404:
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)  # a watch on one name costs more than this bounded poll
        pause = min(pause * 2, 0.25)
    return True
