"""Numbers that every report shows, counted from the record's lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

__all__ = [
    "SEVERITIES",
    "STATUSES",
    "count_statuses",
    "enforce_times",
    "exposure",
    "grouped_findings",
    "over_budget",
    "percentile",
    "recover_times",
    "requirement_statuses",
    "spreads",
]

STATUSES = ("passed", "failed", "inconclusive", "skipped", "unsupported", "known-deviation")
# The status of a requirement is the first of these that any of its cases has.
GRAVITY = ("failed", "inconclusive", "known-deviation", "skipped", "unsupported", "passed")
SEVERITIES = ("high", "medium", "low")
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


def recover_times(cases: Sequence[Line]) -> list[float]:
    """Times to recover of all cases that have one, in milliseconds, sorted."""
    recoveries = (case["controls"].get("recovery") or {} for case in cases)
    return sorted(
        recovery["recovered_ms"] for recovery in recoveries if recovery.get("recovered_ms") is not None
    )


def spreads(cases: Sequence[Line]) -> dict[str, dict[str, float]]:
    """p50, p95 and max in milliseconds of `time_to_enforce` and `time_to_recover`; without those of which
    nothing was measured."""
    measured = {"time_to_enforce": enforce_times(cases), "time_to_recover": recover_times(cases)}
    return {
        name: {"p50": percentile(times, 0.5), "p95": percentile(times, 0.95), "max": times[-1]}
        for name, times in measured.items()
        if times
    }


def over_budget(cases: Sequence[Line], budgets: Mapping[str, float]) -> list[dict[str, Any]]:
    """The budgets (`time_to_enforce_p95`: milliseconds) that were not kept: budget, limit_ms, measured_ms."""
    found = spreads(cases)
    measured = {
        name: found[what][part]
        for name in budgets
        for what, _, part in [name.rpartition("_")]
        if what in found
    }
    return [
        {"budget": name, "limit_ms": budgets[name], "measured_ms": value}
        for name, value in measured.items()
        if value > budgets[name]
    ]


def exposure(cases: Sequence[Line]) -> dict[str, int]:
    """Of all exposure watches: `probes` made, and `breaches`: forbidden connections that got through."""
    watches = [step["exposure"] for case in cases for step in case["steps"] if step.get("exposure")]
    return {
        "probes": sum(watch["probes"] for watch in watches),
        "breaches": sum(len(watch["breaches"]) for watch in watches),
    }


def grouped_findings(cases: Sequence[Line]) -> list[dict[str, Any]]:
    """Each finding once, the gravest first: requirement, severity, title, why, advice, `cases` (ids) and
    `seen` (what was seen, each distinct text once). Records of before have only `text`."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for case in cases:
        for item in case["findings"]:
            entry = found.setdefault(
                (item["requirement"], item["severity"]),
                {
                    "requirement": item["requirement"],
                    "severity": item["severity"],
                    "title": item.get("title") or item["text"],
                    "why": item.get("why", ""),
                    "advice": item.get("advice", ""),
                    "cases": [],
                    "seen": [],
                },
            )
            if case["id"] not in entry["cases"]:
                entry["cases"].append(case["id"])
            if (seen := item.get("seen") or item["text"]) not in entry["seen"]:
                entry["seen"].append(seen)
    return sorted(
        found.values(), key=lambda entry: (SEVERITIES.index(entry["severity"]), entry["requirement"])
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of a sorted, non-empty sequence; `share` in 0..1."""
    return ordered[max(ceil(share * len(ordered)) - 1, 0)]
