"""The suite against parts broken on purpose: red each time, and the broken requirement is named."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parent.parent.parent
RUN_SECONDS = 120
BREACH, INCONCLUSIVE = 1, 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """An enforcer of tests.mutants.enforcers, the requirement it breaks, the scenarios that must notice."""

    module: str
    requirement: str
    scenarios: str
    """For -k: few enough to be quick, and one that the mutant leaves alone."""
    spares_nothing: bool = False
    """Every scenario has a polarity that this mutant breaks."""


MUTANTS = [
    Mutant(module="deny_ignored", requirement="ORDER-01", scenarios="order/01 or order/03"),
    Mutant(module="allow_miss_allowed", requirement="DOC-02", scenarios="doc/02 or order/02"),
    Mutant(module="http_rule_matches_all", requirement="DOC-07", scenarios="doc/07 or doc/02"),
    Mutant(module="not_ports_as_ports", requirement="PORT-03", scenarios="port/03 or port/02"),
    Mutant(module="selector_ignored", requirement="DOC-05", scenarios="doc/05 or doc/02"),
    Mutant(module="never_pushed", requirement="DOC-02", scenarios="doc/02", spares_nothing=True),
    Mutant(module="answer_withheld", requirement="RUN-03", scenarios="run/01 or order/02"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run said: its exit code, what it printed, the cases of its record by id."""

    code: int
    output: str
    cases: dict[str, dict[str, Any]]

    def with_status(self, status: str) -> dict[str, dict[str, Any]]:
        return {name: case for name, case in self.cases.items() if case["status"] == status}


def run_suite(manifests: Path, reports: Path, scenarios: str) -> Outcome:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "conformance", "run", "--cluster=embedded"),
            *("--manifests", str(manifests), "--report-dir", str(reports), "-k", scenarios),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    output = done.stdout + done.stderr
    records = list(reports.glob("[0-9]*/record.jsonl"))
    assert len(records) == 1, output
    lines = [json.loads(line) for line in records[0].read_text().splitlines()]
    return Outcome(
        code=done.returncode,
        output=output,
        cases={line["id"]: line for line in lines if line["line"] == "case"},
    )


def manifests_with(folder: Path, *, file: str, old: str, new: str) -> Path:
    """A copy of the manifests in which one command is another."""
    copy = folder / "manifests"
    shutil.copytree(PROJECT / "manifests", copy)
    text = (copy / file).read_text()
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
    (copy / file).write_text(text.replace(old, new))
    return copy


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.module)
def test_a_broken_enforcer_turns_the_run_red_and_the_requirement_is_named(
    mutant: Mutant, tmp_path: Path
) -> None:
    manifests = manifests_with(
        tmp_path,
        file="enforcer/30-controller.yaml",
        old="[python3, -m, enforcer]",
        new=f"[python3, -m, tests.mutants.enforcers.{mutant.module}]",
    )
    outcome = run_suite(manifests, tmp_path / "reports", mutant.scenarios)
    assert outcome.code == BREACH, outcome.output
    failed = outcome.with_status("failed")
    named = {requirement for case in failed.values() for requirement in case["requirements"]}
    assert mutant.requirement in named, outcome.output
    assert mutant.requirement in outcome.output
    assert bool(outcome.with_status("passed")) is not mutant.spares_nothing, outcome.output


def test_a_server_that_stops_is_inconclusive_and_never_rejected_as_documented(tmp_path: Path) -> None:
    manifests = manifests_with(
        tmp_path,
        file="workloads/tcp-echo.yaml",
        old="command: [tcp-echo]",
        new="command: [python3, -m, tests.mutants.dying_echo]",
    )
    outcome = run_suite(manifests, tmp_path / "reports", "doc/02 or doc/07")
    assert outcome.code == INCONCLUSIVE, outcome.output
    assert outcome.with_status("passed") == {}
    assert len(outcome.with_status("inconclusive")) == 2
