"""The API client and the informer, against a small API on a Unix socket."""

import asyncio
from pathlib import Path

import pytest

from conformance.cluster.embedded.client import ApiClient, ApiClientError, Informer
from tests.cluster.embedded.fakes import FakeApi

PODS = "/api/v1/namespaces/foo/pods"


def named(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}


def test_objects_go_and_come_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeApi().serving(tmp_path) as client:
            made = await client.create(PODS, named("a"))
            assert made["metadata"]["namespace"] == "foo"
            await client.patch(f"{PODS}/a", {"metadata": {"labels": {"v": "1"}}})
            assert (await client.get(f"{PODS}/a"))["metadata"]["labels"] == {"v": "1"}
            items, version = await client.list("/api/v1/pods")
            assert [item["metadata"]["name"] for item in items] == ["a"]
            assert version == "2"
            await client.delete(f"{PODS}/a", uid=made["metadata"]["uid"])
            assert await client.list(PODS) == ([], "3")

    asyncio.run(scenario())


def test_a_refusal_carries_the_status(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeApi().serving(tmp_path) as client:
            with pytest.raises(ApiClientError) as caught:
                await client.get(f"{PODS}/a")
            assert (caught.value.code, caught.value.reason, caught.value.message) == (
                404,
                "NotFound",
                '"a" not found',
            )
            await client.create(PODS, named("a"))
            with pytest.raises(ApiClientError) as caught:
                await client.delete(f"{PODS}/a", uid="another")
            assert caught.value.code == 409

    asyncio.run(scenario())


def test_a_server_that_is_not_there_is_an_api_client_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        client = ApiClient(socket=tmp_path / "nobody", token="x")
        try:
            with pytest.raises(ApiClientError) as caught:
                await client.get("/api")
            assert (caught.value.code, caught.value.reason) == (0, "Unreachable")
        finally:
            await client.close()

    asyncio.run(scenario())


async def informed(api: FakeApi, client: ApiClient, seen: list[tuple[str, str]]) -> asyncio.Task[None]:
    informer = Informer(
        client,
        "/api/v1/pods",
        on_event=lambda event, item: seen.append((event, item["metadata"]["name"])),
    )
    task = asyncio.create_task(informer.run())
    await informer.synced.wait()
    return task


async def until_seen(seen: list[tuple[str, str]], expected: list[tuple[str, str]]) -> None:
    async with asyncio.timeout(60):
        while len(seen) < len(expected):
            await asyncio.sleep(0.005)
    assert seen == expected


def test_an_informer_tells_each_change_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        api, seen = FakeApi(), list[tuple[str, str]]()
        api.put(PODS, named("old"))
        async with api.serving(tmp_path) as client:
            task = await informed(api, client, seen)
            api.put(PODS, named("new"))
            api.change(f"{PODS}/old", {"spec": {"a": 1}})
            api.remove(f"{PODS}/new")
            expected = [("ADDED", "old"), ("ADDED", "new"), ("MODIFIED", "old"), ("DELETED", "new")]
            await until_seen(seen, expected)
            task.cancel()

    asyncio.run(scenario())


@pytest.mark.parametrize("forgotten", [False, True], ids=["watch-resumed", "list-read-anew"])
def test_an_informer_misses_nothing_when_its_watch_ends(tmp_path: Path, *, forgotten: bool) -> None:
    async def scenario() -> None:
        api, seen = FakeApi(), list[tuple[str, str]]()
        api.put(PODS, named("kept"))
        api.put(PODS, named("gone"))
        async with api.serving(tmp_path) as client:
            task = await informed(api, client, seen)
            api.cut_watches()
            api.remove(f"{PODS}/gone")
            api.change(f"{PODS}/kept", {"spec": {"a": 1}})
            if forgotten:
                api.forget_before = api.version
            expected = [("ADDED", "gone"), ("ADDED", "kept"), ("DELETED", "gone"), ("MODIFIED", "kept")]
            await until_seen(seen, expected)
            task.cancel()

    asyncio.run(scenario())


def test_an_object_made_again_under_its_name_is_two_events(tmp_path: Path) -> None:
    async def scenario() -> None:
        api, seen = FakeApi(), list[tuple[str, str]]()
        api.put(PODS, named("a"))
        async with api.serving(tmp_path) as client:
            task = await informed(api, client, seen)
            api.cut_watches()
            api.remove(f"{PODS}/a")
            api.put(PODS, named("a"))
            api.forget_before = api.version
            await until_seen(seen, [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "a")])
            task.cancel()

    asyncio.run(scenario())
