"""List and watch: nothing is lost, nothing goes backwards, whatever the API does."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from enforcer.kube import Kube, KubeError
from enforcer.watch import (
    NAMESPACES,
    PEER_AUTHENTICATIONS,
    PODS,
    Change,
    Event,
    Key,
    Listed,
    Watcher,
    list_all,
)
from tests.enforcer.fake_api import WAIT_SECONDS, serve


def pod(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "foo", **more}}


def key(name: str) -> Key:
    return Key(kind="Pod", namespace="foo", name=name)


class Seen:
    """Collects events from the watcher's thread."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def emit(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def until(self, holds: Callable[[list[Event]], bool]) -> list[Event]:
        with self._changed:
            assert self._changed.wait_for(lambda: holds(self.events), WAIT_SECONDS), self.events
            return list(self.events)

    def until_change(self, name: str) -> Change:
        def changes(events: list[Event]) -> list[Change]:
            return [event for event in events if isinstance(event, Change) and event.key.name == name]

        return changes(self.until(lambda events: bool(changes(events))))[-1]

    def until_lists(self, count: int) -> list[Listed]:
        def lists(events: list[Event]) -> list[Listed]:
            return [event for event in events if isinstance(event, Listed)]

        return lists(self.until(lambda events: len(lists(events)) >= count))


@contextmanager
def watching(kube: Kube, kind: Any = PODS) -> Iterator[Seen]:
    seen = Seen()
    watcher = Watcher(kube, kind, seen.emit)
    watcher.start()
    try:
        yield seen
    finally:
        watcher.stop()


def test_a_list_of_several_pages_is_one_list() -> None:
    with serve() as (api, kube):
        for name in ("a", "b", "c"):
            api.put(PODS, pod(name))
        documents, version = list_all(kube, PODS)
    assert [key.name for key in documents] == ["a", "b", "c"]
    assert version == "3"


def test_list_then_changes_in_order() -> None:
    with serve() as (api, kube):
        api.put(PODS, pod("a"))
        with watching(kube) as seen:
            [listed] = seen.until_lists(1)
            api.put(PODS, pod("b"))
            api.put(PODS, pod("b", labels={"v": "2"}))
            api.delete(PODS, "a", "foo")
            events = seen.until(lambda events: len(events) == 4)
    assert list(listed.documents) == [key("a")]
    changes = [event for event in events if isinstance(event, Change)]
    assert [change.key.name for change in changes] == ["b", "b", "a"]
    assert changes[1].document is not None
    assert changes[1].document["metadata"]["labels"] == {"v": "2"}
    assert changes[2].document is None


def test_what_happens_between_list_and_watch_is_seen() -> None:
    with serve() as (api, kube):

        def during_the_watch() -> None:
            api.put(PODS, pod("between"))

        class Late:
            """Changes the world after the list has been answered."""

            def get(self, path: str, query: Any = None) -> dict[str, Any]:
                answer = kube.get(path, query)
                during_the_watch()
                return answer

            def watch(self, path: str, **options: Any) -> Any:
                return kube.watch(path, **options)

        seen = Seen()
        watcher = Watcher(Late(), PODS, seen.emit)
        watcher.start()
        change = seen.until_change("between")
        watcher.stop()
    assert change.document is not None


def test_a_forgotten_place_is_listed_again() -> None:
    with serve() as (api, kube):
        api.put(PODS, pod("a"))
        with watching(kube) as seen:
            seen.until_lists(1)
            api.wait_for(lambda: ("watch", PODS.path) in api.requests)
            with api.changed:
                # Gone without an event, as when history was compacted while we were away.
                api.objects[PODS.path].clear()
                api.forget()
            second = seen.until_lists(2)[1]
    assert second.documents == {}


def test_a_broken_watch_goes_on_where_it_was() -> None:
    with serve() as (api, kube), watching(kube) as seen:
        seen.until_lists(1)
        api.put(PODS, pod("a"))
        seen.until_change("a")
        api.drop()
        api.put(PODS, pod("b"))
        seen.until_change("b")
        events = seen.events
    assert [event.key.name for event in events if isinstance(event, Change)] == ["a", "b"]
    assert len([event for event in events if isinstance(event, Listed)]) == 1


def test_errors_of_the_api_are_survived() -> None:
    with serve() as (api, kube):
        api.failing.add(PODS.path)
        api.put(PODS, pod("a"))
        with watching(kube) as seen:
            api.wait_for(lambda: len(api.requests) >= 3)
            assert seen.events == []
            api.failing.clear()
            [listed] = seen.until_lists(1)
    assert list(listed.documents) == [key("a")]


def test_an_optional_kind_that_is_not_served_is_an_empty_list() -> None:
    with serve() as (api, kube):
        api.missing.add(PEER_AUTHENTICATIONS.path)
        with watching(kube, PEER_AUTHENTICATIONS) as seen:
            listed = seen.until_lists(1)[0]
    assert listed == Listed(kind="PeerAuthentication", documents={})


def test_a_required_kind_that_is_not_served_is_never_an_empty_list() -> None:
    with serve() as (api, kube):
        api.missing.add(NAMESPACES.path)
        with watching(kube, NAMESPACES) as seen:
            api.wait_for(lambda: len(api.requests) >= 3)
            assert seen.events == []


def test_an_unreachable_api_is_an_error_with_status_0() -> None:
    with serve() as (_, kube):
        pass
    with pytest.raises(KubeError) as raised:
        kube.get(PODS.path)
    assert raised.value.status == 0


def test_an_error_carries_the_servers_words() -> None:
    with serve() as (api, kube):
        api.failing.add(PODS.path)
        with pytest.raises(KubeError, match="500: etcd is on holiday"):
            kube.get(PODS.path)
