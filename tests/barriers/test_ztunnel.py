"""The barrier of ztunnel: a port that a policy of ours turns, in either direction."""

from __future__ import annotations

from typing import Any, cast

import pytest

from conformance.barrier import Changes
from conformance.barrier_ztunnel import ZtunnelPort
from conformance.cluster.kube import Answer, Kube, ObjectKey
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


def test_a_port_that_does_not_turn_proves_nothing() -> None:
    landed, detail = wait(Mesh(standing=True, deaf=10**9), timeout=0.2)
    assert (landed, "DENY on port 9009 has no effect: nothing is proven" in detail) == (False, True)
    landed, detail = wait(Mesh(standing=False, denies_all=True), timeout=0.2)
    assert (landed, "no other backend is on its node: nothing is proven" in detail) == (False, True)


class Lossy(Mesh):
    """Some tries get no answer for another cause than a policy: those with these numbers, from 0 on."""

    def __init__(self, *lost: int, deaf: int = 0) -> None:
        super().__init__(standing=True, deaf=deaf)
        self.lost = lost
        self.tries = 0

    def answers(self, pod: str, port: int) -> bool:
        self.tries += 1
        return super().answers(pod, port) and self.tries - 1 not in self.lost


@pytest.mark.parametrize(
    ("mesh", "landed"),
    [
        pytest.param(Lossy(0), True, id="the first try"),
        pytest.param(Lossy(0, 1, deaf=10**9), False, id="all tries before ours is written"),
        pytest.param(Lossy(2, deaf=10**9), False, id="one after it"),
    ],
)
def test_a_lost_connection_is_no_refusal(mesh: Lossy, landed: bool) -> None:
    found, detail = wait(mesh, timeout=60 if landed else 0.3)
    assert found is landed, detail
    if landed:
        assert [document["spec"]["action"] for document in mesh.written] == ["DENY"]


@pytest.mark.parametrize("deaf", [0, 10**9], ids=["obeys", "deaf to ours"])
def test_what_opened_the_port_before_ours_is_no_proof_of_ours(deaf: int) -> None:
    class Opening(Mesh):
        """An earlier deletion opens the port while ours is written."""

        def create(self, document: dict[str, Any]) -> Answer:
            self.standing = True
            return super().create(document)

    mesh = Opening(standing=False, deaf=deaf)
    landed, detail = wait(mesh, timeout=0.3 if deaf else 60)
    assert landed is not bool(deaf), detail
    assert [document["spec"]["action"] for document in mesh.written] == ["ALLOW", "DENY"]


def test_an_allow_is_gone_before_anything_is_probed() -> None:
    class Late(Mesh):
        """Obeys a deletion three tries later."""

        lingers = 3

        def answers(self, pod: str, port: int) -> bool:
            if self.written and not self.policies and self.lingers:
                self.lingers -= 1
                return True
            return super().answers(pod, port)

    mesh = Late(standing=False)
    assert wait(mesh)[0]
    assert mesh.lingers == 0


def test_a_policy_of_ours_that_stays_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = Mesh(standing=False)
    monkeypatch.setattr(mesh, "delete", lambda _: Answer(code=403, reason="Forbidden", message="no"))
    barrier = ZtunnelPort(cast("Kube", mesh), answers=mesh.answers, awaited_kinds=("AuthorizationPolicy",))
    waited = barrier.wait(Changes(), pods=[POD], timeout=60)
    assert (waited.landed, "cannot be deleted: 403 Forbidden no" in waited.detail) == (False, True)


OTHER = "bar/tcp-echo-1"


class Denied(Api):
    """foo denies everything; `deaf`: neighbours are not obeyed either, `nodes`: where the two run."""

    def __init__(
        self, *, nodes: tuple[str, str] = ("n1", "n1"), deaf: bool = False, late: bool = False
    ) -> None:
        super().__init__()
        self.nodes = dict(zip(("foo", "bar"), nodes, strict=True))
        self.deaf = deaf
        self.open = late  # the DENY of everything comes with our first policy

    def get(self, key: ObjectKey) -> Answer:
        return Answer(code=200, body={"spec": {"nodeName": self.nodes[key.namespace]}})

    def answers(self, pod: str, port: int) -> bool:
        if pod == POD:
            self.open = self.open and not self.policies
            return self.open
        mine = [item for item in self.policies.values() if item["metadata"]["namespace"] == "bar"]
        return self.deaf or not any(item["spec"]["action"] == "DENY" for item in mine)


def wait_beside(mesh: Denied) -> tuple[bool, str]:
    barrier = ZtunnelPort(
        cast("Kube", mesh),
        answers=mesh.answers,
        awaited_kinds=("AuthorizationPolicy",),
        neighbours=lambda: [POD, OTHER],
    )
    waited = barrier.wait(Changes(), pods=[POD], timeout=0.4)
    assert mesh.policies == {}
    return waited.landed, waited.detail


@pytest.mark.parametrize("late", [False, True], ids=["denied before", "denied meanwhile"])
def test_under_a_deny_of_everything_a_neighbour_on_the_same_node_tells(late: bool) -> None:
    mesh = Denied(late=late)
    landed, detail = wait_beside(mesh)
    assert landed, detail
    assert f"is refused, allowed or not; that of {OTHER} on the same node turned" in detail
    # The neighbour's policy is the last one: who obeys it has the ALLOW for the port that stays refused.
    written = [(item["metadata"]["namespace"], item["spec"]["action"]) for item in mesh.written]
    assert written[-2:] == [("foo", "ALLOW"), ("bar", "DENY")]


@pytest.mark.parametrize("mesh", [Denied(nodes=("n1", "n2")), Denied(deaf=True)], ids=["elsewhere", "deaf"])
def test_a_neighbour_on_another_node_or_a_deaf_one_proves_nothing(mesh: Denied) -> None:
    landed, detail = wait_beside(mesh)
    assert (landed, "nothing is proven to have landed" in detail) == (False, True)


def test_what_has_no_sign_of_its_own_is_said_to_have_none() -> None:
    mesh = Mesh(standing=True)
    key = mesh.key(
        {"apiVersion": "v1", "kind": "PeerAuthentication", "metadata": {"name": "strict", "namespace": "foo"}}
    )
    barrier = ZtunnelPort(cast("Kube", mesh), answers=mesh.answers, awaited_kinds=("PeerAuthentication",))
    waited = barrier.wait(Changes(written={key: "7"}), pods=[POD], timeout=60)
    assert waited.landed
    assert waited.detail.endswith("; PeerAuthentication by its effect alone")
