"""The tally: each fault against the three scenarios and a case after it, as rows and as a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.faults.scenes import Scene
from tests.faults.stand import Stand, Told, play
from tests.faults.table import Fault

HEAD = ("fault", "when", *(scene.value for scene in Scene), "the next case")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`wrong`: what must not be, in words; empty = all is as it may be."""

    cells: tuple[str, ...]
    wrong: tuple[str, ...]


def strike(stand: Stand, fault: Fault) -> Row:
    """The fault against every scenario, then a case without any: what it left must heal by itself."""
    cells, wrong = [fault.name, fault.when.value], []
    for scene in Scene:
        told = play(stand, scene, when=fault.when, inject=fault.inject, **fault.deadlines)
        cells.append(_cell(told, fault))
        if told.status not in fault.allowed or (told.status == "inconclusive" and not _cause(told, fault)):
            wrong.append(f"{fault.name}, {scene.value}: {told.status}: {told.reason}")
    after = play(stand, Scene.CHANGE)
    cells.append(after.status)
    if after.status != "passed":
        wrong.append(f"{fault.name}, the next case: {after.status}: {after.reason}")
    return Row(cells=tuple(cells), wrong=tuple(wrong))


def _cause(told: Told, fault: Fault) -> str:
    return next((words for words in fault.words if words in told.reason), "")


def _cell(told: Told, fault: Fault) -> str:
    if told.status != "inconclusive":
        return told.status
    return f"inconclusive: {_cause(told, fault).strip(' :') or told.reason}"


def table(rows: Iterable[Row]) -> str:
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    return "\n".join([*lines, *("| " + " | ".join(row.cells) + " |" for row in rows)]) + "\n"
