"""Times to enforce and to recover, as a plot on a logarithmic scale with the budget as a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

from conformance.report.figures import enforce_times, over_budget, percentile, recover_times, spreads

__all__ = ["Budget", "Plot", "Series", "budgets_kept", "distribution", "slowest"]

Line = Mapping[str, Any]
WIDTH, HEIGHT = 720.0, 96.0
BINS = 12  # in each power of ten


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Milliseconds. `bars`: (x, height, title) in units of the drawing; `marks`: (name, value, x).
    `budget`: of the 95th percentile, None where there is none."""

    name: str
    count: int
    p50: float
    p95: float
    worst: float
    bars: tuple[tuple[float, float, str], ...]
    marks: tuple[tuple[str, float, float], ...]
    budget: float | None
    budget_x: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """`ticks`: (milliseconds, x)."""

    width: float
    height: float
    bar: float
    series: tuple[Series, ...]
    ticks: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A budget of the profile in words; milliseconds, `measured` None where nothing was."""

    name: str
    limit: float
    measured: float | None
    kept: bool


def budgets_kept(cases: Sequence[Line], budgets: Mapping[str, float]) -> list[Budget]:
    """Each budget that the profile has, in its order."""
    found, over = spreads(cases), {item["budget"] for item in over_budget(cases, budgets)}
    rows = []
    for name, limit in budgets.items():
        what, _, part = name.rpartition("_")
        rows.append(
            Budget(
                name=f"{what.replace('_', ' ')}, {part}",
                limit=limit,
                measured=found.get(what, {}).get(part),
                kept=name not in over,
            )
        )
    return rows


def slowest(cases: Sequence[Line], count: int = 10) -> list[tuple[Line, float, float | None]]:
    """(case, time to enforce, time to recover), the slowest to enforce first."""
    timed = [case for case in cases if case["time_to_enforce_ms"] is not None]
    timed.sort(key=lambda case: (-case["time_to_enforce_ms"], case["id"]))
    return [
        (case, case["time_to_enforce_ms"], (case["controls"].get("recovery") or {}).get("recovered_ms"))
        for case in timed[:count]
    ]


def distribution(cases: Sequence[Line], budgets: Mapping[str, float]) -> Plot | None:
    """None where nothing was timed."""
    named = {"Time to enforce": enforce_times(cases), "Time to recover": recover_times(cases)}
    named = {name: times for name, times in named.items() if times}
    if not named:
        return None
    limits = {name: budgets.get(f"{name.lower().replace(' ', '_')}_p95") for name in named}
    everything = [max(time, 0.1) for times in named.values() for time in times]
    low = floor(log10(min(everything)))
    high = max(
        ceil(log10(max([*everything, *(limit for limit in limits.values() if limit)]) * 1.05)), low + 1
    )

    def place(time: float) -> float:
        return round((log10(max(time, 0.1)) - low) / (high - low) * WIDTH, 1)

    width = WIDTH / ((high - low) * BINS)
    series = []
    for name, times in named.items():
        counts: dict[int, int] = {}
        for time in times:
            index = int((log10(max(time, 0.1)) - low) * BINS)
            counts[index] = counts.get(index, 0) + 1
        most = max(counts.values())
        bars = []
        for index, count in sorted(counts.items()):
            start, end = 10 ** (low + index / BINS), 10 ** (low + (index + 1) / BINS)
            title = f"{start:,.0f} to {end:,.0f} ms: {count}"
            bars.append((round(index * width, 1), round(max(count / most * HEIGHT, 2), 1), title))
        p50, p95 = percentile(times, 0.5), percentile(times, 0.95)
        marks = tuple((label, value, place(value)) for label, value in (("p50", p50), ("p95", p95)))
        series.append(
            Series(
                name=name,
                count=len(times),
                p50=p50,
                p95=p95,
                worst=times[-1],
                bars=tuple(bars),
                marks=marks,
                budget=limits[name],
                budget_x=place(limits[name] or 0.1),
            )
        )
    return Plot(
        width=WIDTH,
        height=HEIGHT,
        bar=round(width - 1, 2),
        series=tuple(series),
        ticks=tuple((f"{10**power:,g} ms", place(10**power)) for power in range(low, high + 1)),
    )
