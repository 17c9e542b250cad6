"""Pods on the whole cluster: what runs in them, in which order, and how they end."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from conformance.cluster.embedded.node.images import PROJECT
from tests.cluster.embedded.live import STAY, Object, Space, container, is_ready, pod, processes, request

ONCE = {"restartPolicy": "Never"}


def phase(space: Space, name: str) -> str:
    return str((space.get(f"pods/{name}").get("status") or {}).get("phase"))


def test_init_containers_run_in_their_order_before_the_others(space: Space) -> None:
    shared: dict[str, Any] = {"volumeMounts": [{"name": "work", "mountPath": "/work"}]}
    init = [container(name, f"echo {name} >>/work/order", **shared) for name in ("one", "two")]
    space.run(
        "p",
        f"cat /work/order; {STAY}",
        **shared,
        spec={"initContainers": init, "volumes": [{"name": "work", "emptyDir": {}}]},
    )
    space.ready("p")
    space.until(lambda: space.logs("p", container="app") == "one\ntwo\n")
    ended = [space.state("p", name)["state"]["terminated"] for name in ("one", "two")]
    assert [one["reason"] for one in ended] == ["Completed", "Completed"]
    assert ended[0]["finishedAt"] <= ended[1]["startedAt"]


def test_a_failed_init_container_ends_the_pod_where_nothing_is_restarted(space: Space) -> None:
    init = [container("one", "echo broken; exit 4"), container("two", "true")]
    space.run("p", STAY, spec={"initContainers": init, **ONCE})
    space.until(lambda: phase(space, "p") == "Failed")
    assert space.state("p", "one")["state"]["terminated"]["exitCode"] == 4
    assert space.state("p", "two")["state"]["waiting"]["reason"] == "PodInitializing"
    assert space.state("p")["state"]["waiting"]["reason"] == "PodInitializing"
    assert space.logs("p", container="one") == "broken\n"
    assert "Init:Error" in space.kubectl("get", "pod", "p")


def test_a_failing_init_container_is_tried_again(space: Space) -> None:
    shared: dict[str, Any] = {"volumeMounts": [{"name": "work", "mountPath": "/work"}]}
    init = [container("one", "test -e /work/seen || { touch /work/seen; exit 1; }", **shared)]
    space.run("p", STAY, spec={"initContainers": init, "volumes": [{"name": "work", "emptyDir": {}}]})
    space.ready("p")
    assert space.state("p", "one")["restartCount"] == 1


def test_readiness_follows_its_probe(space: Space) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1}
    space.run("p", STAY, readinessProbe=probe)
    space.until(lambda: "running" in space.state("p").get("state", {}))
    assert not is_ready(space.get("pods/p"))
    space.exec("p", "touch", "/tmp/ready")
    space.ready("p")
    assert space.state("p")["ready"] is True


def test_a_container_that_fails_is_restarted_with_back_off_and_its_log_is_kept(space: Space) -> None:
    space.run("p", "echo $HOSTNAME; exit 3")

    def backs_off() -> Object | None:
        state = space.state("p")
        waits = state.get("state", {}).get("waiting", {})
        return state if waits.get("reason") == "CrashLoopBackOff" and state["restartCount"] >= 1 else None

    state = space.until(backs_off)
    # How long it waits grows each time, and a machine under load may show a later one first.
    told = r"back-off \d+s restarting failed container=app pod=p_"
    assert re.match(told, state["state"]["waiting"]["message"]), state
    assert state["lastState"]["terminated"]["exitCode"] == 3
    assert space.logs("p", previous=True) == "p\n"
    assert space.kubectl("logs", "p", "--previous") == "p"
    assert phase(space, "p") == "Running"
    space.until(lambda: "CrashLoopBackOff" in space.kubectl("get", "pod", "p"))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["no-such-program"], 'exec: "no-such-program": executable file not found in $PATH'),
        (["/no/such/program"], 'exec: "/no/such/program": stat /no/such/program: no such file or directory'),
        (["/etc/passwd"], 'exec: "/etc/passwd": permission denied'),
    ],
)
def test_a_command_that_does_not_exist_is_told(space: Space, command: list[str], message: str) -> None:
    space.run("p", "", command=command)
    space.run("once", "", command=command, spec=ONCE)

    def refused() -> Object | None:
        state = space.state("p")
        waits = state.get("state", {}).get("waiting", {})
        return state if waits.get("reason") in ("RunContainerError", "CrashLoopBackOff") else None

    state = space.until(refused)
    assert message in json.dumps(state["state"]).replace('\\"', '"') or "back-off" in json.dumps(state)
    assert state["lastState"]["terminated"]["reason"] == "StartError"
    assert message in state["lastState"]["terminated"]["message"]
    space.until(lambda: phase(space, "once") == "Failed")
    ended = space.state("once")["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("StartError", 128)
    assert message in ended["message"]


def test_an_unknown_image_is_never_pulled(space: Space) -> None:
    space.run("p", "", image="nginx")
    waits = space.until(lambda: space.state("p").get("state", {}).get("waiting"))
    space.until(lambda: space.state("p")["state"]["waiting"]["reason"] == "ErrImageNeverPull")
    assert waits
    assert "the embedded cluster has one image" in space.state("p")["state"]["waiting"]["message"]


def test_a_container_has_its_grace_period_to_end(space: Space) -> None:
    said = "trap 'echo asked; exit 0' TERM; echo up; sleep 600 & wait"
    space.run("p", said, spec={"terminationGracePeriodSeconds": 600})
    space.ready("p")
    following = space.core.read_namespaced_pod_log("p", space.name, follow=True, _preload_content=False)
    space.core.delete_namespaced_pod("p", space.name)
    assert following.read().decode() == "up\nasked\n"
    following.release_conn()
    space.until(lambda: space.gone("pods/p"))


def test_a_container_that_does_not_listen_is_killed_after_its_grace_period(space: Space) -> None:
    space.run("p", "trap '' TERM; while :; do sleep 0.05; done")
    space.ready("p")
    ending = space.core.delete_namespaced_pod("p", space.name, grace_period_seconds=1)
    assert ending.metadata.deletion_grace_period_seconds == 1
    space.until(lambda: space.gone("pods/p"))


def test_config_maps_secrets_and_tokens_are_files(space: Space) -> None:
    space.create("configmaps", {"metadata": {"name": "c"}, "data": {"a.txt": "from a map"}})
    space.create("secrets", {"metadata": {"name": "s"}, "stringData": {"key": "hidden"}})
    projected = {"sources": [{"serviceAccountToken": {"path": "token", "audience": "mesh"}}]}
    volumes = [
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {"name": "t", "projected": projected},
    ]
    mounts = [{"name": name, "mountPath": f"/v/{name}", "readOnly": True} for name in "cst"]
    env = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}}]
    space.run("p", STAY, env=env, volumeMounts=mounts, spec={"volumes": volumes})
    space.ready("p")
    assert space.exec("p", "cat", "/v/c/a.txt", "/v/s/key") == "from a maphidden"
    assert space.exec("p", "sh", "-c", "echo $KEY; stat -Lc %a /v/s/key") == "hidden\n400\n"
    token = space.exec("p", "cat", "/v/t/token")
    reviewed = review(space, {"token": token, "audiences": ["mesh"]})
    assert reviewed["authenticated"] is True
    assert reviewed["user"]["username"] == f"system:serviceaccount:{space.name}:default"
    assert "authenticated" not in review(space, {"token": token})
    space.request("PATCH", "configmaps/c", {"data": {"a.txt": "changed"}})
    space.until(lambda: space.exec("p", "cat", "/v/c/a.txt") == "changed")


def review(space: Space, spec: dict[str, Any]) -> dict[str, Any]:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    answer = request(space.live.api, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", body)
    status: dict[str, Any] = answer["status"]
    return status


def test_a_pod_sees_only_its_own_processes_network_and_files(space: Space) -> None:
    for name in ("p", "q"):
        space.run(name, f"touch /tmp/of-{name}; {STAY}")
    ips = {name: space.ready(name)["status"]["podIP"] for name in ("p", "q")}
    assert ips["p"] != ips["q"]
    # The last is the shell that asks.
    space.until(lambda: processes(space, "p") == ["sh", "sleep", "sh"])
    assert space.exec("p", "sh", "-c", "hostname; ls /tmp /sys/class/net").split() == [
        *("p", "/sys/class/net:", "eth0", "lo", "/tmp:", "of-p")
    ]
    for path in ("/", "/etc", "/usr", str(PROJECT)):
        told = space.exec("p", "sh", "-c", f"touch {path}/mine 2>&1; echo $?")
        assert told.endswith("\n1\n") or told == "1\n", (path, told)
    namespaces = [
        space.exec(name, "sh", "-c", "readlink /proc/self/ns/net /proc/self/ns/mnt /proc/self/ns/pid").split()
        for name in ("p", "q")
    ]
    assert not set(namespaces[0]) & set(namespaces[1])


def test_a_user_of_its_own_can_open_its_own_output(space: Space) -> None:
    context = {"runAsUser": 1337}
    script = f"id -u; echo out >/dev/stdout; echo err >/dev/stderr; {STAY}"
    space.run("p", script, securityContext=context)
    space.ready("p")
    log = space.until(lambda: lines if len(lines := space.logs("p").splitlines()) == 3 else None)
    assert sorted(log[1:]) == ["err", "out"]
    assert space.exec("p", "sh", "-c", "echo again >/dev/stdout") == "again\n"


def test_a_pod_that_needs_what_is_not_offered_says_so(space: Space) -> None:
    space.run("p", STAY, spec={"hostNetwork": True})
    space.until(lambda: space.state("p").get("state", {}).get("waiting", {}).get("message"))
    assert "hostNetwork is not offered" in space.state("p")["state"]["waiting"]["message"]


def test_a_pod_whose_config_map_is_missing_waits_for_it(space: Space) -> None:
    source = [{"configMapRef": {"name": "later"}}]
    space.run("p", f"echo $GREETING; {STAY}", envFrom=source)
    space.until(
        lambda: (
            space.state("p").get("state", {}).get("waiting", {}).get("reason") == "CreateContainerConfigError"
        )
    )
    assert 'configmap "later" not found' in space.state("p")["state"]["waiting"]["message"]
    space.create("configmaps", {"metadata": {"name": "later"}, "data": {"GREETING": "hello"}})
    space.ready("p")
    space.until(lambda: space.logs("p") == "hello\n")


def test_a_pod_made_again_under_its_name_is_another_pod(space: Space) -> None:
    first = space.create("pods", pod("p", STAY))
    space.ready("p")
    space.core.delete_namespaced_pod("p", space.name, grace_period_seconds=0)
    space.until(lambda: space.gone("pods/p"))
    second = space.create("pods", pod("p", STAY))
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    assert space.ready("p")["status"]["podIP"]
