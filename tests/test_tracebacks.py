"""An interruption that strikes between two lines."""

import types

import pytest

from conformance.tracebacks import _afresh


def without_a_line() -> None:
    raise KeyboardInterrupt("SIGINT")


def test_an_interruption_comes_out_without_the_frames_it_struck() -> None:
    # What the interpreter does where an instruction has no line: a frame that pytest cannot format.
    lineless = types.FunctionType(without_a_line.__code__.replace(co_linetable=b""), {})
    around = _afresh()
    next(around)
    with pytest.raises(KeyboardInterrupt) as struck:
        lineless()
    assert any(frame.tb_lineno is None for frame in frames(struck.value.__traceback__))
    with pytest.raises(KeyboardInterrupt) as told:
        around.throw(struck.value)
    assert str(told.value) == "SIGINT"
    assert told.value.__suppress_context__
    assert all(frame.tb_lineno is not None for frame in frames(told.value.__traceback__))


def frames(traceback: types.TracebackType | None) -> list[types.TracebackType]:
    found = []
    while traceback is not None:
        found.append(traceback)
        traceback = traceback.tb_next
    return found
