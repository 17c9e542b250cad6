"""reports/history.jsonl: one line a run, so that a page can show how results and times went."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.report.figures import count_statuses, enforce_times, percentile
from conformance.report.result import result_of

__all__ = ["Trend", "append_history", "history_line", "like_this", "read_history", "trend"]

Line = Mapping[str, Any]
LONGEST = 30  # runs shown
WIDTH, HEIGHT = 720.0, 70.0
PARTS = (("ok", ("passed",)), ("no-go", ("failed",)), ("unsure", ("inconclusive",)),
         ("other", ("skipped", "unsupported", "known-deviation")))  # fmt: skip


def history_line(lines: Sequence[Line], fingerprint: str) -> dict[str, Any]:
    """What later runs need to know of this one."""
    header, cases, footer = lines[0], lines[1:-1], lines[-1]
    times = enforce_times(cases)
    return {
        "run": header["run"],
        "started": header["started"],
        "duration_ms": footer["duration_ms"],
        "profile": header["profile"]["name"],
        "level": header["level"],
        "cluster": header["cluster"]["kind"],
        "implementation": header["implementation"]["version"],
        "suite": header["suite"]["version"],
        "selection": header["selection"],
        "result": result_of(lines).word,
        "counts": count_statuses(case["status"] for case in cases),
        "p50_ms": round(percentile(times, 0.5), 3) if times else None,
        "p95_ms": round(percentile(times, 0.95), 3) if times else None,
        "sha256": fingerprint,
    }


def read_history(file: Path) -> list[Line]:
    """The runs in the order of their lines. A line that is no run (cut short, edited) is passed over: the
    trend is a convenience, the records are the truth."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found: list[Line] = []
    for line in text.splitlines():
        try:
            run = json.loads(line)
        except ValueError:
            continue
        if isinstance(run, dict) and _is_run(run):
            found.append(run)
    return found


def _is_run(run: Line) -> bool:
    number = (int, float)
    counts = run.get("counts")
    return (
        isinstance(run.get("run"), str)
        and isinstance(run.get("result"), str)
        and isinstance(run.get("started"), number)
        and isinstance(counts, dict)
        and all(isinstance(counts.get(name), int) for _, names in PARTS for name in names)
        and all(run.get(name) is None or isinstance(run[name], number) for name in ("p50_ms", "p95_ms"))
    )


def append_history(file: Path, line: Line) -> None:
    """Adds a run that is not there yet; several processes may do so at once."""
    with file.open("a+", encoding="utf-8") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        opened.seek(0)
        text = opened.read()
        if any(run["run"] == line["run"] for run in read_history(file)):
            return
        broken = "\n" if text and not text.endswith("\n") else ""
        opened.write(f"{broken}{json.dumps(line, ensure_ascii=False)}\n")


def like_this(history: Sequence[Line], this: Line) -> list[Line]:
    """Earlier whole runs of the same profile, level and kind of cluster, then this one."""
    same = ("profile", "level", "cluster")
    earlier = [
        run
        for run in history
        if run["started"] < this["started"]
        and not run.get("selection")
        and all(run.get(name) == this[name] for name in same)
    ]
    earlier.sort(key=lambda run: float(run["started"]))
    return [*earlier[-LONGEST + 1 :], this]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """`columns`: (x, width, parts (class, y, height), words); `points`: (x, y) of the p95, `line` the same
    as SVG; `highest`: milliseconds at the top of the plot of times."""

    runs: tuple[Line, ...]
    width: float
    height: float
    columns: tuple[tuple[float, float, tuple[tuple[str, float, float], ...], str], ...]
    points: tuple[tuple[float, float], ...]
    line: str
    highest: float


def trend(runs: Sequence[Line]) -> Trend | None:
    """None where there is nothing to compare this run to."""
    if len(runs) < 2:
        return None
    step = min(WIDTH / len(runs), 48)
    most = max(sum(run["counts"].values()) for run in runs) or 1
    highest = max((run["p95_ms"] or 0 for run in runs), default=0) or 1
    columns, points = [], []
    for place, run in enumerate(runs):
        x, y = place * step, HEIGHT
        parts = []
        for name, statuses in PARTS:
            tall = sum(run["counts"][status] for status in statuses) / most * HEIGHT
            if tall:
                tall = max(tall, 3)  # a single failure must be seen among hundreds
                y -= tall
                parts.append((name, round(y, 1), round(tall, 1)))
        counts = ", ".join(f"{count} {name}" for name, count in run["counts"].items() if count)
        words = f"{run['run']}: {run['result']}, {counts}"
        columns.append((round(x, 1), round(step - 4, 1), tuple(parts), words))
        if run["p95_ms"] is not None:
            points.append((round(x + step / 2 - 2, 1), round(HEIGHT - run["p95_ms"] / highest * HEIGHT, 1)))
    return Trend(
        runs=tuple(runs),
        width=WIDTH,
        height=HEIGHT,
        columns=tuple(columns),
        points=tuple(points),
        line=" ".join(f"{x},{y}" for x, y in points),
        highest=highest,
    )
