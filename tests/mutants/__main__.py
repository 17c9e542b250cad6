"""`make mutants`: every mutant of the table against the suite. Exit code 1 where one survives.

    python -m tests.mutants [PATTERN] [-n WORKERS]

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

from tests.mutants.suite import manifests_with, run_suite
from tests.mutants.table import BROKEN, IMPLIED, NOT_YET, Broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One mutant, with all that it breaks."""

    mutant: str
    rows: tuple[Broken, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    run: Run
    survived: tuple[Broken, ...]
    said: str
    """How the run ended, for survivors."""


def plan(pattern: str) -> list[Run]:
    """The rows of each mutant together: they are judged by one run."""
    rows = [row for row in BROKEN if pattern in row.requirement or pattern in row.mutant]
    return [
        Run(mutant=name, rows=tuple(row for row in rows if row.mutant == name))
        for name in dict.fromkeys(row.mutant for row in rows)
    ]


def judge(run: Run) -> Result:
    """Runs the scenarios of a mutant. A requirement is broken visibly where a failed case names it."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        keywords = sorted({keyword for row in run.rows for keyword in row.without})
        manifests = manifests_with(folder, run.mutant, run.rows[0].part, keywords)
        scenarios = " or ".join(dict.fromkeys(row.scenarios for row in run.rows))
        outcome = run_suite(manifests, folder / "reports", scenarios)
    failed, unjudged = outcome.named("failed"), outcome.named("inconclusive")
    survived = tuple(
        row
        for row in run.rows
        if outcome.code == 0
        or row.requirement not in (failed | unjudged if row.inconclusive else failed)
        or row.requirement not in outcome.output
    )
    tally = ", ".join(f"{case} {found['status']}" for case, found in sorted(outcome.cases.items()))
    return Result(
        run=run, survived=survived, said=f"exit {outcome.code}: {tally or outcome.output[-400:].strip()}"
    )


def describe(result: Result) -> str:
    run = result.run
    if result.survived:
        names = ", ".join(row.requirement for row in result.survived)
        return f"SURVIVED  {run.mutant}: {names} not named by a failure ({result.said})"
    return f"killed    {run.mutant}: {', '.join(row.requirement for row in run.rows)}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("pattern", nargs="?", default="", help="a part of a mutant's or requirement's name")
    parser.add_argument("-n", type=int, default=2, help="how many at a time (default: 2)")
    given = parser.parse_args(arguments)
    results = []
    with ThreadPoolExecutor(max_workers=given.n) as pool:
        for result in pool.map(judge, plan(given.pattern)):
            print(describe(result), flush=True)
            results.append(result)
    survivors = [result for result in results if result.survived]
    print(f"\nkilled        {len(results) - len(survivors)} of {len(results)}")
    print(f"survivors     {', '.join(result.run.mutant for result in survivors) or 'none'}")
    print(f"requirements  {len({row.requirement for result in results for row in result.run.rows})} broken")
    implied = ", ".join(f"{row.requirement} by {row.by}" for row in IMPLIED)
    print(f"implied       {len(IMPLIED)}: {implied}")
    print(f"not yet       {len(NOT_YET)}: {', '.join(NOT_YET)}")
    return 1 if survivors or not results else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
