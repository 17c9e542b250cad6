"""Server-side apply: who owns what, and what goes when nobody does."""

from typing import Any

import pytest

from conformance.cluster.embedded.apiserver.apply import server_side_apply
from conformance.cluster.embedded.apiserver.merge_keys import builtin_list_keys, schema_list_keys
from conformance.cluster.embedded.apiserver.status import ApiError


def apply(
    live: dict[str, Any] | None, *, manager: str = "me", force: bool = False, **content: Any
) -> dict[str, Any]:
    applied = {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "x"}, **content}
    return server_side_apply(
        live,
        applied,
        manager=manager,
        force=force,
        subresource="",
        now="2026-01-01T00:00:00Z",
        list_keys=builtin_list_keys("Service"),
    )


def test_a_field_that_is_no_longer_applied_goes() -> None:
    live = apply(None, spec={"a": 1, "b": {"c": 2}})
    assert apply(live, spec={"a": 1})["spec"] == {"a": 1}


def test_a_field_of_a_plain_update_stays() -> None:
    live = apply(None, spec={"a": 1})
    live["spec"]["theirs"] = 2
    assert apply(live, spec={})["spec"] == {"theirs": 2}


def test_what_two_managers_apply_stays_until_both_let_go() -> None:
    live = apply(apply(None, spec={"a": 1, "b": 2}), manager="other", spec={"a": 1})
    live = apply(live, spec={"b": 2})
    assert live["spec"] == {"a": 1, "b": 2}
    assert apply(live, manager="other")["spec"] == {"b": 2}


def test_a_different_value_conflicts_unless_forced() -> None:
    live = apply(None, spec={"a": 1, "b": 1})
    with pytest.raises(ApiError) as caught:
        apply(live, manager="other", spec={"a": 2})
    assert caught.value.code == 409
    assert caught.value.message == 'Apply failed with 1 conflict: conflict with "me": .spec.a'
    live = apply(live, manager="other", force=True, spec={"a": 2})
    assert live["spec"] == {"a": 2, "b": 1}
    assert apply(live, spec={})["spec"] == {"a": 2}


def test_items_of_keyed_lists_are_owned_one_by_one() -> None:
    live = apply(None, spec={"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "b"}]})
    live = apply(live, manager="other", spec={"ports": [{"port": 3}]})
    assert apply(live, spec={"ports": [{"port": 2, "name": "b"}]})["spec"]["ports"] == [
        {"port": 2, "name": "b"},
        {"port": 3},
    ]


def test_what_kubectl_applied_from_its_side_is_its_own() -> None:
    live = {
        "metadata": {
            "name": "x",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"spec":{"a":1,"b":2}}'},
        },
        "spec": {"a": 1, "b": 2},
    }
    applied = apply(live, manager="kubectl", spec={"a": 1})
    assert applied["spec"] == {"a": 1}
    assert '"b"' not in applied["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]


def test_keys_of_custom_lists_come_from_the_schema() -> None:
    items = {"type": "object", "properties": {"ports": {"type": "array", "x-kubernetes-list-type": "set"}}}
    rules = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": items,
    }
    find = schema_list_keys({"properties": {"spec": {"properties": {"rules": rules}}}})
    assert find(("spec", "rules")) == ("name",)
    assert find(("spec", "rules", "ports")) == ("=",)
    assert find(("spec",)) == ()
