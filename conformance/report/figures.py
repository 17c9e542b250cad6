"""Numbers that every report shows, counted from the record's lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

__all__ = ["STATUSES", "count_statuses", "enforce_times", "percentile", "requirement_statuses"]

STATUSES = ("passed", "failed", "inconclusive", "skipped", "unsupported", "known-deviation")
# The status of a requirement is the first of these that any of its cases has.
GRAVITY = ("failed", "inconclusive", "known-deviation", "skipped", "unsupported", "passed")
Line = Mapping[str, Any]


def count_statuses(statuses: Iterable[str]) -> dict[str, int]:
    """Every status with its count, zeros included."""
    counts = dict.fromkeys(STATUSES, 0)
    for status in statuses:
        counts[status] += 1
    return counts


def requirement_statuses(cases: Sequence[Line]) -> dict[str, str]:
    """The status of each requirement that a case cites, by id, sorted."""
    found: dict[str, str] = {}
    for case in cases:
        for requirement in case["requirements"]:
            known = found.get(requirement, "passed")
            found[requirement] = min(known, case["status"], key=GRAVITY.index)
    return dict(sorted(found.items()))


def enforce_times(cases: Sequence[Line]) -> list[float]:
    """Times to enforce of all steps that have one, in milliseconds, sorted."""
    return sorted(
        step["time_to_enforce_ms"]
        for case in cases
        for step in case["steps"]
        if step["time_to_enforce_ms"] is not None
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of a sorted, non-empty sequence; `share` in 0..1."""
    return ordered[max(ceil(share * len(ordered)) - 1, 0)]
