"""An interruption that strikes between two lines."""

import types

import pytest

from conformance.tracebacks import _afresh


def without_a_line() -> None:
    raise KeyboardInterrupt("SIGINT")


def test_an_interruption_comes_out_without_the_frames_it_struck() -> None:
    lineless = types.FunctionType(without_a_line.__code__.replace(co_linetable=no_lines()), {})
    around = _afresh()
    next(around)
    with pytest.raises(KeyboardInterrupt) as struck:
        lineless()
    # None, which pytest cannot format; the first releases of Python 3.11 say -1.
    assert {None, -1} & {frame.tb_lineno for frame in frames(struck.value.__traceback__)}
    with pytest.raises(KeyboardInterrupt) as told:
        around.throw(struck.value)
    assert str(told.value) == "SIGINT"
    assert told.value.__suppress_context__
    assert all((frame.tb_lineno or 0) > 0 for frame in frames(told.value.__traceback__))


def no_lines() -> bytes:
    """The location table of code that belongs to no line: entries of kind 15, each for up to 8 units."""
    units = len(without_a_line.__code__.co_code) // 2
    sizes = [8] * (units // 8) + [units % 8] * bool(units % 8)
    return bytes(0x80 | 15 << 3 | size - 1 for size in sizes)


def frames(traceback: types.TracebackType | None) -> list[types.TracebackType]:
    found = []
    while traceback is not None:
        found.append(traceback)
        traceback = traceback.tb_next
    return found
