"""What the terminal shows: a failed case in full, and the summary of a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from conformance.report.figures import (
    SEVERITIES,
    count_statuses,
    exposure,
    grouped_findings,
    requirement_statuses,
    spreads,
)
from conformance.scenario import VIA

__all__ = ["case_text", "summary_text"]

Line = Mapping[str, Any]
VERDICTS = {
    0: "PASSED: every case of the asked level holds",
    1: "FAILED: the mesh does not do what the documents say",
    2: "INTERRUPTED: this is not a result",
    4: "COULD NOT START",
    5: "NOTHING RAN",
    6: "INCONCLUSIVE: something could not be asked; neither a pass nor a fail of the mesh",
    7: "PARTIAL: what ran holds, but not everything that was asked",
}
SHOWN = 5  # missing cases that are named


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
        lines += _exposure_text(step.get("exposure"))
    for name, control in case["controls"].items():
        if not control["held"]:
            lines += ["", f"{name} does not hold:"]
            lines += [f"  {_path(probe)}: {probe['described']}" for probe in control["probes"]]
    if case["policies"]:
        lines += ["", "applied:"]
        lines += [f"  {json.dumps(policy, ensure_ascii=False)}" for policy in case["policies"]]
    return "\n".join([*lines, "", f"again: {rerun}"])


def _exposure_text(watch: Line | None) -> list[str]:
    """What the exposure watch saw between this step's agreement and the next change."""
    if not watch:
        return []
    span = watch["until_ms"] - watch["from_ms"]
    text = [f"  then watched for {span:.0f} ms: {watch['probes']} probes of {watch['lanes']} forbidden paths"]
    text += [f"  ?    the watch was lost: {watch['lost']}"] if watch["lost"] else []
    return text + [
        f"  FAIL {_path(breach)}: opened {breach['offset_ms']:.0f} ms into the case; {breach['described']}"
        for breach in watch["breaches"]
    ]


def _telling(probes: Sequence[Line]) -> list[Line]:
    """The last round, and of earlier ones what got through and must not."""
    last = max((probe["round"] for probe in probes), default=0)
    exposures = ("allowed but forbidden", "a rejected client's bytes reached the application")
    return [probe for probe in probes if probe["round"] == last or probe["failure"] in exposures]


def _path(probe: Line) -> str:
    return f"{probe['from']} -> {probe['to']}:{probe['port']}{VIA.get(probe['via'], '')}"


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


def _attribution(cases: Sequence[Line]) -> list[str]:
    """How it was known who decided, where some case could not know it by rule."""
    ways = Counter(case["attribution"] for case in cases if case.get("attribution"))
    if set(ways) <= {"access-log"}:
        return []
    meaning = {
        "access-log": "access-log: the policy and rule of each decision",
        "counters": "counters: that RBAC denied, not by which rule",
        "unavailable": "unavailable: what denied is not known",
    }
    return [f"attribution   {meaning[way]} ({number} cases)" for way, number in sorted(ways.items())]


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


def summary_text(lines: Sequence[Line], *, torn: bool = False) -> str:
    """The end of a run, from all lines of its record; of a run that did not end, what there is and what is
    missing. `torn`: the record's last line was cut off."""
    header = lines[0]
    footer = lines[-1] if lines[-1]["line"] == "footer" else None
    cases = [line for line in lines if line["line"] == "case"]
    requirements = list(requirement_statuses(cases).values())
    text = [
        f"cluster       {header['cluster']['kind']}: {header['cluster']['description']}",
        f"profile       {header['profile']['name']}, level {header['level']}",
        f"scenarios     {_counts([case['status'] for case in cases])}",
        f"requirements  {_counts(requirements)}",
    ]
    for name, title in (("time_to_enforce", "enforced in"), ("time_to_recover", "recovered in")):
        if spread := spreads(cases).get(name):
            told = ", ".join(f"{part} {value:.0f} ms" for part, value in spread.items())
            text.append(f"{title:<14}{told}")
    watched = exposure(cases)
    if watched["probes"]:
        told = f"{watched['probes']} probes of forbidden paths after landing"
        text.append(f"{'exposure':<14}{told}, {watched['breaches']} got through")
    text += _findings(cases) + _deviations(cases)
    text += _attribution(cases)
    for generated in (case["generated"] for case in cases if case.get("generated")):
        text += _generated_text(generated)
    if header["selection"]:
        text.append(f"selection     {header['selection']}: no statement about the whole level")
    return "\n".join([*text, *(_end(header, cases, footer) if footer else _no_end(header, cases, torn))])


def _findings(cases: Sequence[Line]) -> list[str]:
    """Each finding once, with the number of cases that saw it."""
    found = grouped_findings(cases)
    counts = {name: sum(item["severity"] == name for item in found) for name in SEVERITIES}
    if not found:
        return []
    text = [f"findings      {', '.join(f'{count} {name}' for name, count in counts.items() if count)}"]
    for item in found:
        number = len(item["cases"])
        times = f"{number} case" + ("s" if number > 1 else "")
        text.append(f"  {item['severity']:<7} {item['requirement']:<9} {item['title']} ({times})")
    return text


def _deviations(cases: Sequence[Line]) -> list[str]:
    known = [case for case in cases if case["status"] == "known-deviation"]
    return [f"deviations    {len(known)} known" for _ in known[:1]] + [
        f"  {case['id']}: {entry['reason']} ({entry['link']}; {entry['approver']}, until {entry['expires']})"
        for case in known
        for entry in [case["known_deviation"]]
    ]


def _end(header: Line, cases: Sequence[Line], footer: Line) -> list[str]:
    code = footer["exit_code"]
    text = [f"report        {footer['report']}"]
    over = footer.get("over_budget", [])
    text += [
        f"OVER BUDGET: {item['budget']} is {item['measured_ms']:.0f} ms, "
        f"the profile's budget is {item['limit_ms']:.0f} ms"
        for item in over
    ]
    text += [
        f"KNOWN DEVIATION TO BE TAKEN OFF THE LIST ({item['file']}:{item['line']}): {item['why']}"
        for item in footer.get("stale_deviations", [])
    ]
    told = VERDICTS[code]
    if code == 0 and header["selection"]:
        told = "PASSED: the selected cases hold"
    if code == 7:
        statuses = count_statuses(case["status"] for case in cases)
        causes = {
            "cases were skipped": statuses["skipped"],
            "known deviations do not hold": statuses["known-deviation"],
            "a time is over its budget": len(over),
        }
        told = f"PARTIAL: what ran holds, but {', '.join(cause for cause, count in causes.items() if count)}"
    return [*text, told]


def _no_end(header: Line, cases: Sequence[Line], torn: bool) -> list[str]:
    planned = header["planned"]
    missing = planned[len(cases) :]
    shown = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
    what = ["the footer", *([f"{len(missing)} of {len(planned)} cases ({shown})"] if missing else [])]
    cut = "; its last line is cut off" if torn else ""
    return [f"INCOMPLETE: the run did not end, this is not a result; missing: {', '.join(what)}{cut}"]
