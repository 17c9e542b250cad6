"""`make faults`: every fault of the table against the suite; the tally, and with --write docs/faults.md.

    python -m tests.faults [PATTERN] [--write]

PATTERN picks faults by a part of their names. Exit code 1 where a verdict is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.table import FAULTS
from tests.faults.tally import Row, strike_all, table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
MARK = "<!-- tally -->\n"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("pattern", nargs="?", default="", help="a part of a fault's name")
    parser.add_argument("--write", action="store_true", help="renew the table of docs/faults.md")
    given = parser.parse_args(arguments)
    rows: list[Row] = []
    chosen = [fault for fault in FAULTS if given.pattern in fault.name]
    begun = time.monotonic()
    for row in strike_all(chosen):
        rows.append(row)
        print(f"{time.monotonic() - begun:6.1f} s  {' | '.join(row.cells)}", flush=True)
    wrong = [text for row in rows for text in row.wrong]
    print(f"\n{table(rows)}")
    print("\n".join(["wrong:", *wrong]) if wrong else "wrong verdicts: none")
    seconds = time.monotonic() - begun
    print(f"{len(rows)} faults, {4 * len(rows)} cases, {len(wrong)} wrong, {seconds:.0f} s")
    if given.write and chosen == list(FAULTS) and not wrong:
        head, _, _ = PAGE.read_text().partition(MARK)
        PAGE.write_text(f"{head}{MARK}{table(rows)}")
    return 1 if wrong or not rows else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
