"""The plugin in a pytest of its own: bad input, exit codes, options that disturb nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.cluster.existing import connect
from conformance.errors import InputError

ROOT = Path(__file__).parent.parent


def run(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments]
    environment = {**os.environ, "HOME": str(home), "KUBECONFIG": ""}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--profile", "nope"), "there is no profile 'nope'"),
        (("--known", "none.yaml"), "none.yaml:1: cannot be read: No such file or directory"),
        (("--cluster", "kind", "--context", "x"), "--kubeconfig and --context go with --cluster existing"),
        (("--cluster", "kind", "--profile", "bundled", "--image", "python:latest"), "its tag may move"),
        (("--image", "a:1", "--image-registry", "b"), "--image and --image-registry exclude each other"),
        (("--cluster", "embedded", "--image", "a:1"), "the embedded cluster has one image"),
        (("--cluster", "embedded", "--keep-cluster"), "--keep-cluster and --reuse-cluster are for kind"),
        (("--cluster", "embedded", "--kubeconfig", "x"), "--kubeconfig and --context go with"),
        (("--cluster", "nowhere"), "invalid choice: 'nowhere'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_4(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    result = run("conformance", "--report-dir", str(tmp_path), *arguments, home=tmp_path)
    assert result.returncode == 4, result.stdout + result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_an_existing_cluster_that_is_not_there_is_exit_code_4(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    result = run("conformance", "--kubeconfig", missing, "--report-dir", str(tmp_path), home=tmp_path)
    assert result.returncode == 4
    assert f"there is no kubeconfig {missing}" in result.stdout + result.stderr


def test_a_profile_with_mistakes_names_their_lines(tmp_path: Path) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text("name: mine\ncolour: red\n")
    result = run("conformance", "--profile", str(profile), home=tmp_path)
    assert result.returncode == 4
    assert f"{profile}:2: unknown key 'colour'" in result.stderr


def test_a_report_directory_that_is_a_file_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("")
    result = run("conformance", "--report-dir", str(tmp_path / "reports"), "-k", "doc/02", home=tmp_path)
    assert result.returncode == 4
    assert f"the report directory {tmp_path / 'reports'} cannot be made" in result.stderr
    assert "cluster" not in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


def test_a_selection_of_nothing_starts_nothing_says_so_and_is_exit_code_5(tmp_path: Path) -> None:
    result = run("conformance", "--report-dir", str(tmp_path), "-k", "no-such-case", home=tmp_path)
    assert result.returncode == 5
    assert "-k 'no-such-case' matches no scenario" in result.stdout
    assert "cluster" not in result.stdout


def test_collecting_lists_readable_ids_and_starts_nothing(tmp_path: Path) -> None:
    result = run("conformance", "--collect-only", "-k", "doc/02", home=tmp_path)
    assert result.returncode == 0
    assert "test_scenario[doc/02-allow-port-9000]" in result.stdout
    assert "cluster" not in result.stdout


def test_own_tests_are_not_disturbed_by_a_wrong_profile(tmp_path: Path) -> None:
    result = run("tests/probe/test_converge.py", "--profile", "nope", home=tmp_path)
    assert result.returncode == 0, result.stdout


def test_the_core_level_is_a_part_of_the_extended(tmp_path: Path) -> None:
    def count(level: str) -> int:
        return run("conformance", "--collect-only", "--level", level, home=tmp_path).stdout.count(
            "test_scenario["
        )

    assert 0 < count("core") < count("extended")


def write_kubeconfig(file: Path, *, server: str, more: str = "") -> None:
    file.write_text(
        "current-context: mine\n"
        "contexts: [{name: mine, context: {cluster: c, user: u}}]\n"
        f"clusters: [{{name: c, cluster: {{server: '{server}'{more}}}}}]\n"
        "users: [{name: u, user: {token: t}}]\n"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "is not YAML, line 1"),
        ("a:\n- [b", "is not YAML, line 2"),
        ("hello", "is no kubeconfig: it is not a mapping"),
        ("clusters: [3]", "is no kubeconfig: clusters is not a list of mappings"),
        ("{}", "has no current context"),
    ],
)
def test_what_is_wrong_with_a_kubeconfig_is_told(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(content)
    with pytest.raises(InputError, match=message):
        connect(file, None)


def test_a_kubeconfig_that_is_a_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        connect(tmp_path, None)


def test_a_kubeconfig_that_is_none_is_one_message(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text("hello")
    result = run("conformance", "--kubeconfig", str(file), "--report-dir", str(tmp_path), home=tmp_path)
    assert result.returncode == 4, result.stdout
    assert "is no kubeconfig: it is not a mapping" in result.stderr
    assert "Exit" not in result.stdout + result.stderr


def test_a_server_that_does_not_answer_is_one_message(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    write_kubeconfig(file, server="https://127.0.0.1:1")
    result = run("conformance", "--kubeconfig", str(file), "--report-dir", str(tmp_path), home=tmp_path)
    assert result.returncode == 4, result.stdout
    assert (
        "ERROR: preflight: api: no answer from the Kubernetes API at https://127.0.0.1:1: Connection refused"
        in result.stderr
    )


def test_a_context_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    write_kubeconfig(file, server="https://127.0.0.1:1")
    options = ("--kubeconfig", str(file), "--context", "other", "--report-dir", str(tmp_path))
    result = run("conformance", *options, home=tmp_path)
    assert result.returncode == 4
    assert "has no context 'other' (--context, one of: mine)" in result.stderr


def test_manifests_are_checked_before_anything_is_started(tmp_path: Path) -> None:
    broken = tmp_path / "manifests"
    shutil.copytree(ROOT / "manifests", broken)
    sleep = broken / "workloads" / "sleep.yaml"
    sleep.write_text("apiVersion: v1\nmetadata: {name: x}\n")
    options = ("--manifests", str(broken), "--report-dir", str(tmp_path))
    result = run("conformance", "-k", "doc/02", *options, home=tmp_path)
    assert result.returncode == 4
    assert f"ERROR: {sleep}:1: 'kind' is missing" in result.stderr
    assert "cluster" not in result.stdout
