"""What a case gathers while it runs, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from conformance.pods import Processes
from conformance.step_result import Made
from conformance.sweep import Lane, Probed
from conformance.topology import Ref
from conformance.verdict import Verdict

__all__ = ["CaseResult", "Notes", "Settled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """`line` is the case's line of the record."""

    verdict: Verdict
    line: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Notes:
    """What a running case has gathered for its line."""

    begun: float
    targets: list[Lane] = field(default_factory=list)  # of the whole case
    verdicts: list[Verdict] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    controls: dict[str, Any] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    baseline: set[Lane] = field(default_factory=set)
    forbidden: list[Probed] = field(default_factory=list)
    processes: dict[Ref, Processes] = field(default_factory=dict)  # at the baseline
    unproven: Made = field(default_factory=Made)  # changes that no barrier has proven yet
    extra: dict[str, Any] = field(default_factory=dict)  # fields of the line that few cases have


class Settled(Exception):
    """A verdict is noted that makes the rest of the case pointless."""
