"""Setting the stage: which cluster, the enforcer on it, a worker's workloads, and the rig made of them.

Each phase is told in one line while it happens.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from conformance.barrier import Barrier, EnforcerStatus
from conformance.barrier_istio import ConfigDump, pilot_agent
from conformance.barrier_ztunnel import BACKEND, ZtunnelPort, from_pod
from conformance.cluster.exec import open_exec
from conformance.cluster.existing import connect, read_environment
from conformance.cluster.install import (
    MANIFESTS,
    install_enforcer,
    install_workloads,
    remove_namespaces,
)
from conformance.cluster.kind import check_kind
from conformance.cluster.kube import Kube
from conformance.cluster.ready import is_ready, wait_for_pods
from conformance.errors import InputError, ProbeError, SetupError
from conformance.pods import Pod, pods_by_workload, service_addresses
from conformance.profile import CONFIG_DUMP, ZTUNNEL_PORT, Profile
from conformance.rig import Rig
from conformance.topology import NAMESPACES, WORKLOADS, Names, Ref

__all__ = [
    "Choice",
    "Cluster",
    "choose",
    "clear_stage",
    "open_barrier",
    "open_rig",
    "phase",
    "prepare",
    "renew_barrier",
    "start",
    "start_here",
]

Say = Callable[[str], None]
LAST_WORDS = 5  # lines
TRIES_PORTS = Ref(name="sleep", namespace="foo")  # the client of the barrier ztunnel-port


class Cluster(Protocol):
    """A running cluster: embedded, of kind, or one that was there."""

    @property
    def kubeconfig(self) -> Path: ...
    @property
    def description(self) -> str: ...
    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which kind of cluster and why, in the words of the first line."""

    kind: str  # embedded | kind | existing
    why: str


def choose(
    asked: str,
    *,
    kubeconfig: Path | None,
    context: str | None,
    profile: Profile,
    image: bool,
    which: Callable[[str], object],
    check: Callable[[], None],
) -> Choice:
    """`image`: whether one was named; `check`: raises InputError where kind cannot be driven. Raises
    InputError where what was asked for cannot be had; never falls back silently."""
    if asked == "kind":
        if kubeconfig or context:
            raise InputError("--kubeconfig and --context go with --cluster existing, not with kind")
        if not profile.install_enforcer:
            raise InputError(
                f"a new kind cluster has no mesh of the profile {profile.name}",
                hint="install it there, then --cluster existing --kubeconfig FILE",
            )
        check()
        return Choice(kind="kind", why="asked for")
    if asked == "existing" or (asked == "auto" and (kubeconfig or context)):
        why = "asked for" if asked == "existing" else "a kubeconfig or context is given"
        return Choice(kind="existing", why=why)
    if asked == "embedded":
        if kubeconfig or context:
            raise InputError("--kubeconfig and --context go with --cluster existing, not with embedded")
        if image:
            raise InputError("the embedded cluster has one image, this project's environment")
        return Choice(kind="embedded", why="asked for")
    if not profile.install_enforcer:
        raise InputError(
            f"the profile {profile.name} is for a mesh that exists",
            hint="--cluster existing --kubeconfig FILE",
        )
    missing = [program for program in ("docker", "kind") if not which(program)]
    if missing and not image:
        return Choice(kind="embedded", why=f"{' and '.join(missing)} not installed")
    check()
    return Choice(kind="kind", why="docker and kind answer")


def choose_here(
    asked: str, *, kubeconfig: Path | None, context: str | None, profile: Profile, image: bool = False
) -> Choice:
    """`choose` with this machine's programs."""
    return choose(
        asked,
        kubeconfig=kubeconfig,
        context=context,
        profile=profile,
        image=image,
        which=shutil.which,
        check=check_kind,
    )


@contextmanager
def phase(say: Say, what: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    say(f"{what} in {time.monotonic() - begun:.1f} s")


def start(choice: Choice, *, kubeconfig: Path | None, context: str | None, say: Say) -> Cluster:
    """The cluster. Raises SetupError or InputError."""
    say(f"cluster: {choice.kind} ({choice.why})")
    if choice.kind == "existing":
        return connect(kubeconfig, context)
    return start_here(say)


def start_here(say: Say, *, port: int = 0) -> Cluster:
    """The embedded cluster. Raises SetupError with the last words of its node."""
    # Only here: the other clusters need nothing of it.
    from conformance.cluster.embedded.cluster import NodeError, start_embedded

    with phase(say, "cluster up"):
        try:
            return start_embedded(port=port)
        except NodeError as error:
            words = "\n".join(error.log.strip().splitlines()[-LAST_WORDS:])
            tail = f"\nits last words:\n{words}" if words else ""
            hint = f"; `python -m conformance doctor` says what this machine lacks{tail}"
            raise SetupError(f"the embedded cluster did not start: {error}{hint}") from None


def prepare(kube: Kube, profile: Profile, say: Say, *, manifests: Path = MANIFESTS) -> None:
    """What all workers share: the enforcer, where the profile brings it. Raises SetupError."""
    answer = kube.request("GET", "/version")
    if answer.code in (401, 403):
        host = kube.client.configuration.host
        raise SetupError(
            f"the Kubernetes API at {host} refuses the credentials in {kube.kubeconfig}",
            hint="renew them, or name another context: --context NAME",
        )
    answer.or_raise("ask the cluster for its version")
    if profile.install_enforcer:
        with phase(say, "enforcer ready"):
            install_enforcer(kube, profile, manifests=manifests)


def open_rig(kube: Kube, profile: Profile, names: Names, say: Say, *, manifests: Path = MANIFESTS) -> Rig:
    """A worker's namespaces, workloads, barrier and log streams. Raises SetupError."""
    with phase(say, "workloads ready"):
        pods = install_workloads(kube, profile, names, manifests=manifests)
    flat = [pod for group in pods.values() for pod in group]
    found = pods_by_workload(names, flat, profile)
    missing = sorted(str(ref) for ref in WORKLOADS if ref not in found)
    if missing:
        raise SetupError(f"no ready pod of {', '.join(missing)}")
    without = [str(ref) for ref, pod in found.items() if WORKLOADS[ref].injected and not pod.sidecar]
    if profile.dataplane == "sidecar" and without:
        raise SetupError(f"no sidecar was injected into {', '.join(sorted(without))}")
    if told := placement(names, flat):
        say(told)
    with phase(say, "streams open"):
        services = service_addresses(kube, names, NAMESPACES)
        barrier = open_barrier(kube, profile, found)
        try:
            return Rig(
                kube=kube, profile=profile, names=names, pods=found, services=services, barrier=barrier
            )
        except BaseException:
            barrier.close()
            raise


def placement(names: Names, pods: list[dict[str, Any]]) -> str:
    """Which workloads share a node with their namespace's server and which do not; empty for one node."""
    nodes = {
        (
            names.logical(pod["metadata"]["namespace"]),
            str((pod["metadata"].get("labels") or {}).get("app")),
        ): str(pod["spec"].get("nodeName"))
        for pod in pods
    }
    if len(set(nodes.values())) < 2:
        return ""
    servers = {namespace: node for (namespace, name), node in nodes.items() if name == "tcp-echo"}
    near: list[str] = []
    far: list[str] = []
    for (namespace, name), node in sorted(nodes.items()):
        if name != "tcp-echo" and namespace in servers:
            (near if node == servers[namespace] else far).append(f"{name}.{namespace}")
    parts = [f"{len(set(nodes.values()))} nodes", f"beside tcp-echo: {', '.join(near) or 'none'}"]
    return "; ".join([*parts, f"on another node: {', '.join(far) or 'none'}"])


def open_barrier(kube: Kube, profile: Profile, pods: Mapping[Ref, Pod]) -> Barrier:
    """What proves that a change has landed; the profile names it. Raises SetupError."""
    if profile.barrier == CONFIG_DUMP:
        dump = pilot_agent(kube, profile.sidecar_container)
        return ConfigDump(
            kube,
            dump=dump,
            awaited_kinds=profile.awaited_kinds,
            # Asked anew each time: pods are replaced.
            neighbours=lambda: [pod.key for pod in pods.values() if pod.sidecar],
        )
    if profile.barrier == ZTUNNEL_PORT:
        client = pods[TRIES_PORTS]
        answers = from_pod(
            kube,
            namespace=client.namespace,
            pod=client.name,
            container=TRIES_PORTS.name,
            timeout=profile.deadlines.probe,
        )
        return ZtunnelPort(
            kube,
            answers=answers,
            awaited_kinds=profile.awaited_kinds,
            neighbours=lambda: [
                pod.key for ref, pod in pods.items() if ref.name == BACKEND and WORKLOADS[ref].injected
            ],
        )
    return open_status(kube, profile)


def open_status(kube: Kube, profile: Profile) -> EnforcerStatus:
    """The stream in which the enforcer tells what has landed. Raises SetupError."""
    pods = wait_for_pods(
        kube,
        profile.root_namespace,
        done=lambda pods: bool(_ready_enforcers(pods)),
        deadline=time.monotonic() + profile.deadlines.ready,
        what=f"a ready enforcer pod (app=enforcer) in {profile.root_namespace}",
        ran_before=True,
    )
    ready = _ready_enforcers(pods)
    try:
        stream = open_exec(
            kube,
            namespace=profile.root_namespace,
            pod=ready[0],
            container="controller",
            command=("python3", "-m", "enforcer", "status", "--follow"),
            what="enforcer status",
        )
    except ProbeError as error:
        raise SetupError(error.message) from None
    status = EnforcerStatus(stream, awaited_kinds=profile.awaited_kinds)
    try:
        status.await_first(profile.deadlines.ready)
    except SetupError:
        status.close()
        raise
    return status


def _ready_enforcers(pods: list[dict[str, Any]]) -> list[str]:
    return [
        pod["metadata"]["name"]
        for pod in pods
        if is_ready(pod) and (pod["metadata"].get("labels") or {}).get("app") == "enforcer"
    ]


def renew_barrier(rig: Rig) -> None:
    """Listens to the control plane anew where it was restarted, by another worker's case for one. Raises
    SetupError."""
    if isinstance(rig.barrier, EnforcerStatus) and rig.barrier.broken:
        rig.barrier.close()
        rig.barrier = open_status(rig.kube, rig.profile)


def environment(kube: Kube, profile: Profile, names: Names) -> list[dict[str, Any]]:
    """What stands on the cluster before the first case, for the record."""
    return read_environment(kube, [profile.root_namespace, *map(names.real, NAMESPACES)])


def clear_stage(kube: Kube, names: Names, rig: Rig | None) -> None:
    """Ends what is open and asks for the deletion of the worker's namespaces."""
    if rig is not None:
        rig.close()
    remove_namespaces(kube, names)
