"""The suite against parts broken on purpose: red each time, and the broken requirement is named.

A few of the mutants; `make mutants` runs all of them. The table is held complete here.
"""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

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
from tests.mutants.table import BROKEN, ELSEWHERE, IMPLIED, Broken, Part

QUICK = ("deny_ignored", "allow_miss_allowed", "http_rule_matches_all", "never_pushed")
"""Some of what `make mutants` does whole."""
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
    allure = tmp_path / "allure"
    more = (*("--alluredir", str(allure)), "-p", "no:cacheprovider")
    outcome = run_suite(manifests, tmp_path / "reports", "doc/02 or doc/07", *more)
    assert outcome.code == INCONCLUSIVE, outcome.output
    assert outcome.with_status("passed") == {}
    assert len(outcome.with_status("inconclusive")) == 2
    for case in outcome.cases.values():  # the first finds it out in its step, the next at its baseline
        held = {name: control["held"] for name, control in case["controls"].items()}
        assert held["bypass" if "bypass" in held else "baseline"] is False, held
    # Neither a pass nor a failure, wherever it is read.
    assert "test_scenario[doc/02-allow-port-9000] INCONCLUSIVE" in outcome.output
    assert "2 errors in " in outcome.output
    assert "FAILED" not in outcome.output
    (junit,) = (tmp_path / "reports").glob("[0-9]*/junit.xml")
    (suite,) = ET.parse(junit).getroot().findall("testsuite")
    assert [suite.get(name) for name in ("tests", "errors", "failures", "skipped")] == ["2", "2", "0", "0"]
    results = [json.loads(file.read_text())["status"] for file in allure.glob("*-result.json")]
    assert results == ["broken", "broken"]


def test_a_hole_between_two_looks_is_told_with_its_time(tmp_path: Path) -> None:
    """The listener is pushed once without policies after they have landed, and only the watch is there."""
    manifests = manifests_with(tmp_path, "open_for_a_moment")
    outcome = run_suite(manifests, tmp_path / "reports", "test_control_plane_away")
    assert outcome.code == BREACH, outcome.output
    (case,) = outcome.cases.values()
    assert case["failure"] == "allowed but forbidden"
    assert "must stay rejected until the next change, but the connection opened at" in case["reason"]
    step = case["steps"][0]
    assert len(case["steps"]) == 1, "the hole is between the first look and the second"
    assert all(probe["status"] == "passed" for probe in step["probes"]), "no round saw it"
    for breach in step["exposure"]["breaches"]:
        assert breach["port"] == 9001
        assert step["exposure"]["from_ms"] <= breach["offset_ms"] <= step["exposure"]["until_ms"]
        assert case["started"] < breach["opened_at"]
    assert step["exposure"]["kinds"]["closed"] > 0
    assert case["reason"] in outcome.output
    assert list(case["controls"]) == ["baseline", "bypass", "recovery"]


def test_the_table_says_of_each_requirement_how_it_is_broken_or_why_not() -> None:
    promised = {
        name
        for name, requirement in load_catalogue().items()
        if requirement.level != "observation" and not {name, name.split("-")[0]} & ELSEWHERE.keys()
    }
    said = {
        "a mutant": {row.requirement for row in BROKEN},
        "implied": {row.requirement for row in IMPLIED},
    }
    counted = Counter(name for names in said.values() for name in names)
    assert promised - counted.keys() == set(), "the table says nothing of these"
    assert counted.keys() - promised == set(), "nobody promises these"
    assert [name for name, count in counted.items() if count > 1] == [], "said in two ways"
    assert {row.by for row in IMPLIED} <= said["a mutant"], "implied by what nothing breaks"
    assert all(row.reason for row in IMPLIED)
    assert all(ELSEWHERE.values())
    assert ELSEWHERE.keys() <= {part for name in load_catalogue() for part in (name, name.split("-")[0])}
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

    def run(*_arguments: object, **_more: object) -> Outcome:
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
themes = "admission cluster custom families life peers policies prober scope trial workloads"
for theme in themes.split():
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
