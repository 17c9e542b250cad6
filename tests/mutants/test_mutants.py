"""The suite against parts broken on purpose: red each time, and the broken requirement is named.

A few of the mutants; `make mutants` runs all of them. The table is held complete here.
"""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.catalogue import load_catalogue
from conformance.probe import session
from tests.mutants import __main__ as campaign
from tests.mutants import prober
from tests.mutants.run import enforcers
from tests.mutants.suite import (
    BREACH,
    INCONCLUSIVE,
    Outcome,
    copied_manifests,
    manifests_with,
    replace_once,
    run_suite,
)
from tests.mutants.table import BROKEN, ELSEWHERE, IMPLIED, NOT_YET, Broken, Part

QUICK = (
    "deny_ignored",
    "allow_miss_allowed",
    "http_rule_matches_all",
    "not_ports_as_ports",
    "selector_ignored",
    "never_pushed",
    "answer_withheld",
)
SPARES_NOTHING = ("never_pushed",)
"""Every scenario has a polarity that these break."""


def first_row(mutant: str) -> Broken:
    """The row by which the table breaks most with one small run: the mutant's first."""
    return next(row for row in BROKEN if row.mutant == mutant)


@pytest.mark.parametrize("mutant", QUICK)
def test_a_broken_enforcer_turns_the_run_red_and_the_requirement_is_named(
    mutant: str, tmp_path: Path
) -> None:
    row = first_row(mutant)
    manifests = manifests_with(tmp_path, mutant)
    outcome = run_suite(manifests, tmp_path / "reports", f"{row.scenarios} or doc/02 or port/02 or order/02")
    assert outcome.code == BREACH, outcome.output
    assert row.requirement in outcome.named("failed"), outcome.output
    assert row.requirement in outcome.output
    assert bool(outcome.with_status("passed")) is (mutant not in SPARES_NOTHING), outcome.output


def test_a_server_that_stops_is_inconclusive_and_never_rejected_as_documented(tmp_path: Path) -> None:
    manifests = copied_manifests(tmp_path)
    file, command, _option = Part.WORKLOAD.value
    replace_once(manifests / file, command, "command: [python3, -m, tests.mutants.dying_echo]")
    outcome = run_suite(manifests, tmp_path / "reports", "doc/02 or doc/07")
    assert outcome.code == INCONCLUSIVE, outcome.output
    assert outcome.with_status("passed") == {}
    assert len(outcome.with_status("inconclusive")) == 2


def test_the_table_says_of_each_requirement_how_it_is_broken_or_why_not() -> None:
    promised = {
        name
        for name, requirement in load_catalogue().items()
        if requirement.level != "observation" and name.split("-")[0] not in ELSEWHERE
    }
    said = {
        "a mutant": {row.requirement for row in BROKEN},
        "implied": {row.requirement for row in IMPLIED},
        "not yet": set(NOT_YET),
    }
    counted = Counter(name for names in said.values() for name in names)
    assert promised - counted.keys() == set(), "the table says nothing of these"
    assert counted.keys() - promised == set(), "nobody promises these"
    assert [name for name, count in counted.items() if count > 1] == [], "said in two ways"
    assert {row.by for row in IMPLIED} <= said["a mutant"], "implied by what nothing breaks"
    assert all(row.reason for row in IMPLIED)
    judged = {row.requirement for row in BROKEN if not row.unjudged}
    assert said["a mutant"] - judged == set(), "no failure comes of any of their mutants"


ROW = Broken(requirement="DOC-02", mutant="one", scenarios="doc/02")
FAILED = {"status": "failed", "failure": "over-blocking", "requirements": ["DOC-02"]}
DOUBT = {**FAILED, "status": "inconclusive", "failure": None}
PASSED = {**FAILED, "status": "passed", "failure": None}
OTHER = {**FAILED, "requirements": ["DOC-03"]}


@pytest.mark.parametrize(
    ("row", "code", "case", "word", "runs"),
    [
        (ROW, BREACH, FAILED, "killed", 1),
        (ROW, BREACH, OTHER, "SURVIVED", 1),
        (ROW, 0, PASSED, "SURVIVED", 1),
        (ROW, INCONCLUSIVE, DOUBT, "undecided", 2),
        (ROW, 4, None, "undecided", 2),
        (replace(ROW, unjudged="why"), INCONCLUSIVE, DOUBT, "no pass", 1),
        (replace(ROW, unjudged="why"), 0, PASSED, "SURVIVED", 1),
        (replace(ROW, unjudged="why"), 4, None, "undecided", 2),
    ],
)
def test_only_a_failure_that_names_the_requirement_is_a_kill(
    row: Broken, code: int, case: dict[str, Any] | None, word: str, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def run(*_arguments: object) -> Outcome:
        made.append("run")
        return Outcome(code=code, output="DOC-02 and DOC-03", cases={"doc/02": case} if case else {})

    monkeypatch.setattr(campaign, "run_suite", run)
    result = campaign.judge(campaign.Run(mutant="one", rows=(row,)))
    assert campaign.describe(result).startswith(word)
    assert len(made) == runs


def test_all_rows_of_a_mutant_are_judged_by_one_run() -> None:
    parts = {row.mutant: row.part for row in BROKEN}
    assert [row for row in BROKEN if row.part is not parts[row.mutant]] == []


def test_the_table_and_the_mutants_are_of_one_mind() -> None:
    # In a process of its own: importing the mutants of the enforcer must not weigh on other tests.
    script = """
import importlib
for theme in ("admission", "cluster", "life", "peers", "policies", "prober", "scope", "trial", "workloads"):
    importlib.import_module(f"tests.mutants.{theme}")
from tests.mutants.seams import MUTANTS
print(*MUTANTS)
"""
    listed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    known = {*listed.stdout.split(), *enforcers()}
    assert {row.mutant for row in BROKEN} == known


def test_what_a_mutant_of_the_prober_changes_stands_in_it_once() -> None:
    counts = {name: session._SOURCE.count(old) for name, (old, _) in prober.FALSIFIED.items()}
    assert counts == dict.fromkeys(counts, 1)


def test_a_part_that_is_not_there_cannot_be_replaced(tmp_path: Path) -> None:
    file = tmp_path / "some.yaml"
    file.write_text("command: [other]\n")
    with pytest.raises(ValueError, match="stands 0 times"):
        replace_once(file, Part.WORKLOAD.value[1], "")
