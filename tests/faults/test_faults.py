"""Faults while scenarios run: right or inconclusive with its cause, and healed afterwards.

The quick ones only; `make faults` strikes every fault of the table and renews the tally in docs/faults.md.
"""

from __future__ import annotations

import pytest

from tests.faults.__main__ import MARK, PAGE
from tests.faults.table import FAULTS, Fault
from tests.faults.tally import HEAD, strike_all

IDS = [f"{fault.name}, {fault.when.value}" for fault in FAULTS]
QUICK = [name for fault, name in zip(FAULTS, IDS, strict=True) if fault.quick]


@pytest.mark.parametrize("name", QUICK)
def test_no_verdict_is_wrong(name: str) -> None:
    (row,) = strike_all([FAULTS[IDS.index(name)]], workers=1)
    assert not row.wrong, "\n".join(row.wrong)


def told() -> list[list[str]]:
    _, _, tally = PAGE.read_text().partition(MARK)
    return [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in tally.splitlines()
        if line[:1] == "|"
    ]


def test_the_page_has_the_tally_of_every_fault() -> None:
    head, _, *found = told()
    assert tuple(head) == HEAD
    assert [(row[0], row[1]) for row in found] == [(fault.name, fault.when.value) for fault in FAULTS], (
        "renew it: make faults"
    )


@pytest.mark.parametrize("fault", FAULTS, ids=IDS)
def test_the_page_tells_nothing_that_may_not_be(fault: Fault) -> None:
    row = next(row for row in told() if row[:2] == [fault.name, fault.when.value])
    assert {cell.partition(":")[0] for cell in row[2:5]} <= set(fault.allowed)
    assert row[5] == "passed"
