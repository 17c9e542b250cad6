"""A pod's containers: what the runtime is asked for, restarts, probes, kills."""

import signal
from pathlib import Path

from tests.cluster.embedded.fakes import container, pod
from tests.cluster.embedded.kubelet_node import PODS, Node, on_a_node


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


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.api.put(PODS, pod(containers=[container("app", "stubborn")]))
        await node.until_ready()
        node.delete(grace=1)
        await node.until_gone()
        assert node.runtime.process_of("stubborn").signals == [signal.SIGTERM, signal.SIGKILL]

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
