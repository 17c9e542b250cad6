"""The first workloads of a run: are they let in, injected, and spoken to by mutual TLS where they must be.

They stand in namespaces of their own, or in lent ones; where a check fails, everything of the run is removed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from conformance.barrier_istio import pilot_agent
from conformance.cluster.install import install_namespace
from conformance.cluster.ready import Pods, has_sidecar, wait_for_deployments
from conformance.errors import ProbeError, SetupError
from conformance.preflight.checks import Check, Ground
from conformance.probe.once import ask_once

__all__ = ["check_mutual_tls", "check_policy", "check_workloads", "no_data_plane"]

CANARY = "conformance-canary"
WORKLOADS = {"foo": ("sleep", "tcp-echo"), "legacy": ("sleep",)}
PORT = 9000
AMBIENT_LABEL, AMBIENT_MARK = "istio.io/dataplane-mode", "ambient.istio.io/redirection"
MUTUAL_TLS_SECONDS = 60.0  # until one PeerAuthentication is in force
LET_IN = "pods must be allowed there: quota, PodSecurity level, image (--image, --image-registry)"


def check_workloads(ground: Ground) -> Iterator[Check]:
    """Images can be pulled, quota and PodSecurity let the pods in, each has the data plane it must have."""
    deadline = time.monotonic() + ground.profile.deadlines.ready
    pods: dict[str, Pods] = {}
    for logical, workloads in WORKLOADS.items():
        real = ground.names.real(logical)
        # Raises with the pod's own reason: ImagePullBackOff, what the quota or an admission says.
        try:
            pods[logical] = install_namespace(
                ground.kube,
                ground.profile,
                real,
                workloads,
                injected=logical != "legacy",
                manifests=ground.manifests,
                deadline=deadline,
            )
        except SetupError as error:
            said = " ".join(error.message.split())
            yield Check(name=f"workloads in {real}", ok=False, said=said, remedy=error.hint or LET_IN)
            return
    yield Check(name="workloads", ok=True, said="let in, pulled and ready")
    injected = _injection(ground, pods["foo"])
    yield injected
    yield no_data_plane(ground, pods["legacy"])
    if injected.ok and ground.profile.barrier == "istio-config-dump":
        yield _proof_of_landing(ground, pods["foo"])


def _injection(ground: Ground, pods: Pods) -> Check:
    container, real = ground.profile.sidecar_container, ground.names.real("foo")
    labels = ", ".join(f"{name}={value}" for name, value in ground.profile.injection_labels.items())
    if ground.profile.dataplane == "ztunnel":
        bare = [pod["metadata"]["name"] for pod in pods if not _is_ambient(pod)]
        said, remedy = "captured by ztunnel", f"is {labels} what your mesh asks of a namespace?"
    else:
        bare = [pod["metadata"]["name"] for pod in pods if not has_sidecar(pod, container)]
        said, remedy = f"each pod has {container}", f"is {labels} what your mesh asks of a namespace?"
    if bare:
        said = f"{', '.join(bare)} in {real} has no data plane of the mesh"
    if real in ground.lent:
        remedy = f"label the namespace: kubectl label namespace {real} {labels.replace(', ', ' ')}"
    return Check(name="injection", ok=not bare, said=said, remedy=remedy)


def _proof_of_landing(ground: Ground, pods: Pods) -> Check:
    """Whether a sidecar tells its configuration, without which no case could ever be concluded."""
    name, container = pods[0]["metadata"]["name"], ground.profile.sidecar_container
    said, ok = "the sidecar's configuration can be read", True
    try:
        dump = pilot_agent(ground.kube, container)
        dump(f"{ground.names.real('foo')}/{name}", time.monotonic() + ground.profile.deadlines.ready)
    except ProbeError as error:
        said, ok = f"the sidecar's configuration cannot be read: {error.message}", False
    remedy = f"is {container} a sidecar of Istio? --profile names the mesh"
    return Check(name="proof of landing", ok=ok, said=said, remedy=remedy)


def _is_ambient(pod: Mapping[str, Any]) -> bool:
    return (pod["metadata"].get("annotations") or {}).get(AMBIENT_MARK) == "enabled"


def no_data_plane(ground: Ground, pods: Pods) -> Check:
    """Whether what must be outside is neither injected nor captured."""
    real = ground.names.real("legacy")
    caught = [
        pod["metadata"]["name"]
        for pod in pods
        if has_sidecar(pod, ground.profile.sidecar_container) or _is_ambient(pod)
    ]
    said = f"{', '.join(caught)} in {real} is in the mesh" if caught else "no sidecar, no ambient capture"
    labels = [*ground.profile.injection_labels, AMBIENT_LABEL]
    remedy = f"no {' or '.join(labels)} on {real}, and no injection by default"
    return Check(name="legacy is outside", ok=not caught, said=said, remedy=remedy)


def check_policy(ground: Ground) -> Iterator[Check]:
    """One policy written and read back, where nothing runs yet; and which API serves them."""
    real = ground.names.real("foo")
    deadline = time.monotonic() + ground.profile.deadlines.ready
    install_namespace(
        ground.kube, ground.profile, real, (), injected=True, manifests=ground.manifests, deadline=deadline
    )
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": CANARY, "namespace": real},
        "spec": {"selector": {"matchLabels": {"app": CANARY}}},
    }
    key, answer = ground.kube.apply(document)
    back = ground.kube.get(key) if answer.ok else answer
    where = ground.kube.mesh.client.configuration.host
    said = f"written to and read back from {where}"
    if ground.kube.mesh is not ground.kube:
        also = ground.kube.data_plane_serves(key.api_version, key.kind)
        said += (
            "; the data plane's API serves them, too"
            if also
            else "; the data plane's API does not serve them"
        )
    if not back.ok:
        said = f"{key} cannot be written: {back.code} {back.reason}: {back.message}"
    remedy = "what refuses it is in the message; a namespace that is half deleted takes nothing"
    yield Check(name="policies", ok=back.ok, said=said, remedy=remedy)
    if answer.ok:
        ground.kube.delete(key)


def check_mutual_tls(ground: Ground) -> Iterator[Check]:
    """Under STRICT the meshed client is still answered and the plaintext one refused: mutual TLS it is."""
    if not {"mtls", "peer-authentication"} <= set(ground.profile.features):
        return
    real = ground.names.real("foo")
    target = f"tcp-echo.{real}"
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": CANARY, "namespace": real},
        "spec": {"selector": {"matchLabels": {"app": "tcp-echo"}}, "mtls": {"mode": "STRICT"}},
    }
    key, answer = ground.kube.apply(document)
    answer.or_raise(f"apply {key}")
    deadline = time.monotonic() + MUTUAL_TLS_SECONDS
    plain = meshed = ""
    try:
        while time.monotonic() < deadline:
            plain, meshed = _ask(ground, "legacy", target), _ask(ground, "foo", target)
            if meshed and not plain:
                break
    finally:
        ground.kube.delete(key)
    if not meshed:
        said = f"a client in {real} gets no answer from {target} under a STRICT PeerAuthentication"
    elif plain:
        said = f"a plaintext client still reaches {target} under a STRICT PeerAuthentication"
    else:
        said = "STRICT refuses plaintext and lets the mesh's own clients in"
    remedy = "does a PeerAuthentication or DestinationRule of the mesh switch mutual TLS off? see `in place`"
    yield Check(name="mutual TLS", ok=bool(meshed and not plain), said=said, remedy=remedy)


def _ask(ground: Ground, logical: str, target: str) -> str:
    real = ground.names.real(logical)
    deadline = time.monotonic() + ground.profile.deadlines.ready
    pods = wait_for_deployments(ground.kube, real, {"sleep"}, deadline=deadline)
    pod = next(pod for pod in pods if (pod["metadata"].get("labels") or {}).get("app") == "sleep")
    try:
        return ask_once(
            ground.kube,
            namespace=real,
            pod=pod["metadata"]["name"],
            container="sleep",
            host=target,
            port=PORT,
            deadline=deadline,
        )
    except ProbeError:
        return ""
