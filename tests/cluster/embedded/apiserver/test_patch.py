"""The three patch documents, apart from HTTP."""

from typing import Any

import pytest

from conformance.cluster.embedded.apiserver.merge_keys import builtin_list_keys
from conformance.cluster.embedded.apiserver.patch import json_patch, merge_patch
from conformance.cluster.embedded.apiserver.status import ApiError
from conformance.cluster.embedded.apiserver.strategic import strategic_merge

DEPLOYMENT = builtin_list_keys("Deployment")


def containers(*items: dict[str, Any], **directives: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": list(items), **directives}}}}


def test_merge_patch_removes_nulls_and_keeps_the_original() -> None:
    original = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merge_patch(original, {"a": {"b": None, "e": {"x": None}}, "d": [2]}) == {
        "a": {"c": 2, "e": {}},
        "d": [2],
    }
    assert original == {"a": {"b": 1, "c": 2}, "d": [1]}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"op": "add", "path": "/a/-", "value": 3}, {"a": [1, 2, 3]}),
        ({"op": "add", "path": "/a/0", "value": 3}, {"a": [3, 1, 2]}),
        ({"op": "remove", "path": "/a/0"}, {"a": [2]}),
        ({"op": "replace", "path": "/a/1", "value": 9}, {"a": [1, 9]}),
        ({"op": "copy", "from": "/a/0", "path": "/b~1c"}, {"a": [1, 2], "b/c": 1}),
        ({"op": "move", "from": "/a", "path": "/b"}, {"b": [1, 2]}),
        ({"op": "test", "path": "/a/0", "value": 1}, {"a": [1, 2]}),
    ],
)
def test_json_patch_operations(step: dict[str, Any], expected: dict[str, Any]) -> None:
    original = {"a": [1, 2]}
    assert json_patch(original, [step]) == expected
    assert original == {"a": [1, 2]}


@pytest.mark.parametrize(
    "step",
    [
        {"op": "test", "path": "/a/0", "value": 2},
        {"op": "remove", "path": "/missing"},
        {"op": "replace", "path": "/a/7", "value": 1},
        {"op": "add", "path": "/x/y", "value": 1},
        {"op": "grow", "path": "/a"},
    ],
)
def test_json_patch_that_does_not_fit_is_422(step: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        json_patch({"a": [1]}, [step])
    assert caught.value.code == 422


def test_strategic_merge_joins_containers_by_name_and_env_by_name() -> None:
    live = containers(
        {"name": "a", "image": "x", "env": [{"name": "K", "value": "1"}, {"name": "L", "value": "2"}]},
        {"name": "b", "image": "y"},
    )
    patch = containers({"name": "a", "env": [{"name": "K", "value": "9"}]})
    assert strategic_merge(live, patch, DEPLOYMENT) == containers(
        {"name": "a", "image": "x", "env": [{"name": "K", "value": "9"}, {"name": "L", "value": "2"}]},
        {"name": "b", "image": "y"},
    )


def test_strategic_merge_obeys_directives_and_stores_none() -> None:
    live = containers({"name": "a"}, {"name": "b"}, {"name": "c"})
    patch = containers(
        {"name": "b", "$patch": "delete"},
        {"name": "d", "image": "new"},
        **{"$setElementOrder/containers": [{"name": "d"}, {"name": "c"}, {"name": "a"}]},
    )
    assert strategic_merge(live, patch, DEPLOYMENT) == containers(
        {"name": "d", "image": "new"}, {"name": "c"}, {"name": "a"}
    )


def test_strategic_merge_replaces_lists_without_a_key_and_retains_keys() -> None:
    live = {
        "spec": {"tolerations": [{"key": "a"}], "strategy": {"type": "RollingUpdate", "rollingUpdate": {}}}
    }
    patch = {
        "spec": {
            "tolerations": [{"key": "b"}],
            "strategy": {"$retainKeys": ["type"], "type": "Recreate"},
        }
    }
    assert strategic_merge(live, patch, DEPLOYMENT) == {
        "spec": {"tolerations": [{"key": "b"}], "strategy": {"type": "Recreate"}}
    }


def test_strategic_merge_deletes_from_lists_of_scalars() -> None:
    live = {"metadata": {"finalizers": ["a", "b"]}}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}}
    assert strategic_merge(live, patch, DEPLOYMENT) == {"metadata": {"finalizers": ["b", "c"]}}


def test_strategic_merge_replaces_a_map_when_told() -> None:
    live = {"metadata": {"labels": {"a": "1", "b": "2"}}}
    patch = {"metadata": {"labels": {"$patch": "replace", "c": "3"}}}
    assert strategic_merge(live, patch, DEPLOYMENT) == {"metadata": {"labels": {"c": "3"}}}
