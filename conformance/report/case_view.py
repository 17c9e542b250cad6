"""A case as the page shows it: its steps with truth tables and paths, its controls, its policies as YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from conformance.report.timeline import Drawing, timeline
from conformance.report.truth_table import PathRow, Table, looks, path_rows, truth_table
from conformance.scenario import VIA

__all__ = ["DASH", "CaseView", "StepView", "anchor_of", "as_yaml", "case_views", "milliseconds"]

Line = Mapping[str, Any]
DASH = "\N{EN DASH}"  # stands where there is no value
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    line: Line
    table: Table
    rows: tuple[PathRow, ...]
    bypass: tuple[str, ...]
    times: str
    exposure: str
    has_oracle: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseView:
    """`strip`: the signs of the heat map, each (look, anchor of its row or nothing, words). `detailed`:
    whether the page holds its probes, or only says where they are."""

    line: Line
    anchor: str
    group: str
    strip: tuple[tuple[str, str, str], ...]
    detailed: bool
    steps: tuple[StepView, ...]
    policies: str
    oracle: str
    controls: tuple[tuple[str, bool, str, tuple[str, ...]], ...]
    drawing: Drawing | None


def milliseconds(value: float | None) -> str:
    """For people: 0.25 ms, 18 ms, 1,274 ms; a dash where there is none."""
    if value is None:
        return DASH
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.2g} ms"


def anchor_of(text: str) -> str:
    """A fragment that is readable in an address; the same for the same id in every run."""
    return re.sub(r"[^\w.]+", "-", text).strip("-")


def as_yaml(value: Any) -> str:
    text: str = yaml.dump(value, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=100)
    return text.rstrip("\n")


def _exposure(found: Mapping[str, Any] | None) -> str:
    """What got through although forbidden, where the record counts it."""
    if not found or not (found.get("probes") or found.get("breaches")):
        return ""
    count = found.get("breaches") if found.get("breaches") is not None else found.get("probes")
    text = f"{count} of {found.get('probes', '?')} probes got through although forbidden"
    if found.get("first_ms") is not None and found.get("last_ms") is not None:
        text += f", from {milliseconds(found['first_ms'])} to {milliseconds(found['last_ms'])}"
    return text if count else f"none of {found.get('probes', '?')} probes got through although forbidden"


def _step(step: Line, prefix: str) -> StepView:
    rows = path_rows(step["probes"], prefix)
    times = step.get("timings") or {}
    words = [
        f"{name} at {milliseconds(times[key])}"
        for name, key in (
            ("applied", "applied_ms"), ("landed", "landed_ms"), ("first stable", "first_stable_ms")
        )
        if times.get(key) is not None
    ]  # fmt: skip
    if step.get("time_to_enforce_ms") is not None:
        words.append(f"enforced in {milliseconds(step['time_to_enforce_ms'])}")
    asked: dict[tuple[str, int, str], int] = {}
    for probe in step.get("bypass") or ():
        key = (probe["workload"], probe["port"], probe["kind"])
        asked[key] = asked.get(key, 0) + 1
    return StepView(
        line=step,
        table=truth_table(rows),
        rows=tuple(rows),
        bypass=tuple(
            f"{workload}:{port} {kind.replace('_', ' ')}" + (f" ({count} times)" if count > 1 else "")
            for (workload, port, kind), count in asked.items()
        ),
        times=", ".join(words),
        exposure=_exposure(step.get("exposure")),
        has_oracle=any(row.oracle for row in rows),
    )


def _control(name: str, control: Line) -> tuple[str, bool, str, tuple[str, ...]]:
    count, rounds = len(control["probes"]), control["rounds"]
    said = "every path answered" if control["held"] else "not every path answered"
    text = f"{said} ({count} paths, {rounds} round{'' if rounds == 1 else 's'})"
    if control.get("recovered_ms") is not None:
        text += f", {milliseconds(control['recovered_ms'])} after the deletion"
    barrier = control.get("barrier")
    if barrier:
        landed = "landed" if barrier["landed"] else "NOT proven to have landed"
        text += f"; deletion {landed}: {barrier['detail']}"
    probes = tuple(
        f"{probe['from']} → {probe['to']}:{probe['port']}{VIA.get(probe['via'], '')}: {probe['described']}"
        for probe in control["probes"]
    )
    return name, bool(control["held"]), text, probes


def _strip(steps: Sequence[StepView], case: Line) -> tuple[tuple[str, str, str], ...]:
    found = []
    for step in steps:
        for row in looks(step.table):
            by_ip = VIA.get(row.via, "")
            words = f"{row.source} → {row.target}:{row.port}{by_ip}: expected {row.expected}, {row.observed}"
            found.append((row.look, row.anchor, words))
        if not step.rows and step.line["api"]:
            status = step.line["status"]
            look = "api" if status == "passed" else status
            found.append((look, "", f"{step.line['change']}: {step.line['reason']}"))
    return tuple(found) or ((case["status"], "", case["reason"]),)


def case_views(cases: Sequence[Line], *, detailed: int) -> list[CaseView]:
    """In the order of the record. Beyond `detailed` cases, those that passed come without their probes."""
    views = []
    everything = len(cases) <= detailed
    taken: set[str] = set()
    for number, case in enumerate(cases):
        anchor = f"case-{anchor_of(case['id'])}"
        anchor = f"{anchor}-{number}" if anchor in taken else anchor
        taken.add(anchor)
        steps = tuple(_step(step, f"p{number}-{step['number']}") for step in case["steps"])
        full = everything or case["status"] != "passed"
        views.append(
            CaseView(
                line=case,
                anchor=anchor,
                group=case["id"].partition("/")[0],
                strip=_strip(steps, case),
                detailed=full,
                steps=steps if full else (),
                policies="\n---\n".join(map(as_yaml, case["policies"])) if full else "",
                oracle=as_yaml(case["oracle"]) if full and case.get("oracle") else "",
                controls=tuple(_control(name, found) for name, found in case["controls"].items())
                if full
                else (),
                drawing=timeline(case) if full else None,
            )
        )
    return views
