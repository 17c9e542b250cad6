"""`make mutants`: every mutant of the table against the suite. Exit code 1 where one survives.

    python -m tests.mutants [PATTERN ...] [-n WORKERS]

PATTERN picks mutants and requirements by a part of their names.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.suite import Outcome, manifests_with, run_suite, suite_with
from tests.mutants.table import BROKEN, ELSEWHERE, IMPLIED, Broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One mutant, with all that it breaks."""

    mutant: str
    rows: tuple[Broken, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    run: Run
    killed: tuple[Broken, ...]
    """By a failed case that names the requirement."""
    survived: tuple[Broken, ...]
    failures: str
    """What the failed cases call what they saw."""
    undecided: bool
    """Nothing failed and not everything passed: nothing is known of this mutant, and that is no kill."""
    said: str
    """How the run ended, for survivors."""


def plan(patterns: Sequence[str] = ()) -> list[Run]:
    """The rows of each mutant together: they are judged by one run."""
    rows = [
        row
        for row in BROKEN
        if not patterns or any(part in row.requirement or part in row.mutant for part in patterns)
    ]
    return [
        Run(mutant=name, rows=tuple(row for row in rows if row.mutant == name))
        for name in dict.fromkeys(row.mutant for row in rows)
    ]


def judge(run: Run) -> Result:
    """Runs the scenarios of a mutant, again where that tells nothing: the machine may have been too busy."""
    result = attempt(run)
    return attempt(run) if result.survived and result.undecided else result


def attempt(run: Run) -> Result:
    """A requirement is broken visibly where a failed case names it."""
    part = run.rows[0].part
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        keywords = sorted({keyword for row in run.rows for keyword in row.without})
        manifests = manifests_with(folder, run.mutant, part, keywords)
        scenarios = " or ".join(dict.fromkeys(row.scenarios for row in run.rows))
        command = suite_with(run.mutant, part)
        outcome = run_suite(manifests, folder / "reports", scenarios, command=command)
    tally = ", ".join(f"{case} {found['status']}" for case, found in sorted(outcome.cases.items()))
    return Result(
        run=run,
        killed=tuple(row for row in run.rows if not row.unjudged and red(row, outcome, "failed")),
        survived=tuple(
            row
            for row in run.rows
            if not red(row, outcome, *(("failed", "inconclusive") if row.unjudged else ("failed",)))
        ),
        failures="; ".join(sorted({str(case["failure"]) for case in outcome.with_status("failed").values()})),
        undecided=outcome.code != 0 and not outcome.with_status("failed"),
        said=f"exit {outcome.code}: {tally or outcome.output[-400:].strip()}",
    )


def red(row: Broken, outcome: Outcome, *statuses: str) -> bool:
    """Whether the run is not green, a case that cites the requirement ended so, and the output names it."""
    named = set().union(*map(outcome.named, statuses))
    return outcome.code != 0 and row.requirement in named and row.requirement in outcome.output


def describe(result: Result) -> str:
    run = result.run
    if result.survived:
        names = ", ".join(row.requirement for row in result.survived)
        word = "undecided" if result.undecided else "SURVIVED "
        return f"{word} {run.mutant}: {names} not named by a failure ({result.said})"
    if not result.killed:
        why = "; ".join(row.unjudged for row in run.rows)
        return f"no pass   {run.mutant}: {', '.join(row.requirement for row in run.rows)} ({why})"
    return (
        f"killed    {run.mutant}: {', '.join(row.requirement for row in result.killed)} ({result.failures})"
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("pattern", nargs="*", help="a part of a mutant's or requirement's name")
    parser.add_argument("-n", type=int, default=2, help="how many at a time (default: 2)")
    given = parser.parse_args(arguments)
    results = []
    with ThreadPoolExecutor(max_workers=given.n) as pool:
        for result in pool.map(judge, plan(given.pattern)):
            print(describe(result), flush=True)
            results.append(result)
    survivors = [result for result in results if result.survived]
    undecided = [result for result in survivors if result.undecided]
    unjudged = [result for result in results if not result.survived and not result.killed]
    judged = len(results) - len(unjudged)

    def names(chosen: Sequence[Result]) -> str:
        return ", ".join(result.run.mutant for result in chosen) or "none"

    print(f"\nkilled        {judged - len(survivors)} of {judged}")
    print(f"survivors     {names([result for result in survivors if not result.undecided])}")
    print(f"undecided     {names(undecided)}")
    print(f"no pass       {len(unjudged)}: {names(unjudged)}")
    print(f"requirements  {len({row.requirement for result in results for row in result.killed})} broken")
    implied = ", ".join(f"{row.requirement} by {row.by}" for row in IMPLIED)
    print(f"implied       {len(IMPLIED)}: {implied}")
    print(f"elsewhere     {len(ELSEWHERE)}: {', '.join(ELSEWHERE)}")
    return 1 if survivors or not results else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
