"""What a run says of its mesh, in the few words that every report shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from conformance.record import exit_code
from conformance.report.figures import count_statuses

__all__ = [
    "LEVELS",
    "LevelResult",
    "Result",
    "SCOPE",
    "level_results",
    "reproduce",
    "rerun",
    "result_of",
    "same_sets",
]

Line = Mapping[str, Any]
LEVELS = ("core", "extended")
SCOPE = (
    "This proves how the mesh treats connections between this suite's own workloads. It says nothing about "
    "the policies of your services. Behaviour that no document promises is reported as a finding, not judged."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """`word`: conformant, partial, not conformant, inconclusive, interrupted, nothing ran, selection holds.
    `tone` is the status whose colour and sign it wears. `claims`: whether it speaks for a whole level, so
    that a badge and a conformance report may be made of it."""

    code: int
    word: str
    tone: str
    headline: str
    claims: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelResult:
    """`result`: success, partial, failure, or none where the level has no case in this run."""

    level: str
    result: str
    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def _code(lines: Sequence[Line]) -> int:
    """The footer's exit code, but never a better one than the cases have."""
    header, cases, footer = lines[0], lines[1:-1], lines[-1]
    over, stale = bool(footer["over_budget"]), bool(footer["stale_deviations"])
    found = exit_code([dict(case) for case in cases], header["planned"], over=over, stale=stale)
    said = int(footer["exit_code"])
    if footer["interrupted"] or said == 2:
        return 2
    return found if said == 0 or found == 1 else said


def _many(count: int, noun: str = "case") -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _partial(counts: Mapping[str, int], footer: Line) -> str:
    """Why a run without a breach is no success."""
    over = len(footer["over_budget"])
    causes = [
        f"{_many(counts['skipped'])} {_were(counts['skipped'])} skipped" if counts["skipped"] else "",
        f"{_many(counts['known-deviation'], 'known deviation')} {_were(counts['known-deviation'])} excused"
        if counts["known-deviation"]
        else "",
        f"{_many(over, 'time')} {_were(over)} over budget" if over else "",
    ]
    told = ", ".join(cause for cause in causes if cause)
    if not counts["passed"]:
        return f"No case passed: {told}" if told else "No case passed"
    return f"What ran holds, but {told}" if told else "What ran holds, but not everything that was asked ran"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _failed_beside(footer: Line) -> str:
    """Why a run failed of which no case did."""
    stale = len(footer["stale_deviations"])
    if stale:
        return f"{_many(stale, 'known deviation')} must be taken off the list"
    return "A test that is no case failed (the typed walkthrough)"


def result_of(lines: Sequence[Line]) -> Result:
    """The verdict of a whole record. A run in which nothing passed is never a good one."""
    cases = lines[1:-1]
    counts = count_statuses(case["status"] for case in cases)
    total, code, selection = len(cases), _code(lines), lines[0]["selection"]
    if code == 0 and not counts["passed"]:
        code = 5
    told = {
        1: ("not conformant", "failed", f"{counts['failed']:,} of {_many(total)} failed"),
        2: ("interrupted", "inconclusive", "The run was interrupted. This is not a result"),
        5: ("nothing ran", "inconclusive", "No case passed or failed, so nothing is proved"),
        6: ("inconclusive", "inconclusive", f"{_many(counts['inconclusive'])} could not be asked"),
        7: ("partial", "skipped", _partial(counts, lines[-1])),
    }
    if code == 1 and not counts["failed"]:
        word, tone, headline = "not conformant", "failed", _failed_beside(lines[-1])
    elif code in told:
        word, tone, headline = told[code]
    elif code:
        word, tone, headline = (
            "no result",
            "inconclusive",
            f"The run ended with code {code}. This is not a result",
        )
    elif selection:
        word, tone, headline = "selection holds", "passed", f"All {_many(total)} that were selected hold"
    else:
        asked = total - counts["unsupported"]
        headline = (
            f"All {_many(asked)} hold" if counts["passed"] == asked else f"{counts['passed']:,} cases hold"
        )
        word, tone = "conformant", "passed"
    if counts["unsupported"] and code == 0:
        headline += f"; {counts['unsupported']:,} more need features that the mesh does not have"
    claims = code in (0, 1, 6, 7) and not selection
    return Result(code=code, word=word, tone=tone, headline=headline, claims=claims)


def level_results(cases: Sequence[Line]) -> list[LevelResult]:
    """Core and extended, each by its own cases."""
    found = []
    for level in LEVELS:
        counts = count_statuses(case["status"] for case in cases if case["level"] == level)
        total = sum(counts.values())
        if not total:
            result = "none"
        elif counts["failed"]:
            result = "failure"
        elif counts["inconclusive"] or counts["skipped"] or counts["known-deviation"] or not counts["passed"]:
            result = "partial"
        else:
            result = "success"
        found.append(LevelResult(level=level, result=result, counts=counts))
    return found


def reproduce(header: Line) -> str:
    """The command that asks the same again."""
    words = [*_run(header), f"--level {header['level']}"]
    selection = str(header["selection"])
    if selection.startswith("-k ") and ", -" not in selection:
        words.append(f'-k "{selection[3:]}"')
    elif selection:
        words.append(f"# selected: {selection}")
    return " ".join(words)


def rerun(header: Line, case: Line) -> str:
    """The command that runs one case again."""
    return " ".join([*_run(header), *same_sets(case), f"-k '{case['id']}'"])


def same_sets(case: Line) -> list[str]:
    """The options by which a case of generated policies draws the same ones; empty for any other case."""
    generated = case.get("generated")
    return [f"--fuzz {generated['asked']}", f"--fuzz-seed {generated['seed']}"] if generated else []


def _run(header: Line) -> list[str]:
    """With everything that was given and changes what a case says; which cluster it was, the record keeps
    to itself."""
    options = header["options"]
    words = ["python -m conformance run", f"--cluster {header['cluster']['kind']}"]
    words += (
        [f"--profile {quote(options['profile'])}"] if options.get("profile", "bundled") != "bundled" else []
    )
    words += [f"--{name} {quote(options[name])}" for name in ("known", "manifests") if options.get(name)]
    words += ["--allow-mesh-wide"] if options.get("allow_mesh_wide") else []
    words += ["--telemetry"] if options.get("telemetry") else []
    lent = ",".join(f"{name}={real}" for name, real in (options.get("namespaces") or {}).items())
    return [*words, *([f"--namespaces {quote(lent)}"] if lent else [])]
