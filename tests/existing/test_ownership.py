"""What a run leaves on a cluster that is not ours: nothing, and `cleanup` removes the rest."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.__main__ import main
from conformance.cluster.bounds import MANAGED_BY, MANAGER, RUN
from conformance.cluster.ownership import find_owned
from tests.existing.conftest import Stranger
from tests.existing.runs import command, record, suite
from tests.processes import wait_until

GONE_SECONDS = 120.0


def nothing_is_left(stranger: Stranger) -> None:
    wait_until(lambda: not find_owned(stranger.kube), seconds=GONE_SECONDS, what="nothing of ours is left")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["cluster: existing", "streams open"])
def test_an_interrupted_run_removes_what_it_made(
    stranger: Stranger, tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    before = stranger.namespaces()
    run = suite(stranger.kubeconfig, tmp_path, "--level=core")
    run.wait_for(moment)
    run.send(number)
    code, output = run.finish()
    assert code == 2, output
    assert stranger.namespaces() == before
    nothing_is_left(stranger)


def test_a_run_that_fails_to_start_removes_what_it_made(stranger: Stranger, tmp_path: Path) -> None:
    """Half of the workloads come, and one never does."""
    for room in ("crds", "enforcer", "workloads"):
        (tmp_path / room).mkdir()
        source = Path("manifests") / room
        for file in source.glob("*.yaml"):
            text = file.read_text().replace("sleep, infinity", "no-such-program")
            (tmp_path / room / file.name).write_text(
                text if file.name == "sleep-b.yaml" else file.read_text()
            )
    code, output = suite(
        stranger.kubeconfig, tmp_path / "reports", "-k", "doc/02", f"--manifests={tmp_path}"
    ).finish()
    assert code == 4, output
    nothing_is_left(stranger)


@pytest.fixture
def lent(stranger: Stranger) -> Iterator[dict[str, str]]:
    """Three namespaces of somebody else's, one of them with something in it."""
    names = {"foo": "team-foo", "bar": "team-bar", "legacy": "team-legacy"}
    for logical, real in names.items():
        labels = {} if logical == "legacy" else {"istio-injection": "enabled"}
        metadata = {"name": real, "labels": labels}
        stranger.kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}).or_raise(real)
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "theirs", "namespace": "team-foo"},
    }
    stranger.kube.create(config).or_raise("theirs")
    yield names
    assert stranger.kube.get(stranger.kube.key(config)).ok
    for real in names.values():
        key = stranger.kube.key({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": real}})
        assert not stranger.kube.get(key).body["metadata"].get("deletionTimestamp")
        stranger.kube.delete(key)


def test_lent_namespaces_stay_and_only_our_objects_go(
    stranger: Stranger, tmp_path: Path, lent: dict[str, str]
) -> None:
    given = "--namespaces=" + ",".join(f"{name}={real}" for name, real in lent.items())
    pattern = "doc/02 or namespace-prefix or deleted_namespace"
    code, output = suite(stranger.kubeconfig, tmp_path, given, "-k", pattern).finish()
    found = {line["id"]: line["status"] for line in record(tmp_path)[1:-1]}
    assert code == 7, output
    assert found == {
        "doc/02-allow-port-9000": "passed",
        "src/01-identity-fields[namespace-prefix]": "passed",
        "lifecycle/deleted-namespace": "skipped",
    }
    nothing_is_left(stranger)


def make(stranger: Stranger, name: str, labels: dict[str, str]) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    stranger.kube.create(body).or_raise(name)


def test_cleanup_deletes_what_carries_our_labels_and_nothing_else(
    stranger: Stranger, capsys: pytest.CaptureFixture[str]
) -> None:
    before = stranger.namespaces()
    make(stranger, "authz-conf-dead-foo", {MANAGED_BY: MANAGER, RUN: "dead"})
    make(stranger, "authz-conf-live-foo", {MANAGED_BY: MANAGER, RUN: "live"})
    make(stranger, "authz-conf-theirs-foo", {MANAGED_BY: "somebody", RUN: "dead"})
    make(stranger, "authz-conf-unlabelled", {MANAGED_BY: MANAGER})
    at = ("cleanup", f"--kubeconfig={stranger.kubeconfig}")

    def command(*arguments: str) -> tuple[int, str]:
        code = main(arguments)
        return code, capsys.readouterr().out

    code, output = command(*at)
    assert (code, "nothing to delete" in output) == (0, True), output  # they are all young
    code, output = command(*at, "--run=dead", "--dry-run")
    assert code == 0
    assert "Namespace authz-conf-dead-foo (run dead, 0.0 h old)" in output
    assert "authz-conf-dead-foo" in stranger.namespaces()
    code, output = command(*at, "--run=dead")
    assert (code, "1 objects deleted" in output) == (0, True), output
    strangers = {"authz-conf-theirs-foo", "authz-conf-unlabelled"}
    assert stranger.namespaces() - before == {"authz-conf-live-foo", *strangers}
    code, output = command(*at, "--older-than=0s")
    assert stranger.namespaces() - before == strangers
    for name in strangers:
        stranger.kube.request("DELETE", f"/api/v1/namespaces/{name}")


def test_only_the_namespaces_that_were_named_are_looked_into(stranger: Stranger) -> None:
    keys = []
    for namespace in ("default", "kube-public"):
        labels = {MANAGED_BY: MANAGER, RUN: "named"}
        metadata = {"name": "left", "namespace": namespace, "labels": labels}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        stranger.kube.create(body).or_raise(namespace)
        keys.append(stranger.kube.key(body))
    found = find_owned(stranger.kube, run="named", namespaces=iter(["default"]))
    for key in keys:
        stranger.kube.delete(key)
    assert [item.key for item in found] == keys[:1]


@pytest.mark.parametrize("given", [("--older-than=soon",), ("--run=x", "--older-than=1h")])
def test_cleanup_refuses_what_it_does_not_understand(given: tuple[str, ...]) -> None:
    code, output = command("cleanup", *given)
    assert (code, "error:" in output) == (4, True), output
