"""What findings mean: every one that a case can report has its texts, and they are of the catalogue."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from conformance.catalogue import load_catalogue
from conformance.errors import InputError
from conformance.findings import finding, load_meanings
from conformance.functions import FUNCTIONS
from conformance.report.figures import grouped_findings
from tests import lines


def observed() -> set[str]:
    """The requirements of every `act.observe(...)` and `finding(...)` in the suite."""
    found = set()
    for file in FUNCTIONS.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("act.observe", "finding"):
                name = node.args[0]
                found |= {str(name.value)} if isinstance(name, ast.Constant) else set()
    return found


def test_every_finding_has_its_texts() -> None:
    assert {"RUN-04", "RUN-05", "LIFE-07", "LIFE-08", "PLAIN-02", "EMPTY-09", "VALID-15"} <= observed()
    assert observed() <= set(load_meanings())
    assert set(load_meanings()) <= set(load_catalogue())


def test_a_finding_says_what_was_seen_why_it_matters_and_what_to_do() -> None:
    found = finding("RUN-04", severity="medium", seen="a banner")
    assert found["text"] == f"a banner. {found['why']} {found['advice']}"
    assert all(found[name] for name in ("title", "why", "advice"))


def test_a_mistake_in_the_texts_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "findings.yaml"
    file.write_text("- requirement: RUN-04\n  title: t\n  why: w\n")
    with pytest.raises(InputError, match=r"findings.yaml:1: 'advice' is missing"):
        load_meanings(file)


def test_a_report_tells_each_finding_once_the_gravest_first() -> None:
    cases = [lines.case("g/a"), lines.case("g/b")]
    cases[1]["findings"].append(finding("EMPTY-09", severity="high", seen="open"))
    found = grouped_findings(cases)
    assert [(item["requirement"], item["cases"]) for item in found] == [
        ("EMPTY-09", ["g/b"]),
        ("RUN-04", ["g/a", "g/b"]),
    ]
    assert found[1]["seen"] == ["a banner"]
