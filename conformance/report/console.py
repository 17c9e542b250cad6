"""What the terminal shows: a failed case in full, and the summary of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from conformance.report.figures import (
    count_statuses,
    enforce_times,
    percentile,
    requirement_statuses,
)

__all__ = ["case_text", "summary_text"]

Line = Mapping[str, Any]
VERDICTS = {
    0: "PASSED: every case of the asked level holds",
    1: "FAILED: the mesh does not do what the documents say",
    2: "INTERRUPTED: this is not a result",
    4: "COULD NOT START",
    5: "NOTHING RAN",
    6: "INCONCLUSIVE: something could not be asked; neither a pass nor a fail of the mesh",
    7: "PARTIAL: what ran holds, but cases were skipped",
}


def case_text(case: Line, sentences: Mapping[str, str], rerun: str) -> str:
    """A case that did not pass: what is promised, what was seen, what was applied, how to run it again."""
    failure = f" ({case['failure']})" if case["failure"] else ""
    lines = [case["title"], f"{case['status'].upper()}{failure}: {case['reason']}", ""]
    lines += [f"{name}: {sentences[name]}" for name in case["requirements"] if name in sentences]
    for step in case["steps"]:
        lines += ["", f"step {step['number']}: {step['change']}"]
        for call in step["api"]:
            said = f" {call['reason']}: {call['message']}" if call["message"] else ""
            lines.append(f"  {call['action']} {call['object']}: {call['code']}{said}")
            lines += [f"    warning: {text}" for text in call["warnings"]]
        if step["barrier"]:
            landed = "landed" if step["barrier"]["landed"] else "NOT landed"
            lines.append(f"  {landed} ({step['barrier']['strategy']}): {step['barrier']['detail']}")
        lines += [_probe_text(probe) for probe in _telling(step["probes"])]
    for name, control in case["controls"].items():
        if not control["held"]:
            lines += ["", f"{name} does not hold:"]
            lines += [f"  {_path(probe)}: {probe['described']}" for probe in control["probes"]]
    if case["policies"]:
        lines += ["", "applied:"]
        lines += [f"  {json.dumps(policy, ensure_ascii=False)}" for policy in case["policies"]]
    return "\n".join([*lines, "", f"again: {rerun}"])


def _telling(probes: Sequence[Line]) -> list[Line]:
    """The last round, and of earlier ones what got through and must not."""
    last = max((probe["round"] for probe in probes), default=0)
    exposures = ("allowed but forbidden", "a rejected client's bytes reached the application")
    return [probe for probe in probes if probe["round"] == last or probe["failure"] in exposures]


def _path(probe: Line) -> str:
    by_ip = " by pod IP" if probe["via"] == "pod" else ""
    return f"{probe['from']} -> {probe['to']}:{probe['port']}{by_ip}"


def _probe_text(probe: Line) -> str:
    mark = {"passed": "ok  ", "failed": "FAIL"}.get(probe["status"], "?   ")
    by = f" by {probe['by']}" if probe["by"] else ""
    text = f"  {mark} {_path(probe)}: expected {probe['expected']}{by}; observed {probe['described']}"
    if probe["status"] != "passed":
        text += f"\n         {probe['reason']}"
    if probe["attribution"]:
        text += f"\n         the mesh says: {probe['attribution'][-1]['described']}"
    return text


def _counts(statuses: Sequence[str]) -> str:
    counts = count_statuses(statuses)
    shown = [f"{counts[name]} {name}" for name in ("passed", "failed", "inconclusive", "skipped")]
    shown += [f"{counts[name]} {name}" for name in ("unsupported", "known-deviation") if counts[name]]
    return ", ".join(shown)


def _generated_text(generated: Line) -> list[str]:
    """What came of generated policies, and how to have the same again."""
    wrong, unknown = generated["disagreements"], generated["inconclusive"]
    seconds = generated["tried_ms"] / 1000
    lines = [
        f"generated     {generated['sets']} of {generated['asked']} sets, {generated['probes']} connections "
        f"in {seconds:.1f} s: {len(wrong)} disagree, {len(unknown)} inconclusive",
        f"              again: {generated['again']}",
    ]
    return lines + [f"              set {one['set']}: {one['file']}" for one in wrong if one["file"]]


def summary_text(lines: Sequence[Line]) -> str:
    """The end of a run, from all lines of its record."""
    header, footer = lines[0], lines[-1]
    cases = [line for line in lines if line["line"] == "case"]
    requirements = list(requirement_statuses(cases).values())
    text = [
        f"cluster       {header['cluster']['kind']}: {header['cluster']['description']}",
        f"profile       {header['profile']['name']}, level {header['level']}",
        f"scenarios     {_counts([case['status'] for case in cases])}",
        f"requirements  {_counts(requirements)}",
    ]
    times = enforce_times(cases)
    if times:
        p50, p95 = percentile(times, 0.5), percentile(times, 0.95)
        text.append(f"enforced in   p50 {p50:.0f} ms, p95 {p95:.0f} ms, max {times[-1]:.0f} ms")
    for generated in (case["generated"] for case in cases if case.get("generated")):
        text += _generated_text(generated)
    findings = [finding for case in cases for finding in case["findings"]]
    if findings:
        text.append(f"findings      {len(findings)} (see report)")
    if header["selection"]:
        text.append(f"selection     {header['selection']}: no statement about the whole level")
    text.append(f"report        {footer['report']}")
    told = VERDICTS[footer["exit_code"]]
    if header["selection"] and footer["exit_code"] == 0:
        told = "PASSED: the selected cases hold"
    text.append(told)
    return "\n".join(text)
