"""What the doctor says: each no has a cause and a remedy, and nothing ends in a traceback."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from conformance import doctor
from conformance.__main__ import main
from conformance.doctor import (
    Check,
    Diagnosis,
    as_json,
    as_text,
    command_check,
    existing_checks,
    inotify_checks,
    kind_checks,
)

ENVOY = "/x/envoy  version: 9e55809/1.40.0/Clean/RELEASE/BoringSSL"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def no(checks: list[Check]) -> Check:
    """The one that is missing; every no carries its remedy."""
    (found,) = [check for check in checks if not check.ok]
    assert found.remedy
    return found


def test_a_command_that_works_is_told_by_its_output() -> None:
    check = command_check("x", python("print(' hello ')"), remedy="r")
    assert (check.ok, check.found) == (True, "hello")


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import sys; sys.exit('first\\nlast')", "last"),
        ("print('only this'); raise SystemExit(3)", "only this"),
        ("raise SystemExit(3)", "exit code 3"),
    ],
)
def test_a_command_that_fails_is_told_by_its_last_line(code: str, cause: str) -> None:
    check = command_check("x", python(code), remedy="do this")
    assert (check.ok, check.found, check.remedy) == (False, cause, "do this")


def test_a_command_that_is_not_there_is_a_no() -> None:
    assert not command_check("x", ["/nowhere/command"], remedy="r").ok


def test_a_command_that_hangs_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ANSWER_DEADLINE_SECONDS", 0.2)
    check = command_check("x", python("import time; time.sleep(30)"), remedy="r")
    assert (check.ok, check.found) == (False, "no answer within 0 s")


def test_an_answer_that_cannot_be_read_is_a_no_and_no_traceback() -> None:
    check = command_check("x", python("print('<html>')"), remedy="r", tell=lambda text: str(json.loads(text)))
    assert (check.ok, check.found) == (False, "an answer that is none")


def test_of_envoy_only_the_version_is_shown() -> None:
    assert doctor.envoy_version(ENVOY) == "1.40.0"
    assert doctor.envoy_version("something else\n") == "something else"


def test_kind_is_refused_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    checks = kind_checks()
    assert [(check.name, check.ok) for check in checks] == [
        ("docker", False),
        ("kind", False),
    ]
    assert all(check.remedy for check in checks)


def test_a_missing_kubeconfig_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert no(existing_checks(None)).found == f"{tmp_path}/.kube/config is not there"


def test_a_kubeconfig_of_several_files_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(("/a", "/b")))
    assert no(existing_checks(None)).found == "KUBECONFIG names 2 files"


def test_a_cluster_that_does_not_answer_is_a_no(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n"
        "users: [{name: u, user: {token: t}}]\n"
    )
    check = no(existing_checks(kubeconfig))
    assert check.name == "API server"
    assert "127.0.0.1:1 was refused" in check.found


DIAGNOSES = (
    Diagnosis(cluster="embedded", checks=(Check(name="Linux", ok=True, found="Linux x86_64"),)),
    Diagnosis(
        cluster="kind",
        checks=(
            Check(name="docker", ok=True, found="/usr/bin/docker", remedy="Install it."),
            Check(name="kind program", ok=False, found="not on PATH", remedy="Install that."),
        ),
    ),
)


def test_the_text_is_aligned_and_gives_a_remedy_for_each_no_only() -> None:
    assert as_text(DIAGNOSES).splitlines() == [
        "embedded: yes",
        "  ok  Linux  Linux x86_64",
        "kind: no",
        "  ok  docker        /usr/bin/docker",
        "  NO  kind program  not on PATH",
        "                    -> Install that.",
    ]


def test_the_json_says_the_same() -> None:
    told = json.loads(as_json(DIAGNOSES))
    assert [(item["cluster"], item["usable"]) for item in told] == [("embedded", True), ("kind", False)]
    assert told[1]["checks"][1]["remedy"] == "Install that."


@pytest.mark.parametrize(("usable", "code"), [(True, 0), (False, 1)])
def test_the_command_fails_where_nothing_can_run(
    usable: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "diagnose", lambda _: DIAGNOSES if usable else DIAGNOSES[1:])
    assert main(["doctor"]) == code
    assert ("embedded: yes" in capsys.readouterr().out) is usable


@pytest.mark.parametrize(
    ("limit", "ok", "workers"), [("128\n", True, 10), ("8192\n", True, 682), ("8\n", False, 0)]
)
def test_how_many_workers_the_limit_of_inotify_lets_run(
    tmp_path: Path, limit: str, ok: bool, workers: int
) -> None:
    file = tmp_path / "max_user_instances"
    file.write_text(limit)
    (check,) = inotify_checks(file)
    assert check.ok is ok
    assert check.found.endswith(f"12 of them for each worker: N={workers} at most")
    assert "fs.inotify.max_user_instances=" in check.remedy


def test_a_kernel_that_tells_no_limit_is_no_finding(tmp_path: Path) -> None:
    assert inotify_checks(tmp_path / "none") == []
