"""The backends' own logs, followed while a case runs: who received which bytes.

One thread per backend pod reads its log through the API; everything else asks the book.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.evidence import Testimony

__all__ = ["LogBook", "LogLine", "Received", "Tail", "json_lines"]

NONCE = re.compile(r"\bn[0-9a-f]{16}\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One connection as a backend logged it."""

    workload: str
    port: int
    text: str
    bytes: int


LogLine = Mapping[str, Any]


class Tail:
    """Reads lines in a thread until the log ends or `close` is called. `end` makes the source end."""

    def __init__(
        self, lines: Iterator[bytes], *, read: Callable[[bytes], None], end: Callable[[], None], name: str
    ) -> None:
        self._end = end
        self.ended = threading.Event()
        self._thread = threading.Thread(
            target=self._follow, args=(lines, read), name=f"log {name}", daemon=True
        )
        self._thread.start()

    def _follow(self, lines: Iterator[bytes], read: Callable[[bytes], None]) -> None:
        try:
            for line in lines:
                read(line)
        finally:
            self.ended.set()

    def close(self) -> None:
        self._end()
        self._thread.join(timeout=2.0)


def json_lines(read: Callable[[LogLine], None]) -> Callable[[bytes], None]:
    """A reader of the JSON objects among a log's lines."""

    def one(line: bytes) -> None:
        try:
            value = json.loads(line)
        except ValueError:
            return  # a log may say other things, too
        if isinstance(value, dict):
            read(value)

    return one


class LogBook:
    """What all backends have logged. Lines are kept until `forget`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._by_nonce: dict[str, list[str]] = {}
        self._strays: list[Received] = []

    def reader(self, workload: str) -> Callable[[LogLine], None]:
        """What a Tail of that workload's log calls for each line."""

        def read(line: LogLine) -> None:
            if line.get("log") != "connection":
                return
            text = str(line.get("text", ""))
            nonces = NONCE.findall(text)
            with self._changed:
                for nonce in nonces:
                    self._by_nonce.setdefault(nonce, []).append(workload)
                if not nonces and line.get("bytes"):
                    received = Received(
                        workload=workload, port=int(line["port"]), text=text, bytes=int(line["bytes"])
                    )
                    self._strays.append(received)
                self._changed.notify_all()

        return read

    def wait_for(self, nonces: Mapping[str, str], *, deadline: float) -> set[str]:
        """Waits until each nonce stands in the log of its workload (nonce -> workload), or until `deadline`
        of time.monotonic. The workloads whose nonce is still missing; empty = all are there."""
        with self._changed:
            while True:
                missing = {
                    workload
                    for nonce, workload in nonces.items()
                    if workload not in self._by_nonce.get(nonce, ())
                }
                left = deadline - time.monotonic()
                if not missing or left <= 0:
                    return missing
                self._changed.wait(left)

    def testimony(self, *, nonce: str, line: str, port: int, incomplete: str) -> Testimony:
        """What the logs say of one probe. `incomplete` is why absence proves nothing; empty = it does.

        A logged text without a nonce that is the beginning of the probe's line, on its port, counts as the
        probe's: its bytes arrived, if not all of them."""
        with self._changed:
            seen = list(self._by_nonce.get(nonce, ()))
            seen += [
                stray.workload
                for stray in self._strays
                if stray.port == port and stray.text.strip() and line.startswith(stray.text.strip())
            ]
        return Testimony(seen_in=tuple(dict.fromkeys(seen)), complete=not incomplete, why=incomplete)

    def heard(self, nonce: str) -> tuple[str, ...]:
        """The workloads whose log has the whole nonce by now."""
        with self._changed:
            return tuple(dict.fromkeys(self._by_nonce.get(nonce, ())))

    def forget(self) -> None:
        """Between cases: what earlier ones sent is not looked for again."""
        with self._changed:
            self._by_nonce.clear()
            self._strays.clear()
