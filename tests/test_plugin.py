"""The plugin in a pytest of its own: bad input, exit codes, options that disturb nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments]
    environment = {**os.environ, "HOME": str(home), "KUBECONFIG": ""}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--profile", "nope"), "there is no profile 'nope'"),
        (("--cluster", "kind"), "this release cannot start a kind cluster"),
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
