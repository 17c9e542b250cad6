"""Real runs in which the suite itself breaks: never green, and never a breach of the mesh either."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from conformance.report.allure import write_allure

ROOT = Path(__file__).parent.parent
FIRST, SECOND = "doc/02-allow-port-9000", "doc/13-delete-restores"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    code: int
    output: str
    lines: list[dict[str, Any]]
    directory: Path

    def statuses(self) -> dict[str, str]:
        return {line["id"]: line["status"] for line in self.lines if line["line"] == "case"}


def run(directory: Path, *arguments: str, fault: str, case: str = FIRST) -> Ended:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.broken_suite"]
    command += ["conformance", "--cluster", "embedded", "--report-dir", str(directory), *arguments]
    environment = {**os.environ, "KUBECONFIG": "", "FAULT": fault, "FAULT_CASE": case}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    records = list(directory.glob("[0-9]*/record.jsonl"))
    assert len(records) == 1, done.stdout + done.stderr
    lines = [json.loads(text) for text in records[0].read_text().splitlines()]
    return Ended(
        code=done.returncode,
        output=done.stdout + done.stderr,
        lines=lines,
        directory=records[0].parent,
    )


def test_a_defect_of_the_suite_is_inconclusive(tmp_path: Path) -> None:
    ended = run(tmp_path / "r", "-k", "doc/02 or doc/13", fault="raise")
    assert (ended.code, ended.lines[-1]["exit_code"]) == (6, 6), ended.output
    assert ended.statuses() == {FIRST: "inconclusive", SECOND: "passed"}
    controls = ended.lines[2]["controls"]
    assert [(name, control["held"]) for name, control in controls.items()] == [
        ("baseline", True),
        ("bypass", True),
        ("recovery", True),
    ]
    assert "the suite itself failed: ZeroDivisionError" in ended.lines[1]["reason"]
    assert "1 inconclusive" in ended.output
    suite = ET.parse(ended.directory / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("errors"), suite.get("failures")) == ("1", "0")
    write_allure(ended.lines, tmp_path / "a", {})
    results = [json.loads(file.read_text()) for file in (tmp_path / "a").glob("*-result.json")]
    assert sorted(result["status"] for result in results) == ["broken", "passed"]


def test_a_run_that_was_killed_is_incomplete_and_never_green(tmp_path: Path) -> None:
    ended = run(tmp_path / "r", "-k", "doc/02 or doc/13", fault="kill", case=SECOND)
    assert ended.code == -signal.SIGKILL, ended.output
    assert ended.statuses() == {FIRST: "passed"}
    command = [sys.executable, "-m", "conformance", "report", str(ended.directory)]
    report = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert report.returncode == 6, report.stdout + report.stderr
    assert "INCOMPLETE: the run did not end, this is not a result" in report.stdout
    assert f"missing: the footer, 1 of 2 cases ({SECOND})" in report.stdout
    assert "PASSED" not in report.stdout


def test_a_lost_worker_is_inconclusive(tmp_path: Path) -> None:
    allure = ("--alluredir", str(tmp_path / "allure"))
    ended = run(tmp_path / "r", "-n", "2", "-k", "doc/02 or doc/13 or doc/15", *allure, fault="kill")
    assert (ended.code, ended.lines[-1]["exit_code"]) == (6, 6), ended.output
    assert ended.statuses()[FIRST] == "inconclusive"
    assert set(ended.statuses().values()) == {"inconclusive", "passed"}
    assert "its worker was lost" in ended.lines[1]["reason"]
    # What --alluredir gets is made of the record: each case once, whichever worker ran it.
    results = [json.loads(file.read_text()) for file in (tmp_path / "allure").glob("*-result.json")]
    words = {"passed": "passed", "inconclusive": "broken"}
    expected = {name: words[status] for name, status in ended.statuses().items()}
    assert sorted((one["fullName"], one["status"]) for one in results) == sorted(expected.items())


def test_a_walkthrough_that_fails_is_in_the_record(tmp_path: Path) -> None:
    ended = run(tmp_path, "-k", "doc/02 or walkthrough", fault="walkthrough", case="")
    assert (ended.code, ended.lines[-1]["exit_code"]) == (1, 1), ended.output
    assert ended.statuses() == {FIRST: "passed"}
    assert "PASSED: " not in ended.output
    assert ended.lines[0]["options"]["manifests"] == ""  # the enforcer of this suite, and no other
