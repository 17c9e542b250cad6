"""`make soak N=20`: the whole run again and again, each on a cluster of its own; the tally of outcomes."""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

PROJECT = Path(__file__).parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.soak", description=__doc__)
    parser.add_argument("runs", type=int, help="how many")
    parser.add_argument("options", nargs="*", help="of the run, after --")
    given = parser.parse_args()
    tally: Counter[str] = Counter()
    codes: Counter[int] = Counter()
    for number in range(1, given.runs + 1):
        begun = time.monotonic()
        reports = PROJECT / "reports" / "soak" / f"{number:03}"
        command = [sys.executable, "-m", "conformance", "run", "--report-dir", str(reports), *given.options]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        statuses = statuses_of(reports)
        codes[done.returncode] += 1
        tally.update(statuses)
        seconds = time.monotonic() - begun
        print(f"{number:4}  exit {done.returncode}  {seconds:5.1f} s  {told(statuses)}", flush=True)
        if done.returncode:
            print(done.stdout + done.stderr, flush=True)
    print(f"runs: {told(codes, 'exit ')}; cases: {told(tally)}")
    return 0 if set(codes) == {0} else 1


def statuses_of(reports: Path) -> Counter[str]:
    """The statuses of the run's cases; none where it wrote no record."""
    record = reports / "latest" / "record.jsonl"
    if not record.exists():
        return Counter()
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    return Counter(line["status"] for line in lines if line["line"] == "case")


def told(counts: Counter[str] | Counter[int], prefix: str = "") -> str:
    """`12 passed, 1 failed`, the most frequent first."""
    return ", ".join(f"{count} {prefix}{name}" for name, count in counts.most_common()) or "none"


if __name__ == "__main__":
    sys.exit(main())
