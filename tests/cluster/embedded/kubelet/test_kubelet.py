"""The kubelet between a small API and a runtime without containers: states, restarts, ends, streams."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conformance.cluster.embedded.apiserver.streams import StreamError
from conformance.cluster.embedded.controllers.shared import SharedInformers
from conformance.cluster.embedded.kubelet.container_surroundings import BackOff
from conformance.cluster.embedded.kubelet.kubelet import AddressPool, Kubelet
from tests.cluster.embedded.fakes import FakeApi, FakeRuntime, Object, container, pod

PODS = "/api/v1/namespaces/foo/pods"
PATH = f"{PODS}/x"
BACK_OFF = BackOff(first=0.02, last=0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    api: FakeApi
    runtime: FakeRuntime
    kubelet: Kubelet
    state: Path

    @property
    def status(self) -> Object:
        status: Object = self.api.objects.get(PATH, {}).get("status") or {}
        return status

    def container_status(self, name: str = "app") -> Object:
        every = [*self.status.get("initContainerStatuses", ()), *self.status.get("containerStatuses", ())]
        found: Object = next((status for status in every if status["name"] == name), {})
        return found

    def condition(self, kind: str) -> str | None:
        found = [c["status"] for c in self.status.get("conditions", ()) if c["type"] == kind]
        return found[0] if found else None

    async def until_ready(self) -> None:
        await self.api.until(lambda: self.condition("Ready") == "True")

    async def until_phase(self, phase: str) -> None:
        await self.api.until(lambda: self.status.get("phase") == phase)

    async def until_state(self, kind: str, reason: str, name: str = "app") -> Object:
        def reached() -> Object | None:
            state = self.container_status(name).get("state", {}).get(kind)
            return state if state and state["reason"] == reason else None

        found: Object = await self.api.until(reached)
        return found

    async def until_event(self, reason: str) -> Object:
        def written() -> Object | None:
            events = [item for path, item in self.api.objects.items() if "/events/" in path]
            return next((event for event in events if event["reason"] == reason), None)

        found: Object = await self.api.until(written)
        return found

    def delete(self, *, grace: int = 1) -> None:
        fields = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}
        self.api.change(PATH, {"metadata": fields})

    async def until_gone(self) -> None:
        await self.api.until(lambda: PATH not in self.api.objects)

    async def logs(self, name: str = "app", **options: Any) -> bytes:
        every = {
            "follow": False,
            "previous": False,
            "timestamps": False,
            "tail_lines": None,
            "since_seconds": None,
            "limit_bytes": None,
        }
        chunks = self.kubelet.read_logs(namespace="foo", pod="x", container=name, **{**every, **options})
        return b"".join([chunk async for chunk in chunks])


@asynccontextmanager
async def a_node(directory: Path, *, ipv6: bool = False) -> AsyncIterator[Node]:
    api, runtime = FakeApi(), FakeRuntime()
    state = directory / "state"
    async with api.serving(directory) as client:
        informers = SharedInformers(client)
        kubelet = Kubelet(
            client=client,
            informers=informers,
            runtime=runtime.as_runtime(),
            state=state,
            back_off=BACK_OFF,
            ipv6=ipv6,
        )
        tasks = [asyncio.create_task(part) for part in (kubelet.run(), informers.run())]
        try:
            yield Node(api=api, runtime=runtime, kubelet=kubelet, state=state)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def on_a_node(directory: Path, scenario: Callable[[Node], Awaitable[None]], *, ipv6: bool = False) -> None:
    async def run() -> None:
        async with a_node(directory, ipv6=ipv6) as node:
            await scenario(node)

    asyncio.run(run())


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


def test_the_runtime_is_asked_for_what_the_spec_says(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        spec = container(
            "app",
            "run",
            "$(NAME)",
            "$$(NAME)",
            "$(UNKNOWN)",
            args=["$(GREETING)"],
            workingDir="/srv",
            env=[
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "GREETING", "value": "hello $(NAME)"},
                {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
            ],
            securityContext={"runAsUser": 1337, "capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]}},
            volumeMounts=[
                {"name": "scratch", "mountPath": "/scratch"},
                {"name": "shown", "mountPath": "/shown"},
            ],
        )
        node.api.put("/api/v1/namespaces/foo/configmaps", {"metadata": {"name": "c"}, "data": {"k": "v"}})
        volumes = [{"name": "scratch", "emptyDir": {}}, {"name": "shown", "configMap": {"name": "c"}}]
        node.api.put(PODS, pod(containers=[spec], volumes=volumes))
        await node.until_ready()
        started = node.runtime.started[0]
        assert started.argv == ("run", "x", "$(NAME)", "$(UNKNOWN)", "hello x")
        assert (started.cwd, started.uid, started.capabilities) == ("/srv", 1337, frozenset({"NET_RAW"}))
        wanted = {"NAME": "x", "IP": "10.244.0.10", "KEY": "v", "KUBERNETES_SERVICE_HOST": "10.96.0.1"}
        assert {key: started.env.get(key) for key in wanted} == wanted
        assert "NONE" not in started.env
        by_target = {mount.target: mount for mount in started.mounts}
        assert by_target["/scratch"].read_only is False
        assert by_target["/shown"].read_only is True
        assert "127.0.0.1\tlocalhost" in Path(by_target["/etc/hosts"].source or "").read_text()

    on_a_node(tmp_path, scenario)


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


def test_a_crashing_container_is_restarted_with_back_off(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.runtime.behaviours["run"] = lambda spec, process: process.end(1, stderr=b"oh\n")
        node.api.put(PODS, pod())
        waiting = await node.until_state("waiting", "CrashLoopBackOff")
        assert waiting["message"].endswith("restarting failed container=app pod=x_foo(uid-x)")
        assert node.container_status()["lastState"]["terminated"]["exitCode"] == 1
        await node.api.until(lambda: node.container_status()["restartCount"] >= 3)
        assert (await node.until_event("BackOff"))["involvedObject"]["uid"] == "uid-x"
        assert await node.logs(previous=True) == b"oh\n"

    on_a_node(tmp_path, scenario)


def test_a_command_that_does_not_exist_is_said_in_the_status(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        message = 'exec: "nope": executable file not found in $PATH'
        node.api.put(PODS, pod(containers=[container("app", "nope")]))
        waiting = await node.until_state("waiting", "RunContainerError")
        assert waiting["message"] == message
        await node.until_state("waiting", "CrashLoopBackOff")
        last = node.container_status()["lastState"]["terminated"]
        assert (last["reason"], last["exitCode"], last["message"]) == ("StartError", 128, message)
        assert (await node.until_event("Failed"))["message"] == f"Error: {message}"

    on_a_node(tmp_path, scenario)


def test_a_command_that_does_not_exist_fails_a_pod_that_never_restarts(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.api.put(PODS, pod(containers=[container("app", "nope")], restartPolicy="Never"))
        await node.until_phase("Failed")
        assert node.container_status()["state"]["terminated"]["reason"] == "StartError"

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


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.api.put(PODS, pod(containers=[container("app", "stubborn")]))
        await node.until_ready()
        node.delete(grace=1)
        await node.until_gone()
        assert node.runtime.process_of("stubborn").signals == [signal.SIGTERM, signal.SIGKILL]

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


def test_readiness_follows_the_probe(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        code = 1
        node.runtime.exec_results = lambda argv: (code, b"not yet")
        probe = {"exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 1}
        node.api.put(PODS, pod(containers=[container(readinessProbe=probe)]))
        await node.until_phase("Running")
        assert node.condition("Ready") == "False"
        code = 0
        await node.until_ready()
        code = 1
        await node.api.until(lambda: node.condition("Ready") == "False")
        assert (await node.until_event("Unhealthy"))["message"] == "Readiness probe failed: not yet"

    on_a_node(tmp_path, scenario)


def test_a_container_that_fails_its_liveness_probe_is_restarted(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.runtime.exec_results = lambda argv: (1, b"dead")
        probe = {"exec": {"command": ["check"]}, "failureThreshold": 1}
        node.api.put(PODS, pod(containers=[container(livenessProbe=probe)]))
        await node.api.until(lambda: node.container_status().get("restartCount", 0) >= 1)
        assert node.container_status()["lastState"]["terminated"]["exitCode"] == 128 + signal.SIGTERM
        assert (await node.until_event("Killing"))["message"] == (
            "Container app failed liveness probe, will be restarted"
        )

    on_a_node(tmp_path, scenario)


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


def test_few_writes_are_made_for_a_pod(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.runtime.behaviours["once"] = lambda spec, process: process.end(0)
        node.api.put(PODS, pod(initContainers=[container("init", "once")]))
        await node.until_ready()
        assert node.api.requests.count(("PATCH", f"{PATH}/status")) <= 4

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
