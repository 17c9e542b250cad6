"""A stock kubectl against the whole cluster: what it creates runs; it prints what it prints anywhere."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.cluster.embedded.live import DEADLINE, KUBECTL, STAY, Space, container, deployment, pod


def test_create_in_protobuf_get_list_label_annotate_patch_delete(space: Space) -> None:
    assert space.kubectl("create", "configmap", "made", "--from-literal=a=1") == "configmap/made created"
    assert space.kubectl("label", "configmap", "made", "tier=one") == "configmap/made labeled"
    assert space.kubectl("annotate", "configmap", "made", "note=x") == "configmap/made annotated"
    assert space.kubectl("patch", "cm", "made", "-p", '{"data":{"b":"2"}}') == "configmap/made patched"
    assert space.kubectl("get", "cm", "-l", "tier=one", "-o", "name") == "configmap/made"
    assert space.kubectl("get", "cm", "-l", "tier=two", "-o", "name") == ""
    found = json.loads(space.kubectl("get", "cm", "made", "-o", "json"))
    assert (found["data"], found["metadata"]["annotations"]) == ({"a": "1", "b": "2"}, {"note": "x"})
    assert space.kubectl("label", "cm", "made", "tier-") == "configmap/made unlabeled"
    assert "labels" not in space.get("configmaps/made")["metadata"]
    assert f'configmap "made" deleted from {space.name} namespace' in _after_1_34(
        space, space.kubectl("delete", "cm", "made")
    )
    assert space.error("get", "cm", "made") == 'Error from server (NotFound): configmaps "made" not found'


def _after_1_34(space: Space, said: str) -> str:
    """kubectl names the namespace since 1.34."""
    return said if "from" in said else f"{said} from {space.name} namespace"


@pytest.mark.parametrize("how", [(), ("--server-side",)], ids=["client-side", "server-side"])
def test_a_second_apply_without_a_field_reaches_the_pods(space: Space, how: tuple[str, ...]) -> None:
    env = [{"name": "KEPT", "value": "1"}, {"name": "DROPPED", "value": "2"}]
    first = deployment("echo", f"env; echo ENVEND; {STAY}", env=env)
    first["metadata"]["labels"] = {"a": "1", "b": "2"}
    space.kubectl("apply", *how, "-f", "-", stdin=first)
    space.kubectl("wait", "deployment/echo", "--for=condition=Available", "--timeout=60s")
    space.until(lambda: "DROPPED=2" in space.kubectl("logs", "deployment/echo"))
    second = deployment("echo", f"env; echo ENVEND; {STAY}", env=env[:1])
    second["metadata"]["labels"] = {"a": "1"}
    space.kubectl("apply", *how, "-f", "-", stdin=second)
    space.kubectl("rollout", "status", "deployment/echo", "--timeout=60s")
    found = space.get("deployments/echo")
    assert found["metadata"]["labels"] == {"a": "1"}
    (only,) = space.until(lambda: pods if len(pods := space.pods("app=echo")) == 1 else None)
    # Its last line is there: all of them are.
    log = space.until(lambda: text if "ENVEND" in (text := space.logs(only["metadata"]["name"])) else "")
    assert "KEPT=1" in log
    assert "DROPPED" not in log


def test_wait_for_ready_for_a_value_and_for_the_end(space: Space) -> None:
    said = space.kubectl("run", "p", "--image=authz-conformance:dev", "--command", "--", "sleep", "600")
    assert said == "pod/p created"
    assert space.kubectl("wait", "pod/p", "--for=condition=Ready", "--timeout=60s") == "pod/p condition met"
    said = space.kubectl("wait", "pod/p", "--for=jsonpath={.status.phase}=Running", "--timeout=60s")
    assert said == "pod/p condition met"
    space.kubectl("delete", "pod", "p", "--grace-period=1", "--wait=false")
    space.kubectl("wait", "pod/p", "--for=delete", "--timeout=60s")
    assert space.gone("pods/p")
    assert "timed out waiting for the condition" in _times_out(space)


def _times_out(space: Space) -> str:
    space.run("never", STAY, readinessProbe={"exec": {"command": ["false"]}})
    return space.error("wait", "pod/never", "--for=condition=Ready", "--timeout=2s")


def test_logs_follow_until_the_container_ends(space: Space) -> None:
    script = "mkfifo /tmp/go; echo first; read line </tmp/go; echo $line >&2"
    space.run("p", script, spec={"restartPolicy": "Never"})
    space.until(lambda: "running" in space.state("p").get("state", {}))
    with _kubectl(space, "logs", "-f", "p") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "first\n"
        space.exec("p", "sh", "-c", "echo second >/tmp/go")
        assert following.stdout.read() == "second\n"
        assert following.wait(timeout=DEADLINE) == 0
    assert space.kubectl("logs", "-f", "p") == "first\nsecond"
    assert space.kubectl("logs", "p", "--tail=1") == "second"


def _kubectl(space: Space, *words: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(KUBECTL), "-n", space.name, *words],
        env=space.live.environment,
        stdout=subprocess.PIPE,
        text=True,
        **more,
    )


def test_exec_with_input_output_and_exit_code(space: Space) -> None:
    space.run("p", STAY)
    space.ready("p")
    assert space.kubectl("exec", "-i", "p", "--", "cat", stdin="typed\nin") == "typed\nin"
    done = space.live.kubectl(
        "-n", space.name, "exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 7", code=7
    )
    assert (done.stdout, done.stderr) == ("out\n", "err\ncommand terminated with exit code 7\n")
    large = "x" * 300_000
    assert space.kubectl("exec", "-i", "p", "--", "cat", stdin=large) == large
    assert space.error("exec", "absent", "--", "true") == (
        'Error from server (NotFound): pods "absent" not found'
    )
    assert "container nope is not valid for pod p" in space.error("exec", "p", "-c", "nope", "--", "true")
    missing = space.error("exec", "p", "--", "no-such-program", code=1)
    assert 'exec: "no-such-program": executable file not found in $PATH' in missing


def test_watch_sees_a_pod_come_and_go(space: Space) -> None:
    words = ("get", "pods", "--watch", "--output-watch-events", "--no-headers")
    space.run("before", STAY)
    with _kubectl(space, *words) as watching:
        try:
            assert watching.stdout is not None
            assert watching.stdout.readline().split()[:2] == ["ADDED", "before"]
            space.run("p", STAY)
            space.ready("p")
            space.core.delete_namespaced_pod("p", space.name, grace_period_seconds=0)
            seen = []
            for line in watching.stdout:
                if (row := tuple(line.split()))[1] == "p":
                    seen.append(row)
                if row[:2] == ("DELETED", "p"):
                    break
        finally:
            watching.kill()
    assert (seen[0][0], seen[0][1], seen[-1][0]) == ("ADDED", "p", "DELETED")
    assert any(row[:4] == ("MODIFIED", "p", "1/1", "Running") for row in seen)


def test_get_prints_the_usual_columns(space: Space) -> None:
    space.run("p", STAY)
    space.ready("p")
    header, row = space.kubectl("get", "pods").splitlines()
    assert header.split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row.split()[:4] == ["p", "1/1", "Running", "0"]
    assert space.kubectl("get", "pod", "p", "-o", "jsonpath={.status.podIP}").startswith("10.244.")
    assert "Restart Count:  0" in space.kubectl("describe", "pod", "p")


@pytest.mark.parametrize("how", [(), ("--server-side",)], ids=["client-side", "server-side"])
def test_an_unknown_field_deep_inside_is_refused(space: Space, how: tuple[str, ...]) -> None:
    wrong = deployment("p", "true")
    wrong["spec"]["template"]["spec"]["containers"][0] |= {"comand": ["x"], "ports": [{"port": 1}]}
    told = space.error("apply", *how, "--validate=strict", "-f", "-", stdin=wrong)
    where = "spec.template.spec.containers[0]"
    assert f'strict decoding error: unknown field "{where}.comand"' in told
    assert f'unknown field "{where}.ports[0].port"' in told
    assert space.gone("deployments/p")


def test_an_unknown_field_is_dropped_with_a_warning(space: Space) -> None:
    wrong = pod("p", STAY)
    wrong["spec"]["containers"][0]["comand"] = ["x"]
    told = space.live.kubectl("-n", space.name, "create", "--validate=warn", "-f", "-", stdin=wrong)
    assert 'Warning: unknown field "spec.containers[0].comand"' in told.stderr
    assert "comand" not in space.get("pods/p")["spec"]["containers"][0]


def test_every_field_of_a_container_that_kubernetes_has_is_known(space: Space) -> None:
    full = container(
        "app",
        STAY,
        securityContext={"seccompProfile": {"type": "RuntimeDefault"}, "capabilities": {"drop": ["ALL"]}},
        resizePolicy=[{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
        resources={"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": 1}},
        env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        livenessProbe={"exec": {"command": ["true"]}, "periodSeconds": 60},
        lifecycle={"preStop": {"sleep": {"seconds": 0}}},
    )
    manifest = pod("p", "", spec={"containers": [full], "topologySpreadConstraints": [], "affinity": {}})
    space.kubectl("apply", "--validate=strict", "-f", "-", stdin=manifest)
    space.ready("p")


def test_can_i_lists_what_a_service_account_may(space: Space) -> None:
    space.kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods")
    space.kubectl(
        "create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={space.name}:default"
    )
    token = space.kubectl("create", "token", "default")
    told = space.live.kubectl("-n", space.name, "auth", "can-i", "--list", token=token).stdout
    rows = [line.split() for line in told.splitlines()]
    assert ["pods", "[]", "[]", "[get", "list]"] in rows
    assert ["selfsubjectreviews.authentication.k8s.io", "[]", "[]", "[create]"] in rows
    assert ["*.*", "[]", "[]", "[*]"] in [
        line.split() for line in space.kubectl("auth", "can-i", "--list").splitlines()
    ]
