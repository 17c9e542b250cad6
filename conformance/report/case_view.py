"""A case as the page shows it: its steps with truth tables and paths, its controls, its policies as YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from conformance.report.oracle_view import Said, oracle_said
from conformance.report.timeline import Drawing, timeline
from conformance.report.truth_table import PathRow, Table, looks, path_rows, truth_table
from conformance.scenario import VIA

__all__ = [
    "DASH",
    "CaseView",
    "StepView",
    "Watch",
    "anchor_of",
    "as_yaml",
    "case_views",
    "documents",
    "many",
    "milliseconds",
]

Line = Mapping[str, Any]
DASH = "\N{EN DASH}"  # stands where there is no value
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """The exposure watch of a step: what was done, what got through, and why a part of it is not known."""

    told: str
    breaches: tuple[str, ...]
    lost: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    line: Line
    table: Table
    rows: tuple[PathRow, ...]
    bypass: str
    times: str
    exposure: Watch | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """`told`: whether it held, in words. `probes`: a line for each two ends, with every port and nonce."""

    name: str
    held: bool
    told: str
    count: int
    probes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseView:
    """`strip`: the signs of the heat map, each (look, whether it is a cell of a table, words). `detailed`:
    whether the page holds its probes, or only says where they are."""

    line: Line
    anchor: str
    group: str
    strip: tuple[tuple[str, bool, str], ...]
    detailed: bool
    steps: tuple[StepView, ...]
    policies: str
    has_oracle: bool
    controls: tuple[Control, ...]
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


def many(count: int, noun: str, plural: str = "") -> str:
    """1 probe, 2 probes, 1,274 probes."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def documents(found: Sequence[Line]) -> str:
    """As YAML, one document after another."""
    return "\n---\n".join(map(as_yaml, found))


def _path(line: Line) -> str:
    return f"{line['from']} → {line['to']}:{line['port']}{VIA.get(line['via'], '')}"


def _exposure(watch: Line | None) -> Watch | None:
    """None where nothing is forbidden, or the rounds did not agree."""
    if not watch:
        return None
    breaches = watch["breaches"]
    told = (
        f"{many(watch['probes'], 'probe')} of {many(watch['lanes'], 'forbidden path')} in the "
        f"{milliseconds(watch['until_ms'] - watch['from_ms'])} until the next change: "
        + (f"{many(len(breaches), 'path')} got through" if breaches else "none got through")
    )
    return Watch(
        told=told,
        breaches=tuple(
            f"{_path(breach)}: {many(breach['count'], 'connection')} got through, the first opened "
            f"{milliseconds(breach['offset_ms'])} into the case; {breach['described']}"
            for breach in breaches
        ),
        lost=watch["lost"],
    )


def _bypass(probes: Sequence[Line]) -> str:
    """What did not answer. The case's control of the same name has them all, one by one."""
    silent = [
        f"{probe['workload']}:{probe['port']}: {probe['why'] or probe['kind']}"
        for probe in probes
        if probe["kind"] != "answered"
    ]
    return f"not every port answered: {'; '.join(silent)}" if silent else ""


# The server greets with the line it was sent, which names the port; the path says that already.
_GREETING = re.compile(r"^answered 'hello port \d+ (n[0-9a-f]+)'$")


def _step(step: Line, first: int, oracle: Mapping[tuple[Any, ...], Said]) -> StepView:
    rows = path_rows(step["probes"], first, oracle)
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
    return StepView(
        line=step,
        table=truth_table(rows),
        rows=tuple(rows),
        bypass=_bypass(step.get("bypass") or ()),
        times=", ".join(words),
        exposure=_exposure(step.get("exposure")),
    )


def _control(name: str, control: Line) -> Control:
    count, rounds = len(control["probes"]), control["rounds"]
    what = "port" if name == "bypass" else "path"
    kinds = {probe["kind"] if "kind" in probe else probe["observed"]["kind"] for probe in control["probes"]}
    answered = kinds == {"answered"}
    said = f"every {what} answered" if control["held"] or answered else f"not every {what} answered"
    # The answer came, and the log of who must have given it does not have it.
    said += ", but the servers' logs do not say the same" if answered and not control["held"] else ""
    said += " from inside its own pod" if name == "bypass" else ""
    unit = "step" if name == "bypass" else "round"
    text = f"{said} ({many(count, what)}, {many(rounds, unit)})"
    if control.get("recovered_ms") is not None:
        text += f", {milliseconds(control['recovered_ms'])} after the deletion"
    barrier = control.get("barrier")
    if barrier:
        landed = "landed" if barrier["landed"] else "NOT proven to have landed"
        text += f"; deletion {landed}: {barrier['detail']}"
    ends: dict[str, list[str]] = {}
    for probe in control["probes"]:
        pair = f"{probe['from']} → {probe['to']}{VIA.get(probe['via'], '')}"
        said = _GREETING.sub(r"\1", probe["described"])
        ends.setdefault(pair, []).append(f":{probe['port']} {said}")
    probes = tuple(f"{pair} {', '.join(said)}" for pair, said in ends.items())
    return Control(name=name, held=bool(control["held"]), told=text, count=count, probes=probes)


def _strip(steps: Sequence[StepView], case: Line) -> tuple[tuple[str, bool, str], ...]:
    found = []
    for step in steps:
        for row in looks(step.table):
            # A failure that somebody answers for is no alarm in the run's overview; the case's table has it.
            excused = row.look == "failed" and case["status"] == "known-deviation"
            look = "known-deviation" if excused else row.look
            found.append((look, True, f"{row.path}: expected {row.expected}, {row.observed}"))
        if not step.rows and step.line["api"]:
            status = step.line["status"]
            look = "api" if status == "passed" else status
            found.append((look, False, f"{step.line['change']}: {step.line['reason']}"))
    return tuple(found) or ((case["status"], False, case["reason"]),)


def case_views(cases: Sequence[Line], *, detailed: int) -> list[CaseView]:
    """In the order of the record. Beyond `detailed` cases, those that passed come without their probes."""
    views = []
    everything = len(cases) <= detailed
    taken: set[str] = set()
    for number, case in enumerate(cases):
        anchor = f"case-{anchor_of(case['id'])}"
        anchor = f"{anchor}-{number}" if anchor in taken else anchor
        taken.add(anchor)
        oracle = oracle_said(case)
        steps: list[StepView] = []
        for step in case["steps"]:
            first = sum(len(earlier.rows) for earlier in steps)
            steps.append(_step(step, first, oracle.get(step["number"], {})))
        full = everything or case["status"] != "passed"
        views.append(
            CaseView(
                line=case,
                anchor=anchor,
                group=case["id"].partition("/")[0],
                strip=_strip(steps, case),
                detailed=full,
                steps=tuple(steps) if full else (),
                policies=documents(case["policies"]) if full else "",
                has_oracle=any(row.oracle.told or row.oracle.doubt for step in steps for row in step.rows),
                controls=tuple(_control(name, found) for name, found in case["controls"].items())
                if full
                else (),
                drawing=timeline(case) if full else None,
            )
        )
    return views
