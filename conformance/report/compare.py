"""Two runs side by side: what fails now, what passes now, what closes otherwise, what became slower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.report.case_view import milliseconds
from conformance.report.figures import enforce_times, percentile
from conformance.report.page import environment, instant, page_html
from conformance.report.result import result_of
from conformance.report.summary import markdown_text
from conformance.report.truth_table import WORDS
from conformance.scenario import VIA

__all__ = ["Change", "Comparison", "compare", "compare_html", "compare_markdown", "compare_text"]

Line = Mapping[str, Any]
# Slower is said of a case only where both hold: times of one run differ by more than that anyway.
SLOWER_FACTOR, SLOWER_BY_MS = 2.0, 100.0
TITLES = (
    ("regressions", "No longer passing"),
    ("newly_passing", "Newly passing"),
    ("other", "Another result than before"),
    ("closing", "Closed otherwise than before"),
    ("slower", "Slower to enforce"),
    ("added", "Only in the new run"),
    ("removed", "Only in the old run"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    case: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`notes`: why the two may not be comparable. `times`: p50 and p95 of both, in words."""

    old: str
    new: str
    notes: tuple[str, ...]
    times: str
    regressions: tuple[Change, ...]
    newly_passing: tuple[Change, ...]
    other: tuple[Change, ...]
    closing: tuple[Change, ...]
    slower: tuple[Change, ...]
    added: tuple[Change, ...]
    removed: tuple[Change, ...]

    def sections(self) -> list[tuple[str, tuple[Change, ...]]]:
        return [(title, getattr(self, name)) for name, title in TITLES]


def _cases(lines: Sequence[Line]) -> dict[str, Line]:
    return {line["id"]: line for line in lines[1:-1]}


def _endings(case: Line) -> dict[tuple[Any, ...], set[str]]:
    """How each path of each step ended; how an answered one ends is the client's own doing."""
    found: dict[tuple[Any, ...], set[str]] = {}
    for step in case["steps"]:
        for probe in step["probes"]:
            path = (step["number"], probe["from"], probe["to"], probe["port"], probe["via"])
            found.setdefault(path, set()).add(WORDS.get(probe["observed"]["kind"], probe["observed"]["kind"]))
    return found


def _closing(old: Line, new: Line) -> list[Change]:
    before, after = _endings(old), _endings(new)
    changes = []
    for path, ends in after.items():
        if path in before and before[path] != ends:
            by_ip = VIA.get(path[4], "")
            where = f"step {path[0]}, {path[1]} -> {path[2]}:{path[3]}{by_ip}"
            said = f"{' or '.join(sorted(before[path]))} before, {' or '.join(sorted(ends))} now"
            changes.append(Change(case=new["id"], what=f"{where}: {said}"))
    return changes


def _status(case: Line) -> str:
    failure = f" ({case['failure']})" if case["failure"] else ""
    return f"{case['status']}{failure}"


def _run(lines: Sequence[Line]) -> str:
    header = lines[0]
    return (
        f"{header['run']} ({instant(header['started'])}, {header['implementation']['name']} "
        f"{header['implementation']['version']}, {header['cluster']['kind']}): {result_of(lines).word}"
    )


def _times(old: Sequence[Line], new: Sequence[Line]) -> str:
    told = []
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        pair = [enforce_times(lines[1:-1]) for lines in (old, new)]
        if all(pair):
            before, after = (milliseconds(percentile(times, share)) for times in pair)
            told.append(f"{name} {before} before, {after} now")
    return "; ".join(told) or "not timed in both"


def compare(old: Sequence[Line], new: Sequence[Line]) -> Comparison:
    """A regression is a case that passed and does not any more, whatever it is now; missing counts, unless
    only a selection ran."""
    before, after = _cases(old), _cases(new)
    both = [name for name in after if name in before]
    notes = [
        f"{what} differs: {first} before, {second} now"
        for what, first, second in (
            ("the profile", old[0]["profile"]["name"], new[0]["profile"]["name"]),
            ("the kind of cluster", old[0]["cluster"]["kind"], new[0]["cluster"]["kind"]),
            ("the level", old[0]["level"], new[0]["level"]),
            ("the suite", old[0]["suite"]["version"], new[0]["suite"]["version"]),
        )
        if first != second
    ]
    notes += [
        f"only a selection ran {when}" for when, run in (("before", old), ("now", new)) if run[0]["selection"]
    ]
    regressions, passing, other, closing, slower = [], [], [], [], []
    for name in both:
        was, now = before[name], after[name]
        changed = Change(case=name, what=f"{_status(was)} before, {_status(now)} now: {now['reason']}")
        if was["status"] == "passed" != now["status"]:
            regressions.append(changed)
        elif now["status"] == "passed" != was["status"]:
            passing.append(Change(case=name, what=f"{_status(was)} before"))
        elif (was["status"], was["failure"]) != (now["status"], now["failure"]):
            other.append(changed)
        closing += _closing(was, now)
        first, second = was["time_to_enforce_ms"], now["time_to_enforce_ms"]
        if (
            first is not None
            and second is not None
            and second > max(first * SLOWER_FACTOR, first + SLOWER_BY_MS)
        ):
            what = f"{milliseconds(first)} before, {milliseconds(second)} now"
            slower.append(Change(case=name, what=what))
    gone = [name for name in before if name not in after]
    if not new[0]["selection"]:
        regressions += [
            Change(case=name, what="passed before, not planned now")
            for name in gone
            if before[name]["status"] == "passed"
        ]
    return Comparison(
        old=_run(old),
        new=_run(new),
        notes=tuple(notes),
        times=_times(old, new),
        regressions=tuple(regressions),
        newly_passing=tuple(passing),
        other=tuple(other),
        closing=tuple(closing),
        slower=tuple(slower),
        added=tuple(Change(case=name, what=_status(after[name])) for name in after if name not in before),
        removed=tuple(Change(case=name, what=_status(before[name])) for name in gone),
    )


def compare_text(found: Comparison) -> str:
    """For a terminal."""
    text = [f"old  {found.old}", f"new  {found.new}", *(f"note: {note}" for note in found.notes)]
    for title, changes in found.sections():
        if changes:
            text += ["", f"{title}: {len(changes)}", *(f"  {item.case}: {item.what}" for item in changes)]
    text += ["", f"time to enforce: {found.times}"]
    if not found.regressions:
        text.append("no case that passed before fails to pass now")
    return "\n".join(text)


def compare_markdown(found: Comparison) -> str:
    """For a comment on a pull request."""
    sign = "❌" if found.regressions else "✅"
    word = f"{len(found.regressions)} no longer passing" if found.regressions else "no regression"
    text = [
        f"### {sign} Conformance: {word}",
        "",
        f"- old: {markdown_text(found.old)}",
        f"- new: {markdown_text(found.new)}",
    ]
    text += [f"- note: {markdown_text(note)}" for note in found.notes]
    text.append(f"- time to enforce: {markdown_text(found.times)}")
    for title, changes in found.sections():
        if changes:
            text += ["", f"**{title}** ({len(changes)})", "", "| case | |", "|---|---|"]
            text += [f"| {markdown_text(item.case)} | {markdown_text(item.what)} |" for item in changes]
    return "\n".join(text) + "\n"


def compare_html(found: Comparison) -> str:
    """A page like index.html: self-contained, no network."""
    environment()  # the filters that the template needs
    return page_html("compare.html.j2", {"found": found}, foot="Comparison of two conformance runs")
