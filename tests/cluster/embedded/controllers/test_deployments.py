"""What a Deployment's pods should become: the pure part of the controller."""

import pytest

from conformance.cluster.embedded.client import ApiClientError
from conformance.cluster.embedded.controllers.deployment_status import HASH_LABEL, share_of, status_of
from conformance.cluster.embedded.controllers.deployments import Object, hash_of, plan, pod_from
from conformance.cluster.embedded.controllers.queue import retry_delay


def pod(name: str, template: str, *, ready: bool) -> Object:
    return {
        "metadata": {"name": name, "labels": {HASH_LABEL: template}},
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def names(pods: list[Object]) -> list[str]:
    return sorted(item["metadata"]["name"] for item in pods)


def test_a_new_deployment_gets_all_its_pods_at_once() -> None:
    assert plan({"replicas": 3}, [], "new") == (3, [])


def test_a_satisfied_deployment_is_left_alone() -> None:
    pods = [pod("a", "new", ready=True), pod("b", "new", ready=False)]
    assert plan({"replicas": 2}, pods, "new") == (0, [])


def test_scaling_down_removes_pods_that_are_not_ready_first() -> None:
    pods = [pod("ready", "new", ready=True), pod("starting", "new", ready=False)]
    creations, deletions = plan({"replicas": 1}, pods, "new")
    assert (creations, names(deletions)) == (0, ["starting"])


def test_a_rolling_update_keeps_the_old_pod_until_the_new_one_is_ready() -> None:
    old, starting = pod("old", "old", ready=True), pod("new", "new", ready=False)
    assert plan({"replicas": 1}, [old], "new") == (1, [])
    assert plan({"replicas": 1}, [old, starting], "new") == (0, [])
    creations, deletions = plan({"replicas": 1}, [old, pod("new", "new", ready=True)], "new")
    assert (creations, names(deletions)) == (0, ["old"])


def test_recreate_removes_the_old_pods_before_it_makes_new_ones() -> None:
    spec = {"replicas": 1, "strategy": {"type": "Recreate"}}
    creations, deletions = plan(spec, [pod("old", "old", ready=True)], "new")
    assert (creations, names(deletions)) == (0, ["old"])
    assert plan(spec, [], "new") == (1, [])


@pytest.mark.parametrize(
    ("value", "whole", "round_up", "expected"),
    [("25%", 1, True, 1), ("25%", 1, False, 0), ("50%", 3, True, 2), ("50%", 3, False, 1), (2, 9, True, 2)],
)
def test_shares_are_rounded_as_kubernetes_does(
    value: int | str, whole: int, round_up: bool, expected: int
) -> None:
    assert share_of(value, whole, round_up=round_up) == expected


def deployment(**status: object) -> Object:
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "x"}]}}
    return {
        "metadata": {"name": "x", "uid": "u", "generation": 4},
        "spec": {"replicas": 1, "template": template},
        "status": status,
    }


def test_pods_carry_their_owner_and_the_template_hash() -> None:
    made = pod_from(deployment(), "abc")
    assert made["metadata"]["labels"] == {"app": "x", HASH_LABEL: "abc"}
    assert made["metadata"]["generateName"] == "x-abc-"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u"


def test_the_template_hash_does_not_depend_on_the_order_of_fields() -> None:
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1})
    assert hash_of({"a": 1}) != hash_of({"a": 2})


def conditions(status: Object) -> dict[str, str]:
    return {condition["type"]: condition["status"] for condition in status["conditions"]}


def test_availability_follows_readiness() -> None:
    waiting = status_of(deployment(), [pod("a", "h", ready=False)], "h", None)
    assert (conditions(waiting)["Available"], waiting["unavailableReplicas"]) == ("False", 1)
    ready = status_of(deployment(), [pod("a", "h", ready=True)], "h", None)
    assert (conditions(ready)["Available"], ready["availableReplicas"]) == ("True", 1)
    assert ready["observedGeneration"] == 4


def test_an_unchanged_status_stays_as_it_was_so_that_nothing_is_written() -> None:
    before = status_of(deployment(), [pod("a", "h", ready=True)], "h", None)
    for condition in before["conditions"]:
        condition["lastTransitionTime"] = condition["lastUpdateTime"] = "2020-01-01T00:00:00Z"
    assert status_of(deployment(**before), [pod("a", "h", ready=True)], "h", None) == before


def test_a_refused_pod_shows_in_the_status_with_the_refusal() -> None:
    refusal = ApiClientError(403, "Forbidden", "the webhook said no")
    status = status_of(deployment(), [], "h", refusal)
    failure = next(c for c in status["conditions"] if c["type"] == "ReplicaFailure")
    assert (failure["reason"], failure["message"]) == ("FailedCreate", "the webhook said no")


def test_a_pod_that_is_refused_again_in_other_words_is_no_news() -> None:
    before = status_of(deployment(), [], "h", ApiClientError(403, "Forbidden", 'pods "a-1" is forbidden'))
    again = ApiClientError(403, "Forbidden", 'pods "a-2" is forbidden')
    assert status_of(deployment(**before), [], "h", again) == before
    came = status_of(deployment(**before), [pod("a", "h", ready=True)], "h", None)
    assert "ReplicaFailure" not in {condition["type"] for condition in came["conditions"]}


def test_retries_come_later_and_later_however_often_they_fail() -> None:
    delays = [retry_delay(failures) for failures in (1, 2, 3, 8, 9, 10, 5000)]
    assert delays == [0.02, 0.04, 0.08, 2.56, 5.0, 5.0, 5.0]
