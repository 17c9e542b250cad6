"""The kind driver against a stand-in that takes exactly the calls it may make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conformance.__main__ import main
from conformance.cluster import images
from conformance.cluster.images import Image
from conformance.cluster.kind import KindCluster, check_kind, remove, stale_clusters, start_kind
from conformance.errors import InputError, SetupError
from tests.cluster.conftest import StandIn

RUN = "1122101500ab"
NAME = f"authz-conf-{RUN}"
BUILT = "authz-conformance:4be14be14be1"
# As kind 0.33 and docker 28 say it; the last lines are those of a program that they called.
TAKEN = 'ERROR: failed to create cluster: node(s) already exist for a cluster with the name "x"\n'
NOT_PULLED = (
    'ERROR: failed to create cluster: failed to pull image "kindest/node:v1": command "docker pull" failed'
    " with error: exit status 1\nCommand Output: Error response from daemon: Get registry-1: refused\n"
)
NOT_READY = (
    'ERROR: failed to create cluster: failed to init node with kubeadm: command "docker exec" failed\n'
)
NO_DAEMON = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?\n"
)
FORBIDDEN = (
    "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock\n"
)


def start(tmp_path: Path, **given: Any) -> KindCluster:
    options: dict[str, Any] = {
        "run": RUN,
        "level": "extended",
        "version": "0.1.0",
        "image": None,
        "keep": False,
        "reuse": False,
        "logs": tmp_path / "kind-logs",
        "say": lambda _text: None,
    }
    return start_kind(**(options | given))


def verbs(standin: StandIn) -> list[str]:
    """The calls that change something, by their first words."""
    changing = ("docker build", "docker save", "kind create", "kind load", "kind export", "kind delete")
    return [" ".join(call.split()[:2]) for call in standin.calls() if call.startswith(changing)]


def test_a_run_has_a_cluster_of_its_own_and_leaves_nothing(standin: StandIn, tmp_path: Path) -> None:
    cluster = start(tmp_path)
    assert cluster.name == NAME
    assert cluster.image == Image(name=BUILT)
    assert cluster.kubeconfig.read_text() == "apiVersion: v1\nkind: Config\n"
    created = next(call for call in standin.calls() if call.startswith("kind create"))
    assert "/two-workers.yaml" in created
    assert "kindest/node:v1.36." in created
    saved = next(call for call in standin.calls() if call.startswith("docker save"))
    assert saved.endswith(f" {BUILT} {images.LOCAL}")
    cluster.stop()
    cluster.stop()
    assert verbs(standin) == ["docker build", "kind create", "docker save", "kind load", "kind delete"]
    assert standin.clusters() == []
    assert standin.marks() == []
    assert not cluster.kubeconfig.parent.exists()
    assert not (standin.home / ".kube").exists()


def test_the_quick_proof_has_one_worker_and_the_version_can_be_asked_for(
    standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIND_KUBERNETES", "1.34")
    start(tmp_path, level="core").stop()
    created = next(call for call in standin.calls() if call.startswith("kind create"))
    assert "/one-worker.yaml" in created
    assert "kindest/node:v1.34." in created


def test_an_image_that_is_named_is_not_built_and_loaded_where_docker_has_it(
    standin: StandIn, tmp_path: Path
) -> None:
    start(tmp_path, image=Image(name="python:3.11.9", scripts=True)).stop()
    assert verbs(standin) == ["kind create", "docker save", "kind load", "kind delete"]
    standin.answer("docker image", code=1, err="Error: No such image: python:3.11.9\n")
    start(tmp_path, image=Image(name="python:3.11.9", scripts=True)).stop()
    assert verbs(standin)[4:] == ["kind create", "kind delete"]


def test_a_docker_that_cannot_choose_the_platform_saves_what_it_has(standin: StandIn, tmp_path: Path) -> None:
    standin.answer("docker save", code=125, err="unknown flag: --platform\n", unless="--platform")
    start(tmp_path).stop()
    assert [("--platform" in call) for call in standin.calls() if call.startswith("docker save")] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("asked", "value", "message"),
    [
        ("KIND_KUBERNETES", "1.12", "KIND_KUBERNETES=1.12: there is no node image (one of 1.36, 1.35, 1.34)"),
        ("KIND_CONFIG", "/nowhere.yaml", "KIND_CONFIG=/nowhere.yaml: there is no such file"),
    ],
)
def test_bad_wishes_are_told_before_anything_is_started(
    standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, value: str, message: str
) -> None:
    monkeypatch.setenv(asked, value)
    with pytest.raises(InputError) as caught:
        start(tmp_path)
    assert str(caught.value).startswith(message)
    assert verbs(standin) == []


@pytest.mark.parametrize(
    ("call", "said", "message"),
    [
        ("docker version", NO_DAEMON, "no Docker daemon answers (start it, or --cluster embedded)"),
        ("docker version", FORBIDDEN, "the Docker daemon refuses this user (add it to the group docker"),
        (
            "docker version",
            "Error: something new\n",
            "the Docker daemon does not answer: Error: something new",
        ),
        ("kind version", "exec format error\n", "kind does not run: exec format error"),
    ],
)
def test_what_does_not_answer_is_one_line(standin: StandIn, call: str, said: str, message: str) -> None:
    standin.answer(call, code=1, err=said)
    with pytest.raises(InputError) as caught:
        check_kind()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("missing", "message"),
    [(("kind",), "kind is not installed"), (("docker", "kind"), "docker and kind are not installed")],
)
def test_what_is_missing_is_named(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], message: str
) -> None:
    for name in missing:
        (standin.programs / name).unlink()
    monkeypatch.setenv("PATH", str(standin.programs))
    with pytest.raises(InputError, match=message):
        check_kind()


@pytest.mark.parametrize(
    ("call", "said", "message"),
    [
        ("docker build", "failed to solve: base: not found\n", "the image was not built: failed to solve"),
        ("kind create", NOT_PULLED, "the node image kindest/node:v1.36.4@sha256:"),
        ("kind create", NOT_READY, "kind made no cluster: failed to create cluster: failed to init node"),
        ("docker save", "no space left on device\n", "the image was not saved: no space left on device"),
        (
            "kind load",
            "ERROR: failed to load image: ctr\n",
            f"the image was not loaded into {NAME}: failed to",
        ),
    ],
)
def test_a_start_that_fails_is_one_line_and_leaves_nothing(
    standin: StandIn, tmp_path: Path, call: str, said: str, message: str
) -> None:
    standin.answer(call, code=1, err=said)
    with pytest.raises(SetupError) as caught:
        start(tmp_path)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert standin.clusters() == []
    assert standin.marks() == []
    if call != "docker build":
        assert verbs(standin)[-2:] == ["kind export", "kind delete"]
        assert (tmp_path / "kind-logs").is_dir()


def test_a_cluster_of_that_name_that_is_not_ours_is_left_alone(standin: StandIn, tmp_path: Path) -> None:
    standin.clusters(NAME)
    with pytest.raises(SetupError, match="already"):
        start(tmp_path)
    assert standin.clusters() == [NAME]
    assert "kind delete" not in verbs(standin)
    assert standin.marks() == []


def test_a_name_that_is_taken_meanwhile_is_one_line(standin: StandIn, tmp_path: Path) -> None:
    standin.answer("kind create", code=1, err=TAKEN)
    with pytest.raises(SetupError, match=r"node\(s\) already exist"):
        start(tmp_path)


def test_a_kept_cluster_is_used_again_and_never_by_two(standin: StandIn, tmp_path: Path) -> None:
    start(tmp_path, keep=True).stop()
    assert standin.clusters() == [NAME]
    again = start(tmp_path, run="1122101501cd", reuse=True)
    assert again.name == NAME
    assert "kept by an earlier run" in again.description
    other = start(tmp_path, run="1122101502ef", reuse=True)
    assert other.name == "authz-conf-1122101502ef"
    again.stop()
    other.stop()
    assert standin.clusters() == [NAME, "authz-conf-1122101502ef"]
    assert [call.split()[1] for call in standin.calls()].count("create") == 2


def test_a_failure_on_a_reused_cluster_does_not_delete_it(standin: StandIn, tmp_path: Path) -> None:
    start(tmp_path, keep=True).stop()
    standin.answer("kind load", code=1, err="ERROR: no\n")
    with pytest.raises(SetupError):
        start(tmp_path, run="1122101501cd", reuse=True)
    assert standin.clusters() == [NAME]
    assert standin.marks() == [NAME]


def test_clusters_of_dead_runs_are_found_and_removed(standin: StandIn, tmp_path: Path) -> None:
    kept = start(tmp_path, keep=True)
    kept.stop()
    running = start(tmp_path, run="1122101501cd")
    dead = start(tmp_path, run="1122101502ef")
    dead.mark.release(remove=False)  # as the kernel does when the process dies
    standin.clusters(*standin.clusters(), "authz-conf-112210150399", "mine")
    found = stale_clusters()
    assert [(one.name, one.run, one.kept) for one in found] == [
        (kept.name, RUN, True),
        (dead.name, "1122101502ef", False),
    ]
    for one in found:
        remove(one)
    assert standin.clusters() == [running.name, "authz-conf-112210150399", "mine"]
    assert standin.marks() == [running.name]
    with pytest.raises(SetupError, match="a run uses"):
        remove(found[0].__class__(name=running.name, run="", started=0, kept=False))
    running.stop()
    assert stale_clusters() == []


def test_cleanup_lists_and_removes_the_clusters_of_dead_runs(
    standin: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = start(tmp_path, keep=True)
    kept.stop()
    running = start(tmp_path, run="1122101501cd")
    dead = start(tmp_path, run="1122101502ef")
    dead.mark.release(remove=False)  # as the kernel does when the process dies

    def cleanup(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["cleanup", *arguments])
        return code, capsys.readouterr().out

    code, output = cleanup()
    assert (code, "1 younger ones are left" in output, "1 kept" in output) == (0, True, True), output
    assert "no kubeconfig: only kind clusters" in output
    standin.answer("kind get clusters", code=1, err="ERROR: Cannot connect to the Docker daemon\n")
    code, output = cleanup()
    assert (code, "nothing to delete" in output) == (1, False), output
    standin.answer("kind get clusters")
    code, output = cleanup("--older-than=0s", "--dry-run")
    assert (code, f"  {dead.name} (run 1122101502ef, 0.0 h old)" in output) == (0, True), output
    assert standin.clusters() == [kept.name, running.name, dead.name]
    standin.answer("kind delete", code=1, err="ERROR: failed to delete cluster: daemon gone\n")
    assert cleanup("--older-than=0s")[0] == 1
    standin.answer("kind delete")
    code, output = cleanup("--older-than=0s")
    assert (code, "  1 clusters deleted" in output) == (0, True), output
    assert standin.clusters() == [kept.name, running.name]
    assert cleanup(f"--run={RUN}")[0] == 0
    assert standin.clusters() == [running.name]
    running.stop()


def test_a_cluster_that_cannot_be_deleted_is_told_with_the_command(standin: StandIn, tmp_path: Path) -> None:
    cluster = start(tmp_path)
    standin.answer("kind delete", code=1, err="ERROR: failed to delete cluster: daemon gone\n")
    with pytest.raises(SetupError, match=f"daemon gone .kind delete cluster --name {NAME}"):
        cluster.stop()
    assert standin.marks() == [NAME]
    assert not cluster.kubeconfig.parent.exists()


def test_a_state_directory_that_cannot_be_made_is_one_line(
    standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(SetupError, match="set XDG_STATE_HOME"):
        start(tmp_path)
    assert "kind create" not in verbs(standin)
