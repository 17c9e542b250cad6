"""Findings: what a reader must know although no verdict hangs on it. Their texts are in findings.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from conformance.reading import Problem, Problems, read_documents

__all__ = ["FINDINGS", "Meaning", "finding", "load_meanings"]

FINDINGS = Path(__file__).parent / "findings.yaml"
TEXTS = ("title", "why", "advice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """Of every finding about one requirement."""

    requirement: str
    title: str
    why: str
    advice: str


@cache
def load_meanings(file: Path = FINDINGS) -> Mapping[str, Meaning]:
    """By requirement. Raises InputError with every problem as file:line."""
    problems = Problems()
    found: dict[str, Meaning] = {}
    for document in read_documents(file, problems):
        if not isinstance(document.value, list):
            document.problem("a list of findings was expected")
        for node in document.items():
            if not node.only_keys({"requirement", *TEXTS}):
                continue
            meaning = Meaning(
                requirement=node.text("requirement"), **{name: node.text(name).strip() for name in TEXTS}
            )
            if meaning.requirement in found:
                problems.found.append(
                    Problem(file=node.file, line=node.line, message=f"{meaning.requirement} stands twice")
                )
            found[meaning.requirement] = meaning
    problems.raise_any()
    return found


def finding(requirement: str, *, severity: str, seen: str) -> dict[str, Any]:
    """A finding as it stands in the record. `severity`: low, medium or high; `text` is everything in one."""
    meaning = load_meanings()[requirement]
    return {
        "requirement": requirement,
        "severity": severity,
        "title": meaning.title,
        "seen": seen,
        "why": meaning.why,
        "advice": meaning.advice,
        "text": f"{seen}. {meaning.why} {meaning.advice}",
    }
