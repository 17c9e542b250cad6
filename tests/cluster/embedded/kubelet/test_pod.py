"""Pods on a node: set up, init containers, phases, ends."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.cluster.embedded.fakes import Object, container, pod
from tests.cluster.embedded.kubelet_node import PATH, PODS, Node, on_a_node


def test_a_pod_becomes_ready_and_says_where_it_is(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.api.put(PODS, pod())
        await node.until_ready()
        assert node.status["phase"] == "Running"
        assert node.status["podIP"] == "10.244.0.10"
        await node.api.until(lambda: node.api.objects[PATH]["spec"].get("nodeName") == "embedded")
        assert node.status["hostIP"] == "169.254.1.1"
        assert {c["type"]: c["status"] for c in node.status["conditions"]} == {
            "PodReadyToStartContainers": "True",
            "Initialized": "True",
            "Ready": "True",
            "ContainersReady": "True",
            "PodScheduled": "True",
        }
        status = node.container_status()
        assert (status["ready"], status["started"], status["restartCount"]) == (True, True, 0)
        assert status["containerID"] == f"embedded://{node.runtime.started[0].id}"
        assert node.runtime.sandboxes["uid-x"].ip == "10.244.0.10"

    on_a_node(tmp_path, scenario)


def test_a_pod_of_two_families_says_so_everywhere(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        env = [
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": f"status.{name}"}}}
            for name in ("podIP", "podIPs", "hostIP", "hostIPs")
        ]
        both = {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00:10:96::7"]}
        node.api.put("/api/v1/namespaces/foo/services", {"metadata": {"name": "tcp-echo"}, "spec": both})
        headless = {"clusterIP": "None", "selector": {"app": "x"}, "ipFamilies": ["IPv6", "IPv4"]}
        node.api.put("/api/v1/namespaces/foo/services", {"metadata": {"name": "every"}, "spec": headless})
        node.api.put(PODS, pod(containers=[container("app", "run", env=env)]))
        await node.until_ready()
        assert node.status["podIPs"] == [{"ip": "10.244.0.10"}, {"ip": "fd00:10:244::a"}]
        assert node.status["hostIPs"] == [{"ip": "169.254.1.1"}, {"ip": "fd00:10:244::1"}]
        assert node.runtime.sandboxes["uid-x"].ip6 == "fd00:10:244::a"
        wanted = {
            "podIP": "10.244.0.10",
            "podIPs": "10.244.0.10,fd00:10:244::a",
            "hostIP": "169.254.1.1",
            "hostIPs": "169.254.1.1,fd00:10:244::1",
        }
        assert wanted.items() <= node.runtime.started[0].env.items()
        addresses = node.api.objects["/api/v1/nodes/embedded"]["status"]["addresses"]
        assert [a["address"] for a in addresses] == ["169.254.1.1", "fd00:10:244::1", "embedded"]
        hosts = node.state / "volumes" / "uid-x" / "hosts"
        async with asyncio.timeout(60):
            while "fd00:10:244::a\tevery.foo" not in hosts.read_text():
                await asyncio.sleep(0.005)
        text = hosts.read_text()
        assert "10.244.0.10\tx\nfd00:10:244::a\tx\n" in text
        assert "10.96.0.7\ttcp-echo.foo" in text
        assert "fd00:10:96::7\ttcp-echo.foo" in text
        assert "10.244.0.10\tevery.foo" in text

    on_a_node(tmp_path, scenario, ipv6=True)


def test_init_containers_run_in_order_and_sidecars_stay(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.runtime.behaviours["once"] = lambda spec, process: process.end(0, stdout=b"done\n")
        sidecar = container("proxy", "proxy", restartPolicy="Always")
        init = [container("first", "once"), sidecar, container("second", "once")]
        node.api.put(PODS, pod(initContainers=init))
        await node.until_ready()
        assert [spec.argv[0] for spec in node.runtime.started] == ["once", "proxy", "once", "run"]
        first = node.container_status("first")
        assert (first["state"]["terminated"]["reason"], first["ready"]) == ("Completed", True)
        assert node.container_status("proxy")["ready"] is True
        assert await node.logs("second") == b"done\n"

    on_a_node(tmp_path, scenario)


def test_a_failing_init_container_fails_a_pod_that_never_restarts(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.runtime.behaviours["fail"] = lambda spec, process: process.end(3)
        node.api.put(PODS, pod(initContainers=[container("init", "fail")], restartPolicy="Never"))
        await node.until_phase("Failed")
        assert node.container_status("init")["state"]["terminated"]["exitCode"] == 3
        assert node.container_status("app")["state"] == {"waiting": {"reason": "PodInitializing"}}
        assert [spec.argv[0] for spec in node.runtime.started] == ["fail"]

    on_a_node(tmp_path, scenario)


@pytest.mark.parametrize(
    ("policy", "code", "phase"),
    [
        ("Never", 0, "Succeeded"),
        ("Never", 2, "Failed"),
        ("OnFailure", 0, "Succeeded"),
    ],
)
def test_a_pod_ends_as_its_containers_do(tmp_path: Path, policy: str, code: int, phase: str) -> None:
    async def scenario(node: Node) -> None:
        node.runtime.behaviours["run"] = lambda spec, process: process.end(code)
        node.api.put(PODS, pod(restartPolicy=policy))
        await node.until_phase(phase)
        assert node.condition("Ready") == "False"
        assert len(node.runtime.started) == 1
        reason = node.container_status()["state"]["terminated"]["reason"]
        assert reason == ("Completed" if code == 0 else "Error")

    on_a_node(tmp_path, scenario)


@pytest.mark.parametrize(
    ("spec", "reason", "message"),
    [
        (
            {"containers": [{"name": "app", "image": "nginx:1"}]},
            "ErrImageNeverPull",
            "the embedded cluster has one image, authz-conformance",
        ),
        (
            {"containers": [container(envFrom=[{"configMapRef": {"name": "c"}}])]},
            "CreateContainerConfigError",
            'configmap "c" not found',
        ),
        (
            {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]},
            "CreateContainerConfigError",
            'volume "host": hostPath volumes are not offered by the embedded cluster',
        ),
        (
            {"containers": [container(securityContext={"privileged": True})]},
            "CreateContainerConfigError",
            "privileged containers are not offered by the embedded cluster",
        ),
        (
            {"hostNetwork": True},
            "CreateContainerConfigError",
            "hostNetwork is not offered by the embedded cluster",
        ),
        (
            {"containers": [container(lifecycle={"postStart": {"exec": {"command": ["hi"]}}})]},
            "CreateContainerConfigError",
            'container "app": postStart is not offered by the embedded cluster',
        ),
    ],
    ids=["image", "config-map", "host-path", "privileged", "host-network", "post-start"],
)
def test_what_cannot_run_waits_and_says_why(tmp_path: Path, spec: Object, reason: str, message: str) -> None:
    async def scenario(node: Node) -> None:
        node.api.put(PODS, pod(**spec))
        assert (await node.until_state("waiting", reason))["message"] == message
        assert node.status["phase"] == "Pending"
        assert node.runtime.started == []
        node.delete()
        await node.until_gone()

    on_a_node(tmp_path, scenario)


def test_a_pod_waits_for_its_volumes(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.api.put(PODS, pod(volumes=[{"name": "v", "secret": {"secretName": "s"}}]))
        event = await node.until_event("FailedMount")
        assert event["message"] == 'MountVolume.SetUp failed for volume "v" : secret "s" not found'
        node.api.put("/api/v1/namespaces/foo/secrets", {"metadata": {"name": "s"}})
        await node.until_ready()

    on_a_node(tmp_path, scenario)


def test_a_deleted_pod_is_asked_to_end_then_let_go(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        hook = {"preStop": {"exec": {"command": ["bye"]}}}
        containers = [container("app", "run", lifecycle=hook), container("other", "other")]
        sidecar = container("proxy", "proxy", restartPolicy="Always")
        node.api.put(PODS, pod(containers=containers, initContainers=[sidecar]))
        await node.until_ready()
        node.delete(grace=5)
        await node.until_gone()
        assert node.runtime.process_of("run").signals == [signal.SIGTERM]
        assert node.runtime.process_of("proxy").signals == [signal.SIGTERM]
        assert [argv for _, argv, _ in node.runtime.execs] == [("bye",)]
        assert "uid-x" in node.runtime.removed
        assert list((node.state / "volumes").iterdir()) == []
        assert ("DELETE", PATH) in node.api.requests
        assert len(node.runtime.started) == 3

    on_a_node(tmp_path, scenario)


@pytest.mark.parametrize("ending", [False, True], ids=["at-once", "during-its-grace"])
def test_a_pod_whose_object_is_gone_is_killed(tmp_path: Path, *, ending: bool) -> None:
    async def scenario(node: Node) -> None:
        node.api.put(PODS, pod(containers=[container("app", "stubborn")]))
        await node.until_ready()
        process = node.runtime.process_of("stubborn")
        if ending:
            node.delete(grace=600)
        node.api.remove(PATH)
        assert await process.wait() == 128 + signal.SIGKILL
        async with asyncio.timeout(60):
            while "uid-x" not in node.runtime.removed:
                await asyncio.sleep(0.005)
        assert ("DELETE", PATH) not in node.api.requests

    on_a_node(tmp_path, scenario)


def test_a_pod_in_back_off_can_be_deleted(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.api.put(PODS, pod(containers=[container("app", "nope")]))
        await node.until_state("waiting", "CrashLoopBackOff")
        node.delete(grace=600)
        await node.until_gone()

    on_a_node(tmp_path, scenario)


def test_few_writes_are_made_for_a_pod(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.runtime.behaviours["once"] = lambda spec, process: process.end(0)
        node.api.put(PODS, pod(initContainers=[container("init", "once")]))
        await node.until_ready()
        assert node.api.requests.count(("PATCH", f"{PATH}/status")) <= 4

    on_a_node(tmp_path, scenario)
