"""The barrier of ztunnel: a port that a policy of ours turns, in either direction."""

from __future__ import annotations

from typing import cast

import pytest

from conformance.barrier import Changes
from conformance.barrier_ztunnel import ZtunnelPort
from conformance.cluster.kube import Kube
from tests.barriers.test_istio import Api

POD = "foo/tcp-echo-1"


class Mesh(Api):
    """`standing`: what the case's own policies make of the barrier's port; `deaf`: tries until it obeys."""

    def __init__(self, *, standing: bool, deaf: int = 0, denies_all: bool = False) -> None:
        super().__init__()
        self.standing = standing
        self.deaf = deaf
        self.denies_all = denies_all

    def answers(self, pod: str, port: int) -> bool:
        actions = {document["spec"]["action"] for document in self.policies.values()}
        if self.policies and self.deaf > 0:
            self.deaf -= 1
            return self.standing
        if self.denies_all or "DENY" in actions:
            return False
        return self.standing or "ALLOW" in actions


def wait(mesh: Mesh, timeout: float = 60) -> tuple[bool, str]:
    barrier = ZtunnelPort(cast("Kube", mesh), answers=mesh.answers, awaited_kinds=("AuthorizationPolicy",))
    waited = barrier.wait(Changes(), pods=[POD, "foo/sleep-1"], timeout=timeout)
    assert mesh.policies == {}
    return waited.landed, waited.detail


@pytest.mark.parametrize(
    ("standing", "action", "said"),
    [(True, "DENY", "was refused after answering"), (False, "ALLOW", "answered after refusing")],
)
def test_the_port_is_turned(standing: bool, action: str, said: str) -> None:
    mesh = Mesh(standing=standing, deaf=3)
    landed, detail = wait(mesh)
    assert (landed, said in detail) == (True, True)
    assert [document["spec"]["action"] for document in mesh.written] == [action]


@pytest.mark.parametrize(
    "mesh", [Mesh(standing=True, deaf=10**9), Mesh(standing=False, denies_all=True)], ids=["deaf", "denied"]
)
def test_a_port_that_does_not_turn_proves_nothing(mesh: Mesh) -> None:
    landed, detail = wait(mesh, timeout=0.2)
    assert (landed, "nothing is proven to have landed" in detail) == (False, True)
