"""What some cases do to the mesh itself: stop its control plane, restart a sidecar, read its counters."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from conformance.cluster.exec import open_exec
from conformance.cluster.kube import ObjectKey
from conformance.cluster.ready import is_ready, wait_for_deployments, wait_for_pods
from conformance.errors import ProbeError, SetupError
from conformance.exposure import end_watch
from conformance.pods import read_pod
from conformance.rig import Rig
from conformance.stage import open_status
from conformance.topology import Ref

__all__ = [
    "ask_proxy",
    "control_plane_stopped",
    "counters",
    "run_in",
    "sidecar_id",
    "sidecar_is_back",
    "sidecar_restarting",
]

CONTROL_PLANE = "enforcer"
ADMIN = "http://127.0.0.1:15000"
# The image of the sidecar has Python and need not have curl.
ASK = (
    "import sys, json, urllib.request as r; "
    "print(json.dumps(r.urlopen(r.Request(sys.argv[2], method=sys.argv[1])).read().decode()), flush=True)"
)


def run_in(rig: Rig, ref: Ref, container: str, program: str, *arguments: str, timeout: float) -> Any:
    """The JSON line that a Python program prints in a container. Raises ProbeError."""
    pod = rig.pods[ref]
    stream = open_exec(
        rig.kube,
        namespace=pod.namespace,
        pod=pod.name,
        container=container,
        command=("python3", "-c", program, *arguments),
        what=f"python3 in {ref}, container {container}",
    )
    try:
        return json.loads(stream.receive(time.monotonic() + timeout))
    except ValueError as error:
        raise ProbeError(f"{ref}, container {container}: this is no JSON: {error}") from None
    finally:
        stream.close()


def ask_proxy(rig: Rig, ref: Ref, path: str, *, method: str = "GET") -> str:
    """What the sidecar's administration answers, asked from inside its own container. Raises ProbeError."""
    timeout = rig.profile.deadlines.ready
    container = rig.profile.sidecar_container
    if not rig.profile.install_enforcer:  # Istio's image has no Python, but its own client
        pod = rig.pods[ref]
        stream = open_exec(
            rig.kube,
            namespace=pod.namespace,
            pod=pod.name,
            container=container,
            command=("pilot-agent", "request", method, path.lstrip("/")),
            what=f"pilot-agent in {ref}",
        )
        try:
            return stream.receive_all(time.monotonic() + timeout)
        finally:
            stream.close()
    return str(run_in(rig, ref, container, ASK, method, f"{ADMIN}{path}", timeout=timeout))


def counters(rig: Rig, ref: Ref, names: Sequence[str]) -> Mapping[str, int]:
    """The sidecar's counters by name; one that it does not have yet counts as 0."""
    lines = (line.partition(": ") for line in ask_proxy(rig, ref, "/stats").splitlines())
    found = {name: int(value) for name, _, value in lines if name in names and value.isdigit()}
    return {name: found.get(name, 0) for name in names}


@contextmanager
def sidecar_restarting(rig: Rig, ref: Ref) -> Iterator[str]:
    """Makes the sidecar end, so that the kubelet starts it again; the id of the container that ends. Leaves
    when the next one is ready and its log is followed. Raises SetupError where it does not come."""
    before = sidecar_id(rig, ref)
    try:
        with suppress(ProbeError):  # what asks may end with the container before it has the answer
            ask_proxy(rig, ref, "/quitquitquit", method="POST")
        yield before
    finally:
        deadline = time.monotonic() + rig.profile.deadlines.ready
        while not sidecar_is_back(rig, ref, before):
            if time.monotonic() > deadline:
                raise SetupError(f"the sidecar of {ref} did not come back")
        end_watch(rig)
        rig.follow_new_sidecar(ref)


def sidecar_is_back(rig: Rig, ref: Ref, before: str) -> bool:
    """Whether the pod is ready with another sidecar than the container `before`."""
    return sidecar_id(rig, ref) not in ("", before) and is_ready(read_pod(rig.kube, rig.pods[ref]))


def sidecar_id(rig: Rig, ref: Ref) -> str:
    """The id of the sidecar's running container; empty while none runs."""
    for status in read_pod(rig.kube, rig.pods[ref])["status"].get("containerStatuses") or []:
        if status["name"] == rig.profile.sidecar_container and "running" in (status.get("state") or {}):
            return str(status.get("containerID", ""))
    return ""


@contextmanager
def control_plane_stopped(rig: Rig) -> Iterator[None]:
    """The mesh without its control plane; it runs again afterwards, whatever happened, and the barrier
    listens to it. Raises SetupError where it does not go or come back."""
    key = rig.kube.key(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": CONTROL_PLANE, "namespace": rig.profile.root_namespace},
        }
    )
    replicas = rig.kube.get(key).or_raise(f"read {key}").body["spec"].get("replicas", 1)
    try:
        _scale(rig, key, 0)
        wait_for_pods(
            rig.kube,
            key.namespace,
            done=lambda pods: not any(_is_control_plane(pod) for pod in pods),
            deadline=time.monotonic() + rig.profile.deadlines.ready,
            what="the control plane's end",
        )
        yield
    finally:
        rig.barrier.close()
        try:
            _scale(rig, key, replicas)
            deadline = time.monotonic() + rig.profile.deadlines.ready
            wait_for_deployments(rig.kube, key.namespace, {CONTROL_PLANE}, deadline=deadline)
        finally:
            # Also where it could not be stopped: the next case must not listen to what is closed.
            rig.barrier = open_status(rig.kube, rig.profile)


def _is_control_plane(pod: Mapping[str, Any]) -> bool:
    return bool((pod["metadata"].get("labels") or {}).get("app") == CONTROL_PLANE)


def _scale(rig: Rig, key: ObjectKey, replicas: int) -> None:
    answer = rig.kube.merge_patch(key, {"spec": {"replicas": replicas}})
    if not answer.ok:
        raise SetupError(f"{key} cannot be scaled to {replicas}: {answer.code} {answer.message}")
