"""Volumes and what a pod tells its containers about itself."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conformance.cluster.embedded.client import ApiClient
from conformance.cluster.embedded.kubelet.environment import (
    ConfigError,
    PodFacts,
    expand,
    quantity,
    resource_value,
)
from conformance.cluster.embedded.kubelet.hosts import write_hosts
from conformance.cluster.embedded.kubelet.volumes import PodVolumes, VolumeError, switch_files
from tests.cluster.embedded.fakes import FakeApi, Object, container, encoded, pod

CONFIG_MAPS = "/api/v1/namespaces/foo/configmaps"
SECRETS = "/api/v1/namespaces/foo/secrets"


def volumes_of(client: ApiClient, root: Path, *volumes: Object) -> PodVolumes:
    facts = PodFacts(pod=pod(volumes=list(volumes)), ip="10.244.0.10")
    return PodVolumes(client=client, root=root, facts=facts)


def shown(directory: Path) -> dict[str, str]:
    """The visible files of a volume."""
    return {path.name: path.read_text() for path in directory.iterdir() if not path.name.startswith("..")}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def set_up(tmp_path: Path, *volumes: Object, api: FakeApi | None = None) -> None:
    async def scenario() -> None:
        async with (api or FakeApi()).serving(tmp_path) as client:
            await volumes_of(client, tmp_path / "v", *volumes).set_up()

    asyncio.run(scenario())


def test_each_source_shows_its_files(tmp_path: Path) -> None:
    api = FakeApi()
    api.put(CONFIG_MAPS, {"metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}})
    api.put(SECRETS, {"metadata": {"name": "s"}, "data": {"key": encoded("hidden")}})
    item = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "c", "items": [{"key": "a", "path": "deep/a"}]}},
        {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        {"secret": {"name": "absent", "optional": True}},
    ]
    set_up(
        tmp_path,
        {"name": "map", "configMap": {"name": "c"}},
        {"name": "secret", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {"name": "info", "downwardAPI": {"items": [item]}},
        {"name": "all", "projected": {"sources": sources}},
        {"name": "scratch", "emptyDir": {"medium": "Memory"}},
        api=api,
    )
    root = tmp_path / "v"
    assert shown(root / "map") == {"a": "1", "b": "2"}
    assert shown(root / "secret") == {"key": "hidden"}
    assert (root / "secret" / "key").stat().st_mode & 0o777 == 0o400
    assert shown(root / "info") == {"labels": 'app="x"'}
    assert (root / "all" / "token").read_text() == "token-1"
    assert (root / "all" / "deep" / "a").read_text() == "1"
    assert (root / "all" / "ns").read_text() == "foo"
    assert (root / "scratch").stat().st_mode & 0o777 == 0o777


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "c"}}, 'configmap "c" not found'),
        ({"secret": {"secretName": "s"}}, 'secret "s" not found'),
        (
            {"configMap": {"name": "there", "items": [{"key": "k", "path": "p"}]}},
            "references non-existent configmap key: k",
        ),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, volume: Object, message: str) -> None:
    api = FakeApi()
    api.put(CONFIG_MAPS, {"metadata": {"name": "there"}})
    with pytest.raises(VolumeError) as caught:
        set_up(tmp_path, {"name": "v", **volume}, api=api)
    assert str(caught.value) == f'MountVolume.SetUp failed for volume "v" : {message}'


def test_a_changed_config_map_is_shown_all_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        api = FakeApi()
        api.put(CONFIG_MAPS, {"metadata": {"name": "c"}, "data": {"a": "1", "old": "x"}})
        async with api.serving(tmp_path) as client:
            volumes = volumes_of(client, tmp_path / "v", {"name": "map", "configMap": {"name": "c"}})
            await volumes.set_up()
            assert volumes.refers_to("configMap", "c")
            assert not volumes.refers_to("secret", "c")
            keeper = asyncio.create_task(volumes.keep_true())
            api.change(f"{CONFIG_MAPS}/c", {"data": {"a": "2", "old": None, "new": "y"}})
            volumes.objects_changed()
            directory = tmp_path / "v" / "map"
            await until(lambda: shown(directory) == {"a": "2", "new": "y"})
            assert (directory / "a").readlink() == Path("..data/a")
            versions = [path for path in directory.iterdir() if path.is_dir() and not path.is_symlink()]
            assert versions == [directory / (directory / "..data").readlink()]
            keeper.cancel()

    asyncio.run(scenario())


def test_an_unchanged_volume_is_not_touched(tmp_path: Path) -> None:
    files = {"a": (b"1", 0o644)}
    switch_files(tmp_path / "v", files)
    before = (tmp_path / "v" / "..data").readlink()
    switch_files(tmp_path / "v", files)
    assert (tmp_path / "v" / "..data").readlink() == before


def test_a_token_is_renewed_before_it_expires(tmp_path: Path) -> None:
    async def scenario() -> None:
        api = FakeApi()
        api.token_seconds = 0.05
        source = {"serviceAccountToken": {"path": "token"}}
        async with api.serving(tmp_path) as client:
            volume = {"name": "v", "projected": {"sources": [source]}}
            volumes = volumes_of(client, tmp_path / "v", volume)
            await volumes.set_up()
            token = tmp_path / "v" / "v" / "token"
            assert token.read_text() == "token-1"
            keeper = asyncio.create_task(volumes.keep_true())
            await until(lambda: token.read_text() == "token-2")
            keeper.cancel()

    asyncio.run(scenario())


def test_new_labels_of_the_pod_are_shown(tmp_path: Path) -> None:
    async def scenario() -> None:
        item = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels['app']"}}
        volume = {"name": "v", "downwardAPI": {"items": [item]}}
        async with FakeApi().serving(tmp_path) as client:
            volumes = volumes_of(client, tmp_path / "v", volume)
            await volumes.set_up()
            keeper = asyncio.create_task(volumes.keep_true())
            relabelled = pod(volumes=[volume])
            relabelled["metadata"]["labels"] = {"app": "y"}
            volumes.pod_changed(relabelled)
            await until(lambda: (tmp_path / "v" / "v" / "labels").read_text() == "y")
            keeper.cancel()

    asyncio.run(scenario())


def test_a_sub_path_stays_within_its_volume(tmp_path: Path) -> None:
    async def scenario() -> None:
        api = FakeApi()
        api.put(CONFIG_MAPS, {"metadata": {"name": "c"}, "data": {"a": "1"}})
        async with api.serving(tmp_path) as client:
            volumes = volumes_of(
                client,
                tmp_path / "v",
                {"name": "scratch", "emptyDir": {}},
                {"name": "map", "configMap": {"name": "c"}},
            )
            await volumes.set_up()

            def mounts(volume: str, sub_path: str) -> Any:
                mount = {"name": volume, "mountPath": "/x", "subPath": sub_path}
                return volumes.mounts_of(container(volumeMounts=[mount]))

            assert Path(mounts("scratch", "made/here")[0].source).is_dir()
            assert Path(mounts("map", "a")[0].source).read_text() == "1"
            for refused in ("../map", "/etc"):
                with pytest.raises(ConfigError):
                    mounts("scratch", refused)
            with pytest.raises(ConfigError):
                mounts("map", "absent")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)-$(B)", "1-$(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A", "$A"),
        ("$(A", "$(A"),
    ],
)
def test_references_are_expanded_as_on_kubernetes(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("100m", "0.1"), ("1Ki", "1024"), ("2", "2"), ("1e3", "1000"), ("1.5Gi", "1610612736"), ("3E", "3E+18")],
)
def test_quantities(text: str, expected: str) -> None:
    assert quantity(text) == type(quantity("1"))(expected)


def test_resources_are_rounded_up_to_their_divisor() -> None:
    limited = container(resources={"limits": {"cpu": "1500m", "memory": "64Mi"}})
    assert resource_value({"resource": "limits.cpu"}, limited, pod()) == "2"
    assert resource_value({"resource": "limits.memory", "divisor": "1Mi"}, limited, pod()) == "64"


def test_a_hosts_file_never_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    write_hosts(path, "127.0.0.1 localhost\n10.96.0.7 gone\n")
    size = path.stat().st_size
    write_hosts(path, "127.0.0.1 localhost\n")
    assert path.stat().st_size == size
    assert path.read_text().split() == ["127.0.0.1", "localhost"]
