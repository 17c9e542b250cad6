"""What a hand makes of the API's word: which writes it remembers, so that they can be undone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conformance.cluster.bounds import Bounds
from conformance.cluster.kube import Answer, ObjectKey
from conformance.errors import SetupError
from conformance.profile import find_profile, load_profile
from conformance.rig import Rig
from conformance.scenario import Refusal
from conformance.step_result import is_what_was_sent
from conformance.steps import Hand
from conformance.topology import Names
from conformance.verdict import Failure, Status

BODY: dict[str, Any] = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "p", "namespace": "foo"},
    "spec": {"action": "DENY", "rules": [{"when": [{"key": "bogus"}]}]},
}
KEY = ObjectKey(
    api_version="security.istio.io/v1",
    kind="AuthorizationPolicy",
    resource="authorizationpolicies",
    namespace="foo",
    name="p",
)
REFUSED = Refusal(codes=(400,), message="")


class Api:
    """Answers a write with `code` and stores `spec` all the same."""

    def __init__(self, code: int, spec: object) -> None:
        self.code = code
        self.spec = spec
        self.stored: dict[str, Any] | None = None
        self.bounds: Bounds | None = None

    def key(self, _: object, *, namespace: str = "") -> ObjectKey:
        return KEY

    def get(self, _: ObjectKey) -> Answer:
        return Answer(code=200, body=self.stored) if self.stored else Answer(code=404)

    def apply(self, body: dict[str, Any], **_: object) -> tuple[ObjectKey, Answer]:
        self.stored = {"metadata": {"uid": "u", "generation": 1}, "spec": self.spec}
        return KEY, Answer(code=self.code, reason="Invalid", message="no")

    def delete(self, _: ObjectKey) -> Answer:
        self.stored = None
        return Answer(code=200)


def hand_at(api: Api) -> tuple[Hand, Any]:
    profile = load_profile(find_profile("bundled"))
    names = Names(run="t", worker="", root="authz-system")
    rig: Any = SimpleNamespace(kube=api, profile=profile, names=names, unanswered={}, leftovers=[])
    rig.arrived = lambda: Rig.arrived(rig)
    return Hand(rig, SimpleNamespace(documents=())), rig  # type: ignore[arg-type]  # it is not asked


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        pytest.param(BODY["spec"], {"action": "DENY", "rules": [{}]}, id="pruned"),
        pytest.param(None, None, id="null"),
    ],
)
def test_what_was_refused_and_is_stored_is_undone(sent: object, stored: object) -> None:
    api = Api(400, stored)
    hand, rig = hand_at(api)
    made = hand.put({**BODY, "spec": sent}, refused=REFUSED)
    assert Failure.NOT_REFUSED in [verdict.failure for verdict in made.verdicts]
    assert hand.disturbed() == []
    hand.undo()
    assert (api.stored, rig.leftovers) == (None, [])


@pytest.mark.parametrize(
    ("patch", "after", "same"),
    [
        pytest.param({"a": {"c": 2}}, {"a": {"b": 1, "c": 2}, "d": [3]}, True, id="merged"),
        pytest.param({"d": None}, {"a": {"b": 1}}, True, id="removed"),
        pytest.param({"a": {"b": 1}, "e": 5}, {"a": {"b": 1}, "e": 5}, True, id="replaced"),
        pytest.param({"d": None}, {"d": [3]}, False, id="somebody else's"),
    ],
)
def test_a_change_is_ours_where_it_is_what_our_write_would_have_made(
    patch: dict[str, Any], after: dict[str, Any], same: bool
) -> None:
    before = {"spec": {"a": {"b": 1}, "d": [3]}}
    assert is_what_was_sent({"spec": after}, {"spec": patch}, before) is same


@pytest.mark.parametrize("code", [408, 500, 504])
def test_what_the_api_could_not_say_may_be_stored(code: int) -> None:
    hand, rig = hand_at(Api(code, BODY["spec"]))
    made = hand.put(BODY)
    assert [verdict.status for verdict in made.verdicts] == [Status.INCONCLUSIVE]
    assert rig.unanswered == {KEY: None}
    assert hand.disturbed() == [f"{KEY} came late, of a write without an answer"]


@pytest.mark.parametrize("run", ["t", ""], ids=["of this run", "of others"])
def test_what_others_have_of_that_name_is_left_as_it_is(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api(200, BODY["spec"])
    api.bounds = Bounds(run="t", root="istio-system", given=frozenset({"foo"}))
    hand, rig = hand_at(api)
    labels = api.bounds.labels if run else {}
    api.stored = theirs = {"metadata": {"uid": "u", "labels": labels}, "spec": {}}

    def refuse(*_: object, **__: object) -> object:
        raise SetupError("it exists and is not of this run" if not run else "no answer")

    monkeypatch.setattr(api, "apply", refuse)
    with pytest.raises(SetupError):
        hand.put(BODY)
    assert hand.disturbed() == ([f"{KEY} came late, of a write without an answer"] if run else [])
    Rig.clear(rig)
    assert api.stored == (None if run else theirs)
