"""The kubelet: what it offers beside the pods' own lives."""

import asyncio
from pathlib import Path

import pytest

from conformance.cluster.embedded.apiserver.streams import StreamError
from conformance.cluster.embedded.kubelet.kubelet import AddressPool
from tests.cluster.embedded.fakes import container, pod
from tests.cluster.embedded.kubelet_node import PODS, Node, on_a_node


def test_exec_runs_in_the_container_with_its_environment(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.runtime.exec_results = lambda argv: (7, b"out")
        node.api.put(PODS, pod(containers=[container(env=[{"name": "A", "value": "1"}])]))
        await node.until_ready()
        session = await node.kubelet.open_exec(
            namespace="foo", pod="x", container="app", command=["sh"], stdin=False, tty=False
        )
        assert [chunk async for chunk in session.output()] == [(1, b"out")]
        assert await session.wait() == 7
        container_id, argv, environment = node.runtime.execs[0]
        assert (container_id, argv, environment["A"]) == (node.runtime.started[0].id, ("sh",), "1")

    on_a_node(tmp_path, scenario)


def test_streams_of_what_does_not_run_are_refused(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.api.put(PODS, pod(volumes=[{"name": "v", "secret": {"secretName": "s"}}]))
        await node.until_event("FailedMount")
        with pytest.raises(StreamError, match='container not found \\("app"\\)'):
            await node.kubelet.open_exec(
                namespace="foo", pod="x", container="app", command=["sh"], stdin=False, tty=False
            )
        with pytest.raises(StreamError, match='"app" in pod "x" is waiting to start: ContainerCreating'):
            await node.logs()
        with pytest.raises(StreamError, match='previous terminated container "app" in pod "x" not found'):
            await node.logs(previous=True)

    on_a_node(tmp_path, scenario)


def test_a_followed_log_ends_with_its_container(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.api.put(PODS, pod(restartPolicy="Never"))
        await node.until_ready()
        process = node.runtime.process_of("run")
        process.stdout.feed_data(b"one\n")
        follower = asyncio.create_task(node.logs(follow=True))
        process.end(0, stderr=b"two\n")
        assert sorted((await follower).split()) == [b"one", b"two"]

    on_a_node(tmp_path, scenario)


def test_names_of_services_reach_running_pods(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        service = {"metadata": {"name": "tcp-echo"}, "spec": {"clusterIP": "10.96.0.7"}}
        node.api.put("/api/v1/namespaces/foo/services", service)
        node.api.put(PODS, pod())
        await node.until_ready()
        hosts = node.state / "volumes" / "uid-x" / "hosts"
        full = "tcp-echo.foo.svc.cluster.local tcp-echo.foo tcp-echo.foo.svc tcp-echo"
        assert f"10.96.0.7\t{full}\n" in hosts.read_text()
        inode = hosts.stat().st_ino
        headless = {"metadata": {"name": "every"}, "spec": {"clusterIP": "None", "selector": {"app": "x"}}}
        node.api.put("/api/v1/namespaces/foo/services", headless)
        async with asyncio.timeout(60):
            while "every.foo" not in hosts.read_text():
                await asyncio.sleep(0.005)
        assert "10.244.0.10\tevery.foo.svc.cluster.local every.foo every.foo.svc every\n" in hosts.read_text()
        assert hosts.stat().st_ino == inode

    on_a_node(tmp_path, scenario)


def test_the_node_registers_itself_as_ready(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        def ready() -> bool:
            status = node.api.objects.get("/api/v1/nodes/embedded", {}).get("status", {})
            return [(c["type"], c["status"]) for c in status.get("conditions", ())] == [("Ready", "True")]

        await node.api.until(ready)

    on_a_node(tmp_path, scenario)


def test_addresses_come_back_as_late_as_possible() -> None:
    pool = AddressPool()
    first, second = pool.take(), pool.take()
    pool.free(first)
    assert [first, second, pool.take()] == ["10.244.0.10", "10.244.0.11", "10.244.0.12"]


def test_a_full_address_pool_says_so() -> None:
    pool = AddressPool(*[AddressPool()._first + offset for offset in (0, 1)])
    pool.take()
    second = pool.take()
    with pytest.raises(LookupError):
        pool.take()
    pool.free(second)
    assert pool.take() == second
