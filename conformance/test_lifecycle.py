"""Cases about change over time that data cannot say: what goes away, comes back and is replaced meanwhile."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from conformance.act import Act, policy, row
from conformance.evidence import Outcome
from conformance.mesh import (
    control_plane_stopped,
    counters,
    sidecar_id,
    sidecar_is_back,
    sidecar_restarting,
)
from conformance.newcomers import ask, namespace, newcomer
from conformance.scenario import By, Refusal
from conformance.topology import Ref
from conformance.verdict import Failure

REPLACEMENTS = 25
ONLY_9000 = policy("only-9000", {"rules": [{"to": [{"operation": {"ports": ["9000"]}}]}]})
# The same connections by another rule.
ONLY_9000_AGAIN = policy("only-9000", {"rules": [{"to": [{"operation": {"ports": ["9000", "9000"]}}]}]})
# `form` is meant to be `from`.
MISSPELT = policy("only-9000", {"rules": [{"to": [{"operation": {"ports": ["9001"]}}], "form": []}]})
TABLE = [
    row("sleep.foo", "tcp-echo.foo", 9000, outcome="succeeded", by=By(policy="only-9000", rule=0)),
    row("sleep.foo", "tcp-echo.foo", 9001, outcome="rejected", by=By(policy=None)),
    row("sleep.legacy", "tcp-echo.foo", 9000, outcome="succeeded", by=By(policy="only-9000", rule=0)),
    row("sleep.legacy", "tcp-echo.foo", 9001, outcome="rejected", by=By(policy=None)),
]
NEW_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "newcomer", "namespace": "${foo}"},
    "spec": {"containers": [{"name": "app", "image": "authz-conformance:dev", "command": ["tcp-echo"]}]},
}


@pytest.mark.requirements("LIFE-03", features=["mesh-wide", "own-control-plane"])
def test_control_plane_away(act: Act) -> None:
    """Running sidecars decide as before while the control plane is away"""
    act.begin(TABLE)
    act.apply(ONLY_9000)
    act.expect(TABLE, what="the control plane is there")
    with control_plane_stopped(act.rig):
        act.expect(TABLE, what="the control plane is away", proven=False)
    act.expect(TABLE, what="the control plane is back")


@pytest.mark.requirements("LIFE-04", features=["mesh-wide", "own-control-plane", "proxy-admin"])
def test_nothing_opens_without_control_plane(act: Act) -> None:
    """Without the control plane a new pod is refused and a sidecar that starts anew lets nothing through"""
    target = Ref.parse("tcp-echo.bar")
    closed = [
        row("sleep.bar", "tcp-echo.bar", 9000, 9001, outcome="unreachable", via="pod"),
        row("sleep.legacy", "tcp-echo.bar", 9000, 9001, outcome="unreachable", via="pod"),
    ]
    act.begin(closed)
    probes = 0
    # The control plane returns first: only then can the sidecar become ready.
    with ExitStack() as stack, control_plane_stopped(act.rig):
        created = act.rig.kube.create(act.resolve(NEW_POD))
        if created.ok:
            act.rig.kube.delete(act.rig.kube.key(act.resolve(NEW_POD)))
            act.fail(Failure.NOT_REFUSED, "a new pod was accepted, and it has no sidecar")
        if "webhook" not in created.message:
            act.doubt(f"a new pod was refused for another reason: {created.code} {created.message}")
        before = stack.enter_context(sidecar_restarting(act.rig, target))
        deadline = time.monotonic() + act.rig.profile.deadlines.ready
        while sidecar_id(act.rig, target) in ("", before):
            probes += act.sweep(closed)
            if time.monotonic() > deadline:
                act.doubt("the sidecar was not started again")
        for _ in range(act.rig.profile.rounds):
            probes += act.sweep(closed)
        act.backend_lives("tcp-echo.bar", 9000)
    act.passes(f"a new pod was refused ({created.code}); {probes} probes, none of which got through")


@pytest.mark.requirements("LIFE-05", features=["proxy-admin"])
def test_sidecar_restarts(act: Act) -> None:
    """A sidecar that starts again lets no forbidden connection through, not even the first"""
    target = Ref.parse("tcp-echo.foo")
    act.begin(TABLE)
    act.apply(ONLY_9000)
    act.expect(TABLE, what="before the restart")
    probes = 0
    with sidecar_restarting(act.rig, target) as before:
        deadline = time.monotonic() + act.rig.profile.deadlines.ready
        while not sidecar_is_back(act.rig, target, before):
            probes += act.sweep(TABLE, allowed_may_fail=True)
            if time.monotonic() > deadline:
                act.doubt("the sidecar did not come back")
    act.expect(TABLE, what="after the restart")
    act.passes(f"{probes} probes while it came back; no forbidden one got through")


@pytest.mark.requirements("LIFE-06")
def test_policy_replaced(act: Act) -> None:
    """While a policy is replaced by an equivalent one every connection is decided as before"""
    act.begin(TABLE)
    act.apply(ONLY_9000)
    act.expect(TABLE, what="before the first replacement")

    def replace() -> None:
        for number in range(REPLACEMENTS):
            act.apply(ONLY_9000 if number % 2 else ONLY_9000_AGAIN)
            act.land(["tcp-echo.foo"])

    act.rest()  # the sweeps below are the watch
    probes = 0
    with ThreadPoolExecutor(max_workers=1) as pool:
        replacing = pool.submit(replace)
        while not replacing.done():
            probes += act.sweep(TABLE)
        replacing.result()
    act.expect(TABLE, what="after the last replacement")
    act.passes(f"{REPLACEMENTS} replacements under {probes} probes, not one of which went wrong")


@pytest.mark.requirements("LIFE-09", features=["new-namespaces"])
def test_deleted_namespace(act: Act) -> None:
    """A policy of a namespace that was deleted is not in force in its successor of the same name"""
    rig = act.rig
    real = f"gone-{rig.names.run}{rig.names.worker}"
    deny_all = policy("deny-all", {}, namespace=real)
    with namespace(rig, real), newcomer(rig, real) as pod:
        before = ask(rig, "sleep.foo", pod, 9000)
        act.control("baseline", "sleep.foo", pod.key, {9000: before.seen})
        act.apply(deny_all)
        act.land(["sleep.foo"], pods=[pod.key])
        act.settle(ask(rig, "sleep.foo", pod, 9000).verdict(rig, Outcome.REJECTED))
    key = rig.kube.key(deny_all)
    with namespace(rig, real), newcomer(rig, real) as pod:
        if rig.kube.get(key).ok:
            act.fail(Failure.NOT_RECOVERED, f"{key} is still there in the new namespace")
        act.delete(deny_all)
        act.land(["sleep.foo"], pods=[pod.key])
        after = ask(rig, "sleep.foo", pod, 9000)
        act.settle(after.verdict(rig, Outcome.SUCCEEDED))
        act.control("recovery", "sleep.foo", pod.key, {9000: after.seen})
    act.passes(f"denied in the namespace; after it was deleted and made anew: {after.seen.describe()}")


@pytest.mark.requirements("VALID-15")
def test_strict_field_validation(act: Act) -> None:
    """Under strict field validation a misspelt field is refused, and the policy stays as it was"""
    act.begin(TABLE)
    act.apply_strictly(ONLY_9000)
    act.expect(TABLE, what="what is spelt right is accepted")
    act.apply_strictly(MISSPELT, refused=Refusal(codes=(400,), message="unknown field"))
    act.expect(TABLE, what="what is misspelt was refused")


@pytest.mark.requirements("LIFE-10")
def test_kubelet_probes(act: Act) -> None:
    """A pod becomes and stays ready where every connection to it is denied"""
    closed = [row("sleep.foo", "tcp-echo.foo", 9000, 9001, outcome="rejected", by=By(policy=None))]
    act.begin(closed)
    act.apply(policy("deny-all", {}))
    act.expect(closed, what="everything is denied")
    act.restart("tcp-echo.foo")
    act.expect(closed, what="a new pod is ready")


@pytest.mark.requirements("RUN-07", features=["proxy-admin"])
def test_counters(act: Act) -> None:
    """The counters of allowed and denied connections move by the probes that were sent"""
    target = Ref.parse("tcp-echo.foo")
    names = ("tcp.rbac.allowed", "tcp.rbac.denied")
    act.begin(TABLE)
    act.apply(ONLY_9000)
    act.expect(TABLE, what="the policy is in force")
    act.rest()
    before = counters(act.rig, target, names)
    rounds = 5
    for _ in range(rounds):
        act.sweep(TABLE)
    after = counters(act.rig, target, names)
    moved = {name: after[name] - before[name] for name in names}
    wanted = {names[0]: 2 * rounds, names[1]: 2 * rounds}
    if moved != wanted:
        act.fail(Failure.MISCOUNTED, f"{wanted} probes were sent, the counters moved by {moved}")
    act.passes(f"the counters moved by {moved}, as many as were sent")
