"""The whole cluster for an ordinary user, and its end: nothing outlives the process that started it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.cluster.embedded.node.images import PROJECT
from tests.cluster.embedded.conftest import USERS
from tests.cluster.embedded.live import STAY, Live, container, make_space, processes, start_live
from tests.cluster.embedded.node.test_node import wait_until
from tests.processes import descendants, still_alive, still_in, ticks

WORKLOADS = PROJECT / "manifests" / "workloads"


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A directory that everybody may write, as /tmp; no test writes there, and no cluster may."""
    directory = Path(tempfile.mkdtemp(prefix="live-"))
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module", params=USERS)
def theirs(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Live]:
    """A cluster of the current user and of an ordinary one, who knows no directory but scratch."""
    running = start_live(user=request.param, environment={"TMPDIR": str(scratch), "HOME": str(scratch)})
    yield running
    running.stop()


def test_the_walkthroughs_workloads_run_for_everybody(theirs: Live) -> None:
    space = make_space(theirs, "foo")
    space.kubectl("apply", "-f", str(WORKLOADS / "tcp-echo.yaml"), "-f", str(WORKLOADS / "sleep.yaml"))
    space.kubectl("wait", "deployment", "--all", "--for=condition=Available", "--timeout=60s")
    ask = 'echo "port 9000" | nc -w 2 tcp-echo 9000'
    (client,) = [made["metadata"]["name"] for made in space.pods("app=sleep")]

    def asked() -> bool:
        return "hello port 9000" in space.exec(client, "sh", "-c", ask, container="sleep")

    space.until(asked)
    words = ("-n", "foo", "exec", "-i", "deploy/sleep", "--", "sh", "-c", "cat; exit 5")
    done = theirs.kubectl(*words, stdin="x", code=5)
    assert done.stdout == "x"
    assert '"text":"port 9000"' in space.kubectl("logs", "deploy/tcp-echo")
    assert "not found in $PATH" in space.error("exec", "deploy/sleep", "--", "no-such-program")
    space.create("secrets", {"metadata": {"name": "s"}, "stringData": {"key": "hidden"}})
    space.run(
        "p",
        f"test -s /var/run/secrets/kubernetes.io/serviceaccount/token && cat /v/key; echo; {STAY}",
        volumeMounts=[{"name": "s", "mountPath": "/v"}],
        spec={
            "initContainers": [container("one", "true")],
            "volumes": [{"name": "s", "secret": {"secretName": "s"}}],
        },
    )
    space.ready("p")
    space.until(lambda: space.logs("p") == "hidden\n")
    space.until(lambda: processes(space, "p") == ["sh", "sleep", "sh"])
    for path in (str(PROJECT), "/etc", "/"):
        assert space.exec("p", "sh", "-c", f"touch {path}/mine 2>/dev/null; echo $?") == "1\n"
    broken = [container("app", "", command=["no-such-program"])]
    space.run("broken", "", spec={"containers": broken, "restartPolicy": "Never"})
    ended = space.until(lambda: space.state("broken").get("state", {}).get("terminated"))
    assert (ended["reason"], ended["exitCode"]) == ("StartError", 128)
    space.kubectl("delete", "namespace", "foo", "--timeout=60s")
    assert theirs.core.list_pod_for_all_namespaces().items == []


# The last one: it ends the cluster.
def test_sigkill_of_the_starter_leaves_nothing_of_a_cluster_at_work(theirs: Live, scratch: Path) -> None:
    space = make_space(theirs, "bar")
    for name in ("p", "q"):
        space.run(name, f"sleep 601 & {STAY}")
        space.ready(name)
    everything = descendants(theirs.pid)
    networks = {process.network_namespace for process in everything}
    networks.discard(str(Path("/proc/self/ns/net").readlink()))
    assert len(networks) >= 3  # the node's and two pods'
    os.kill(theirs.starter.pid, signal.SIGKILL)
    killed = ticks()
    assert wait_until(lambda: not still_alive(everything)), still_alive(everything)
    assert wait_until(lambda: not still_in(networks, since_before=killed))
    assert "authz-node" not in Path("/proc/self/mountinfo").read_text()
    assert not Path("/run/authz-node").exists()
    assert not theirs.kubeconfig.exists()
    assert list(scratch.iterdir()) == []
