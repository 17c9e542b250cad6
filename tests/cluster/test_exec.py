"""What a command in a container says when it fails."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from websocket import WebSocketConnectionClosedException

from conformance.cluster.exec import STATUS, STDERR, ExecStream
from conformance.errors import ProbeError

NOT_FOUND = b'{"kind": "Status", "status": "Failure", "message": "exec: \\"x\\": not found", "code": 500}'


class Ended:
    """A client whose command has ended."""

    def __init__(self, status: bytes, errors: bytes = b"") -> None:
        self.said = {STATUS: status, STDERR: errors}

    def is_open(self) -> bool:
        return False

    def read_channel(self, channel: int) -> bytes:
        return self.said.pop(channel, b"")


@pytest.mark.parametrize(
    ("status", "errors", "said"),
    [
        (NOT_FOUND, b"", 'x in foo/a: exec: "x": not found'),
        (b"no JSON", b"first: ", "x in foo/a: first: no JSON"),
        (b'["odd"]', b"", 'x in foo/a: ["odd"]'),
        (b"", b"", "x in foo/a: the stream ended without a status"),
    ],
)
def test_a_status_object_is_told_by_its_message(status: bytes, errors: bytes, said: str) -> None:
    with pytest.raises(ProbeError) as raised:
        ExecStream(Ended(status, errors), "x in foo/a").receive_all(time.monotonic() + 60)
    assert str(raised.value) == said


def test_a_command_that_ended_while_lines_were_awaited_is_told_so_too() -> None:
    with pytest.raises(ProbeError, match=r'x in foo/a: the command ended: exec: "x": not found$'):
        ExecStream(Ended(NOT_FOUND), "x in foo/a").receive(time.monotonic() + 60)


class Broken:
    """A client whose connection is reset: whatever is asked of it fails."""

    def is_open(self) -> bool:
        return True

    def update(self, timeout: float) -> None:
        raise ConnectionResetError("reset by peer")

    def read_channel(self, channel: int) -> bytes:
        raise WebSocketConnectionClosedException("lost")


@pytest.mark.parametrize("wait", [ExecStream.receive, ExecStream.poll, ExecStream.receive_all])
def test_a_stream_that_breaks_is_told_once_though_it_fails_again(
    wait: Callable[[ExecStream, float], object],
) -> None:
    with pytest.raises(ProbeError, match=r"x in foo/a: the exec stream broke: reset by peer$"):
        wait(ExecStream(Broken(), "x in foo/a"), time.monotonic() + 60)
