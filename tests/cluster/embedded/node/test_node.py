"""A node's life: it starts or says why not, and nothing outlives the process that started it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.cluster.embedded.node import node as node_module
from conformance.cluster.embedded.node.launcher import NodeError, start_node
from conformance.cluster.embedded.node.preflight import preflight
from tests.cluster.embedded import node_cases as cases
from tests.cluster.embedded import node_lives as lives
from tests.cluster.embedded.conftest import USERS
from tests.cluster.embedded.node_harness import start
from tests.processes import children, descendants, still_alive

LIVES = lives.__name__


def wait_until(condition: Callable[[], bool]) -> bool:
    """Whether it came true within a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_the_nodes_files_are_read_through_its_process_and_stand_nowhere_else() -> None:
    with start_node(entry=f"{LIVES}:stay", options={"text": "secret"}) as node:
        assert node.ready["kubeconfig"] == "/run/authz-node/kubeconfig"
        assert node.path("/run/authz-node/kubeconfig").read_text() == "secret"
        assert sorted(entry.name for entry in node.path("/run/authz-node/bin").iterdir()) == [
            "nc",
            "tcp-echo",
        ]
        assert not Path("/run/authz-node").exists()
        assert "authz-node" not in Path("/proc/self/mountinfo").read_text()
    assert not node.alive()


def test_stopping_ends_every_process() -> None:
    node = start_node(entry=f"{LIVES}:stay")
    everything = descendants(node.pid)
    assert len(everything) >= 3
    node.stop()
    assert still_alive(everything) == set()


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("victim", ["starter", "launcher", "init", "control plane"])
def test_sigkill_of_any_of_them_leaves_nothing(victim: str, user: int | None) -> None:
    node = start(user=user)
    node.run(cases.make_pod, ip="10.244.0.9")
    node.run(cases.keep_running, pod="10.244.0.9")
    everything = descendants(node.pid)
    assert len(everything) >= 4
    (init,) = children(node.pid)
    control_plane = children(init.pid)[0]
    victims = {"starter": node.starter.pid, "launcher": node.pid, "init": init.pid}
    os.kill(victims.get(victim, control_plane.pid), signal.SIGKILL)
    try:
        assert wait_until(lambda: not still_alive(everything)), still_alive(everything)
    finally:
        node.stop()


def test_an_entry_that_fails_is_told_with_its_log() -> None:
    with pytest.raises(NodeError) as raised:
        start_node(entry=f"{LIVES}:fail")
    assert raised.value.message == "the control plane failed: ValueError: on purpose"
    assert "node_lives.py" in raised.value.log


def test_an_entry_that_ends_early_is_told() -> None:
    with pytest.raises(NodeError, match="the node ended before it was ready: exit code 3"):
        start_node(entry=f"{LIVES}:leave")


def test_a_silent_entry_meets_the_deadline_and_is_ended() -> None:
    with pytest.raises(NodeError, match=r"the node was not ready after 0\.6 s"):
        start_node(entry=f"{LIVES}:hang", seconds=0.6)


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NodeError, match=f"bind 127.0.0.1:{port}: Address already in use; .*another port"):
            start_node(entry=f"{LIVES}:stay", port=port)


def test_the_log_keeps_the_last_of_what_was_written() -> None:
    with start_node(entry=f"{LIVES}:talk", options={"lines": 40_000}) as node:
        assert wait_until(lambda: "line 39999\n" in node.log())
        assert len(node.log()) <= node_module.LOG_BYTES


def test_this_machine_passes_preflight() -> None:
    steps = preflight()
    assert [step for step in steps if not step.ok] == []
    assert [step.step for step in steps][-1] == "overlay a directory in a container"


def test_a_machine_without_user_namespaces_is_told_what_to_do() -> None:
    program = (
        "from conformance.cluster.embedded.node.preflight import preflight\n"
        "from conformance.cluster.embedded.node.launcher import NodeError, start_node\n"
        "(step,) = preflight()\n"
        "try:\n"
        "    start_node(entry='x:y')\n"
        "except NodeError as error:\n"
        "    assert (error.message, error.hint) == (f'{step.step}: {step.error}', step.remedy)\n"
        "    print(error)\n"
    )
    forbid = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("enter user, network, mount, UTS, IPC and PID namespaces: "), done
    assert "allow unprivileged user namespaces" in done.stdout
