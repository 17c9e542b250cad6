"""Versions, optimistic concurrency, and what a watch gets to see."""

import asyncio
from typing import Any

import pytest

from conformance.cluster.embedded.apiserver.storage import Gone, Stale, Storage


def make(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "foo"}, **more}


def test_one_version_counts_all_writes() -> None:
    storage = Storage()
    first = storage.put("pods", make("a"), seen=None)
    second = storage.put("services", make("a"), seen=None)
    assert int(second["metadata"]["resourceVersion"]) == int(first["metadata"]["resourceVersion"]) + 1


def test_a_stale_writer_is_refused() -> None:
    storage = Storage()
    first = storage.put("pods", make("a"), seen=None)
    storage.put("pods", make("a", spec=1), seen=first)
    with pytest.raises(Stale):
        storage.put("pods", make("a", spec=2), seen=first)
    with pytest.raises(Stale):
        storage.put("pods", make("a"), seen=None)
    with pytest.raises(Stale):
        storage.remove("pods", first)


def test_a_stored_object_is_not_the_one_handed_in() -> None:
    storage = Storage()
    given = make("a")
    storage.put("pods", given, seen=None)
    assert "resourceVersion" not in given["metadata"]


def test_list_is_ordered_and_scoped() -> None:
    storage = Storage()
    for namespace, name in (("b", "x"), ("a", "z"), ("a", "y")):
        storage.put("pods", {"metadata": {"namespace": namespace, "name": name}}, seen=None)
    assert [o["metadata"]["name"] for o in storage.list("pods")] == ["y", "z", "x"]
    assert [o["metadata"]["name"] for o in storage.list("pods", "b")] == ["x"]


def test_a_subscription_replays_and_follows() -> None:
    async def scenario() -> list[tuple[str, str]]:
        storage = Storage()
        first = storage.put("pods", make("a"), seen=None)
        second = storage.put("pods", make("a", spec=1), seen=first)
        subscription = storage.subscribe("pods", int(first["metadata"]["resourceVersion"]))
        seen = [(e.type, e.new["metadata"]["name"]) for e in await subscription.take()]
        storage.remove("pods", second)
        storage.put("services", make("other"), seen=None)
        seen += [(e.type, e.new["metadata"]["name"]) for e in await subscription.take()]
        storage.unsubscribe("pods", subscription)
        return seen + [(e.type, "") for e in await subscription.take()]

    assert asyncio.run(scenario()) == [("MODIFIED", "a"), ("DELETED", "a")]


def test_history_is_bounded_and_says_so() -> None:
    storage = Storage(history=2)
    versions = [
        int(storage.put("pods", make(str(n)), seen=None)["metadata"]["resourceVersion"]) for n in range(4)
    ]
    with pytest.raises(Gone):
        storage.subscribe("pods", versions[0])
    storage.subscribe("pods", versions[1])
