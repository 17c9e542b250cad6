"""Probes: what each kind of answer means, and when a verdict turns."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress

import pytest

from conformance.cluster.embedded.kubelet.probes import ProbeKind, ProbeResult, ProbeTarget, ask, watch_health
from tests.cluster.embedded.fakes import Object


async def run_nothing(argv: Sequence[str]) -> tuple[int, str]:
    raise AssertionError(argv)


def target(**ports: int) -> ProbeTarget:
    return ProbeTarget(ip="127.0.0.1", ports=ports, run=run_nothing)


async def end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def asked(probe: Object, answer: bytes | None) -> ProbeResult:
    """Probe a server that reads a request's head and gives this answer; None never answers."""

    async def scenario() -> ProbeResult:
        served = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"GET /ready HTTP/1.1\r\nHost: ")
                if answer is None:
                    await reader.read()
                else:
                    writer.write(answer)
                await end(writer)
            finally:
                served.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            result = await ask(probe, target(http=port), timeout=0.5 if answer is None else 60)
            await served.wait()
            return result

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("answer", "healthy"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 302 Found\r\n\r\n", True),
        (b"HTTP/1.1 503 No\r\n\r\n", False),
    ],
)
def test_http_is_healthy_from_200_to_399(answer: bytes, *, healthy: bool) -> None:
    result = asked({"httpGet": {"path": "/ready", "port": "http"}}, answer)
    assert result.healthy is healthy
    assert result.message == ("" if healthy else "HTTP probe failed with statuscode: 503")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, 'Get "http://127.0.0.1:http/ready": context deadline exceeded'),
        (b"SSH-2.0\r\n", 'Get "http://127.0.0.1:http/ready": malformed HTTP response'),
        (b"", 'Get "http://127.0.0.1:http/ready": malformed HTTP response'),
    ],
)
def test_no_answer_is_a_failure_that_says_so(answer: bytes | None, message: str) -> None:
    result = asked({"httpGet": {"path": "/ready", "port": "http"}}, answer)
    assert result == ProbeResult(healthy=False, message=message)


def test_a_refused_connection_is_a_failure_that_says_so() -> None:
    with socket.socket() as taken:  # bound, so that nobody else is given it, and not listening
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        result = asyncio.run(ask({"tcpSocket": {"port": port}}, target(), timeout=60))
    message = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    assert result == ProbeResult(healthy=False, message=message)


def test_an_accepted_connection_is_healthy() -> None:
    async def scenario() -> ProbeResult:
        served = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await end(writer)
            served.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            result = await ask({"tcpSocket": {"port": port}}, target(), timeout=60)
            await served.wait()
            return result

    assert asyncio.run(scenario()).healthy


def test_a_slow_command_is_a_failure() -> None:
    async def never(argv: Sequence[str]) -> tuple[int, str]:
        await asyncio.Event().wait()
        return 0, ""

    slow = ProbeTarget(ip="127.0.0.1", ports={}, run=never)
    result = asyncio.run(ask({"exec": {"command": ["x"]}}, slow, timeout=0.05))
    assert result == ProbeResult(healthy=False, message="command timed out after 0.05s")


def verdicts(kind: ProbeKind, probe: Object, answers: Sequence[bool], *, expected: int) -> list[bool]:
    """What is told while a command gives these answers, the last for ever, until so many verdicts fell."""

    async def scenario() -> list[bool]:
        told: list[bool] = []
        left = list(answers)
        enough = asyncio.Event()

        async def run(argv: Sequence[str]) -> tuple[int, str]:
            answer = left.pop(0) if len(left) > 1 else left[0]
            return (0 if answer else 1), ""

        def changed(healthy: bool) -> None:
            told.append(healthy)
            if len(told) == expected:
                enough.set()

        watching = asyncio.create_task(
            watch_health(
                kind,
                {"exec": {"command": ["x"]}, **probe},
                ProbeTarget(ip="", ports={}, run=run),
                changed=changed,
                failed=lambda message: None,
            )
        )
        async with asyncio.timeout(60):
            await enough.wait()
        watching.cancel()
        return told

    return asyncio.run(scenario())


def test_a_container_that_comes_up_is_asked_more_often_than_its_period_says() -> None:
    assert verdicts(ProbeKind.READINESS, {"periodSeconds": 600}, [False, False, True], expected=1) == [True]


def test_readiness_turns_at_its_thresholds() -> None:
    probe = {"periodSeconds": 0.03, "failureThreshold": 2, "successThreshold": 2}
    answers = [True, True, False, True, False, False, True, True]
    assert verdicts(ProbeKind.READINESS, probe, answers, expected=3) == [True, False, True]


def test_liveness_gives_up_at_its_threshold() -> None:
    probe = {"periodSeconds": 0.02, "failureThreshold": 3}
    answers = [True, False, False, True, False, False, False]
    assert verdicts(ProbeKind.LIVENESS, probe, answers, expected=1) == [False]


def test_a_startup_probe_fails_after_its_periods_not_after_its_eager_tries() -> None:
    async def scenario() -> int:
        tries = 0

        async def run(argv: Sequence[str]) -> tuple[int, str]:
            nonlocal tries
            tries += 1
            return 1, ""

        probe = {"exec": {"command": ["x"]}, "periodSeconds": 1, "failureThreshold": 2}
        await watch_health(
            ProbeKind.STARTUP,
            probe,
            ProbeTarget(ip="", ports={}, run=run),
            changed=lambda healthy: None,
            failed=lambda message: None,
        )
        return tries

    assert asyncio.run(scenario()) > 4
