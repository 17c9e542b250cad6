"""Ctrl-C and a supervisor's stop: the first one ends the run in order, the next ones do not disturb that.

Cleaning up takes a few seconds. A second Ctrl-C in the middle of it would leave namespaces on a cluster that
is not ours, and a traceback on the terminal; so it is only answered. After `GRACE` seconds one is let through
again, for the case that cleaning up hangs.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType

__all__ = ["GRACE", "Interrupted", "Interrupts", "install", "let_finish"]

GRACE = 10.0  # seconds
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ANSWER = b"\nstopping, a moment ...\n"


class Interrupted(KeyboardInterrupt):
    """What the handler raises: by its own name pytest shows the signal instead of a place in the code."""

    __module__ = "builtins"  # shown as `Interrupted: ...`


class Interrupts:
    """A signal handler that raises Interrupted once, and again only after the grace."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._finishing = False

    def finish(self) -> None:
        """From now on the process is ending anyway: not even the first signal disturbs it."""
        self._finishing = True

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        fresh = self._first is None
        self._first = now if self._first is None else self._first
        if (fresh and not self._finishing) or now - self._first >= GRACE:
            raise Interrupted(signal.Signals(number).name)
        with suppress(OSError):  # the terminal may be gone
            os.write(2, ANSWER)


_installed: Interrupts | None = None


def install() -> None:
    """Once per process, in its main thread; elsewhere nothing. What is ignored (nohup, `&`) stays ignored."""
    global _installed
    if _installed is not None or threading.current_thread() is not threading.main_thread():
        return
    _installed = Interrupts()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _installed)


def let_finish() -> None:
    """See `Interrupts.finish`; nothing where no handler is installed."""
    if _installed is not None:
        _installed.finish()
