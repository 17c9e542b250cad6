"""Rounds of probes until they agree N times in a row, inside one deadline.

Retrying never hides exposure: a round that holds a breach ends the wait at once, and what it saw stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Convergence", "converge"]

R = TypeVar("R")
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Convergence(Generic[R]):
    """All rounds in order. `first_stable` is the index of the first round of the agreeing series, `None`
    where the deadline (or a breach) came first; `started` holds each round's start (time.monotonic)."""

    rounds: tuple[R, ...]
    started: tuple[float, ...]
    finished: tuple[float, ...]
    first_stable: int | None
    breached: bool

    @property
    def last(self) -> R:
        return self.rounds[-1]


def converge(
    sweep: Callable[[], R],
    *,
    agrees: Callable[[R], bool],
    breaches: Callable[[R], bool],
    rounds: int,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Convergence[R]:
    """Sweeps until `rounds` in a row agree, one breaches, or `timeout` seconds have passed.

    There is at least one round. A round that disagrees resets the count; the pause after it grows, because
    nothing announces that a mesh has changed its mind."""
    deadline = clock() + timeout
    seen: list[R] = []
    started: list[float] = []
    finished: list[float] = []
    agreed = 0
    wait = FIRST_PAUSE
    breached = False
    while True:
        started.append(clock())
        seen.append(sweep())
        finished.append(clock())
        if breaches(seen[-1]):
            breached = True
            break
        agreed = agreed + 1 if agrees(seen[-1]) else 0
        if agreed >= rounds or clock() >= deadline:
            break
        if agreed == 0:
            pause(min(wait, max(deadline - clock(), 0.0)))
            wait = min(wait * 2, LONGEST_PAUSE)
    return Convergence(
        rounds=tuple(seen),
        started=tuple(started),
        finished=tuple(finished),
        first_stable=len(seen) - rounds if agreed >= rounds else None,
        breached=breached,
    )
