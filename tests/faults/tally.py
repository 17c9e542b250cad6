"""The tally: each fault against the three scenarios and a case after it, as rows and as a table."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.faults.scenes import Scene
from tests.faults.stand import Stand, Told, open_stand, play
from tests.faults.table import FAULTS, Fault

PROJECT = Path(__file__).resolve().parents[2]
WORKERS = 3  # a fault is mostly waited for: more clusters than cores
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


def strike_all(chosen: Sequence[Fault], *, workers: int = WORKERS) -> Iterator[Row]:
    """The rows in the order of `chosen`, struck by several processes, each with a cluster of its own."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    rows: dict[int, queue.SimpleQueue[Row]] = {}
    for fault in chosen:
        number = FAULTS.index(fault)
        rows[number] = queue.SimpleQueue()
        waiting.put(number)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for _ in range(min(workers, len(chosen))):
            pool.submit(_oversee, waiting, rows)
        for number in rows:
            yield rows[number].get()


def _oversee(waiting: queue.SimpleQueue[int], rows: dict[int, queue.SimpleQueue[Row]]) -> None:
    """Gives one worker fault after fault; a worker that ends leaves its words in the row."""
    with tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "-m", "tests.faults.tally"]
        worker = subprocess.Popen(
            command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert worker.stdin is not None
        assert worker.stdout is not None
        while not waiting.empty():
            number = waiting.get()
            try:
                worker.stdin.write(f"{number}\n")
                worker.stdin.flush()
                told = json.loads(worker.stdout.readline())
                row = Row(cells=tuple(told["cells"]), wrong=tuple(told["wrong"]))
            except (OSError, ValueError):
                errors.seek(0)
                fault = FAULTS[number]
                said = f"{fault.name}: its worker ended: {errors.read()[-3000:]}"
                row = Row(cells=(fault.name, fault.when.value, *["?"] * 4), wrong=(said,))
            rows[number].put(row)
        worker.stdin.close()
        worker.wait()
        worker.stdout.close()


def main() -> None:
    """A worker: numbers of faults in, rows out."""
    with open_stand() as stand:
        for line in sys.stdin:
            print(json.dumps(asdict(strike(stand, FAULTS[int(line)]))), flush=True)


if __name__ == "__main__":
    main()
