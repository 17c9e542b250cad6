"""A pytest plugin: an interruption leaves the run without the traceback of the place where it struck.

A signal may strike an instruction that belongs to no line. pytest formats every frame, even to show none, and
fails on such a one with a traceback of its own.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from conformance.interrupts import Interrupted

__all__ = ["FreshTraceback"]


class FreshTraceback:
    """Raises what was raised again from here, around everything that takes time."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        return (yield from _afresh())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        return (yield from _afresh())


def _afresh() -> Generator[None, object, object]:
    try:
        return (yield)
    except KeyboardInterrupt as interruption:
        raise Interrupted(*interruption.args) from None
