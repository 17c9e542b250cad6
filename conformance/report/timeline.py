"""A case's time as a small drawing: applied, landed, first stable, deleted, recovered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

__all__ = ["Drawing", "timeline"]

Line = Mapping[str, Any]
WIDTH = 640  # of the drawing, in its own units, about a pixel each
GAP = 40  # stands for the time between the last look and the deletion, which is not drawn to scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """`bars`: what came at its end to SVG path; `marks`: (what, x); all x in 0..WIDTH. The times stand
    beside it."""

    width: int
    bars: Mapping[str, str]
    marks: tuple[tuple[str, int], ...]
    steps: tuple[tuple[int, int], ...]


def _bar(bars: dict[str, str], kind: str, start: int, end: int) -> None:
    bars[kind] = f"{bars.get(kind, '')}M{start} 20H{max(end, start + 1)}"


def timeline(case: Line) -> Drawing | None:
    """None where a case has no times (it did not run, or made no change)."""
    events: list[tuple[int, list[tuple[str, float]]]] = []
    for step in case["steps"]:
        times = step.get("timings") or {}
        found = [
            (name, float(times[f"{name}_ms"]))
            for name in ("applied", "landed", "first_stable")
            if times.get(f"{name}_ms") is not None
        ]
        if found:
            events.append((step["number"], found))
    if not events:
        return None
    recovered = (case["controls"].get("recovery") or {}).get("recovered_ms")
    end = max(at for _, found in events for _, at in found)
    tail = float(recovered or 0)
    room = WIDTH - 16 - (GAP if recovered is not None else 0)
    scale = room / ((end + tail) or 1)
    bars: dict[str, str] = {}
    marks: list[tuple[str, int]] = []
    steps: list[tuple[int, int]] = []
    for number, found in events:
        places = [(name, round(8 + at * scale), at) for name, at in found]
        if not steps or places[0][1] - steps[-1][1] >= 12:
            steps.append((number, places[0][1]))
        for before, after in pairwise(places):
            _bar(bars, after[0], before[1], after[1])
        marks += [(name, x) for name, x, _ in places]
    if recovered is not None:
        deleted = round(8 + end * scale + GAP)
        back = round(deleted + tail * scale)
        _bar(bars, "recovered", deleted, back)
        marks += [("deleted", deleted), ("recovered", back)]
    return Drawing(
        width=WIDTH,
        bars=bars,
        marks=tuple(marks),
        steps=tuple(steps),
    )
