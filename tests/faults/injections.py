"""How each fault is brought about and undone: context managers that are given the stand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest import mock

from conformance.cluster.kube import ObjectKey
from conformance.cluster.ready import wait_for_deletion
from conformance.topology import Ref
from tests.faults import processes
from tests.faults.api_proxy import Reply
from tests.faults.packets import meddling
from tests.faults.stand import Inject, Stand
from tests.processes import wait_until

ECHO, CLIENT, PLAIN = "tcp-echo.foo", "sleep.foo", "sleep.legacy"
PROGRAMS = {"tcp-echo": "tcp_echo.py", "sleep": "sleep infinity", "sidecar": "envoy"}
EXEC, LOG = "/exec", "/log"
READ, WRITE = ("GET",), ("POST", "PUT", "PATCH", "DELETE")


def killed(ref: str, program: str) -> Inject:
    """SIGKILL; the kubelet starts the container again."""

    def inject(stand: Stand) -> AbstractContextManager[None]:
        processes.kill(stand.process(ref, PROGRAMS[program]))
        return nullcontext()

    return inject


def stopped(ref: str, program: str) -> Inject:
    """SIGSTOP: its ports still accept, and nobody answers."""
    return lambda stand: processes.stopped(stand.process(ref, PROGRAMS[program]))


def name_is(ref: str, target: str, *, of: str | None) -> Inject:
    """The name of a Service in a pod's hosts file: gone, or with the address of another Service."""

    def inject(stand: Stand) -> AbstractContextManager[None]:
        rig, service = stand.rig, Ref.parse(target)
        address = rig.services[service]
        entry = f"\n{address}\t"
        other = f"\n{rig.services[Ref.parse(of)]}\t" if of else f"\n#{address[1:]}\t"
        return processes.hosts_of(stand.node, stand.process(ref, PROGRAMS["sleep"]), entry, other)

    return inject


def pod_key(stand: Stand, ref: str) -> ObjectKey:
    pod = stand.rig.pods[Ref.parse(ref)]
    metadata = {"name": pod.name, "namespace": pod.namespace}
    return stand.kube.key({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})


def pod_deleted(ref: str) -> Inject:
    """The pod is deleted; its Deployment makes another one."""

    def inject(stand: Stand) -> AbstractContextManager[None]:
        key = pod_key(stand, ref)
        stand.kube.delete(key).or_raise("delete")
        assert wait_for_deletion(stand.kube, key, deadline=time.monotonic() + 30)
        return nullcontext()

    return inject


def cut(*parts: str) -> Inject:
    """The suite's open connections to the API whose path has one of the parts."""

    def inject(stand: Stand) -> AbstractContextManager[None]:
        assert stand.proxy.cut(*parts), f"nothing open has {parts}"
        return nullcontext()

    return inject


def new_streams(part: str, reply: Reply) -> Inject:
    """The suite's open streams of that kind are cut, and the API answers each new one so."""

    @contextmanager
    def inject(stand: Stand) -> Iterator[None]:
        with api_says(reply, methods=READ, path=part)(stand), cut(part)(stand):
            if part == LOG:  # else a case could begin before its rig has seen the end of them
                logs = len(stand.rig.backends)
                wait_until(lambda: len(stand.rig.silent_backends()) == logs, seconds=30, what="no log open")
            yield

    return inject


def enforcer_cut(stand: Stand) -> AbstractContextManager[None]:
    """All connections of the control plane to the API: its watches."""
    assert processes.cut_connections(stand.enforcer(), 443)
    return nullcontext()


def enforcer_killed(stand: Stand) -> AbstractContextManager[None]:
    processes.kill(stand.enforcer())
    return nullcontext()


def enforcer_stopped(stand: Stand) -> AbstractContextManager[None]:
    return processes.stopped(stand.enforcer())


def enforcer_restarted(stand: Stand) -> AbstractContextManager[None]:
    """Its pod is deleted, and another one takes its place."""
    namespace = stand.profile.root_namespace
    pods, _ = stand.kube.list("v1", "Pod", namespace=namespace, selector="app=enforcer")
    metadata = {"name": pods[0]["metadata"]["name"], "namespace": namespace}
    stand.kube.delete(stand.kube.key({"apiVersion": "v1", "kind": "Pod", "metadata": metadata}))
    return nullcontext()


def api_says(reply: Reply, *, methods: tuple[str, ...], path: str = "", times: int | None = None) -> Inject:
    """The API's answers to such requests, always or so many times."""

    @contextmanager
    def inject(stand: Stand) -> Iterator[None]:
        left = [times]

        def rule(method: str, asked: str) -> Reply | None:
            if method not in methods or path not in asked or left[0] == 0:
                return None
            if left[0] is not None:
                left[0] -= 1
            return reply

        before, stand.proxy.rule = stand.proxy.rule, rule
        try:
            yield
        finally:
            stand.proxy.rule = before

    return inject


def policy_key(stand: Stand) -> ObjectKey:
    metadata = {"name": "p", "namespace": stand.rig.names.real("foo")}
    body = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata}
    return stand.kube.key(body)


def policy_patched(patch: dict[str, Any]) -> Inject:
    """Somebody else writes into the case's policy, and it is in force before anything else happens."""

    def inject(stand: Stand) -> AbstractContextManager[None]:
        stand.kube.merge_patch(policy_key(stand), patch).or_raise("patch")
        return nullcontext()

    return inject


def policy_deleted(stand: Stand) -> AbstractContextManager[None]:
    stand.kube.delete(policy_key(stand)).or_raise("delete")
    return nullcontext()


def packets(ref: str, *words: str) -> Inject:
    """Dropped or delayed in the pod's own network."""
    return lambda stand: meddling(stand.process(ref, PROGRAMS["sleep"]), *words)


def diverted(ref: str, *ports: str, to: str) -> Inject:
    """What the pod sends to the ports arrives at another workload."""

    def inject(stand: Stand) -> AbstractContextManager[None]:
        address = stand.rig.pods[Ref.parse(to)].address
        return meddling(stand.process(ref, PROGRAMS["sleep"]), "divert", address, *ports)

    return inject


def clock_jumps(seconds: float) -> Inject:
    """The suite's own clock, from one moment to the next."""

    @contextmanager
    def inject(stand: Stand) -> Iterator[None]:
        real = time.time

        def jumped() -> float:
            return real() + seconds

        with mock.patch.object(time, "time", jumped):
            yield

    return inject
