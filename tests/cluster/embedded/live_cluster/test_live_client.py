"""The official Python client against the whole cluster: the same verbs as kubectl's, with its own habits."""

from __future__ import annotations

import threading
from typing import Any

import kubernetes
import pytest

from tests.cluster.embedded.live import DEADLINE, STAY, Space, deployment, pod, refusal


def test_create_get_list_patch_replace_delete(space: Space) -> None:
    core, name = space.core, space.name
    wanted = kubernetes.client.V1ConfigMap(
        metadata={"name": "made", "labels": {"tier": "one"}}, data={"a": "1"}
    )
    made = core.create_namespaced_config_map(name, wanted)
    assert made.metadata.uid
    listed = core.list_namespaced_config_map(name, label_selector="tier=one").items
    assert [item.metadata.name for item in listed] == ["made"]
    by_name = {"field_selector": "metadata.name=kube-root-ca.crt"}
    space.until(lambda: len(core.list_namespaced_config_map(name, **by_name).items) == 1)
    patched = core.patch_namespaced_config_map("made", name, {"data": {"a": None, "b": "2"}})
    assert patched.data == {"b": "2"}
    patched.data = {"c": "3"}
    replaced = core.replace_namespaced_config_map("made", name, patched)
    assert (replaced.data, replaced.metadata.uid) == ({"c": "3"}, made.metadata.uid)
    patched.data = {"d": "4"}
    lost = refusal(lambda: core.replace_namespaced_config_map("made", name, patched))
    assert (lost["code"], lost["reason"]) == (409, "Conflict")
    core.delete_namespaced_config_map("made", name)
    assert space.refusal("GET", "configmaps/made")["reason"] == "NotFound"


def test_a_watch_goes_on_where_a_list_stood(space: Space) -> None:
    core = space.core
    version = core.list_namespaced_config_map(space.name).metadata.resource_version
    for number in range(3):
        space.create("configmaps", {"metadata": {"name": f"c{number}"}})
    core.delete_namespaced_config_map("c1", space.name)
    watch = kubernetes.watch.Watch()
    seen: list[tuple[str, str]] = []
    for event in watch.stream(
        core.list_namespaced_config_map, space.name, resource_version=version, timeout_seconds=60
    ):
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            watch.stop()
    named = [(kind, name) for kind, name in seen if name.startswith("c")]
    assert named == [("ADDED", "c0"), ("ADDED", "c1"), ("ADDED", "c2"), ("DELETED", "c1")]


def test_server_side_apply_takes_back_what_is_left_out(space: Space) -> None:
    def apply(manager: str, data: dict[str, str], **more: Any) -> Any:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made"}, "data": data}
        return space.core.patch_namespaced_config_map(
            "made",
            space.name,
            body,
            field_manager=manager,
            _content_type="application/apply-patch+yaml",
            **more,
        )

    apply("one", {"a": "1", "b": "2"})
    assert apply("one", {"a": "1"}).data == {"a": "1"}
    contested = refusal(lambda: apply("two", {"a": "9"}))
    assert (contested["code"], contested["reason"]) == (409, "Conflict")
    assert 'conflict with "one"' in contested["message"]
    assert apply("two", {"a": "9"}, force=True).data == {"a": "9"}


def test_exec_talks_both_ways_and_tells_the_exit_code(space: Space) -> None:
    space.run("p", STAY)
    space.ready("p")
    script = "while read line; do echo got $line; [ $line = end ] && exit 3; done"
    with space.session("p", "sh", "-c", script, stdin=True) as session:
        session.write_stdin("one\n")
        assert session.readline_stdout(timeout=DEADLINE) == "got one"
        session.write_stdin("end\n")
        session.run_forever(timeout=DEADLINE)
        assert session.returncode == 3


def test_logs_follow_while_the_container_writes(space: Space) -> None:
    space.run(
        "p", "mkfifo /tmp/go; echo first; read line </tmp/go; echo $line", spec={"restartPolicy": "Never"}
    )
    space.until(lambda: "running" in space.state("p").get("state", {}))
    lines: list[str] = []
    first = threading.Event()

    def follow() -> None:
        watch = kubernetes.watch.Watch()
        for line in watch.stream(space.core.read_namespaced_pod_log, "p", space.name, follow=True):
            lines.append(line)
            first.set()

    follower = threading.Thread(target=follow)
    follower.start()
    assert first.wait(DEADLINE)
    space.exec("p", "sh", "-c", "echo second >/tmp/go")
    follower.join(DEADLINE)
    assert lines == ["first", "second"]


@pytest.mark.parametrize(
    ("policy", "pods_stay"),
    [("Foreground", False), ("Background", False), ("Orphan", True)],
)
def test_deletion_of_a_deployment(space: Space, policy: str, *, pods_stay: bool) -> None:
    space.create("deployments", deployment("echo", STAY, replicas=2))
    space.until(lambda: space.get("deployments/echo").get("status", {}).get("readyReplicas") == 2)
    apps = kubernetes.client.AppsV1Api(space.live.api)
    apps.delete_namespaced_deployment("echo", space.name, propagation_policy=policy)
    if policy == "Foreground":
        # The owner stays until the last of its pods has gone.
        finalizers = space.get("deployments/echo")["metadata"]["finalizers"]
        assert finalizers == ["foregroundDeletion"]
    space.until(lambda: space.gone("deployments/echo"))
    if pods_stay:
        remaining = space.pods("app=echo")
        assert [pod["metadata"].get("ownerReferences") for pod in remaining] == [None, None]
        assert all("deletionTimestamp" not in pod["metadata"] for pod in remaining)
    elif policy == "Foreground":
        assert space.pods("app=echo") == []
    else:
        space.until(lambda: not space.pods("app=echo"))


def test_a_dry_run_changes_nothing(space: Space) -> None:
    space.request("POST", "pods", pod("p", STAY), dryRun="All")
    assert space.gone("pods/p")
