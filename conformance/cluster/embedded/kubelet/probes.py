"""Startup, readiness and liveness probes."""

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

Object = dict[str, Any]

# A container that is not ready yet is asked more often than its period says: ready is known when it is so.
FIRST_EAGER_SECONDS = 0.02
LAST_EAGER_SECONDS = 0.1
# An exec probe costs a process: it may take this share of the time at most while the container comes up.
EXEC_PAUSE_FACTOR = 4
QUIET_SECONDS = 1.0  # a container that comes up is expected to fail its first probes
EARLY = 0.99  # of a period: timers fire a little before or after it
MAX_OUTPUT = 10 * 1024
MAX_HEADER = 64 * 1024


class ProbeKind(Enum):
    """What a probe decides."""

    STARTUP = "Startup"
    READINESS = "Readiness"
    LIVENESS = "Liveness"

    @property
    def field(self) -> str:
        """The container's field that holds this probe."""
        return f"{self.value.lower()}Probe"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """One answer. `message` says why it failed, as the kubelet of Kubernetes words it."""

    healthy: bool
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeTarget:
    """Where a probe is aimed: the pod's address, the container's named ports, a way to run a command in it.

    `run` returns (exit code, output) and raises OSError where the command cannot be started.
    """

    ip: str
    ports: dict[str, int]
    run: Callable[[Sequence[str]], Awaitable[tuple[int, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeTiming:
    """A probe's numbers with Kubernetes' defaults. Seconds."""

    initial_delay: float
    period: float
    timeout: float
    successes: int
    failures: int

    @classmethod
    def of(cls, probe: Object) -> "ProbeTiming":
        return cls(
            initial_delay=probe.get("initialDelaySeconds") or 0,
            period=probe.get("periodSeconds") or 10,
            timeout=probe.get("timeoutSeconds") or 1,
            successes=probe.get("successThreshold") or 1,
            failures=probe.get("failureThreshold") or 3,
        )


async def ask(probe: Object, target: ProbeTarget, *, timeout: float) -> ProbeResult:
    """Probe once. Never raises for what the container does."""
    try:
        async with asyncio.timeout(timeout):
            if "exec" in probe:
                return await ask_exec(probe["exec"], target)
            if "httpGet" in probe:
                return await ask_http(probe["httpGet"], target)
            if "tcpSocket" in probe:
                return await ask_tcp(probe["tcpSocket"], target)
    except TimeoutError:
        if "exec" in probe:
            return ProbeResult(healthy=False, message=f"command timed out after {timeout:g}s")
        return ProbeResult(healthy=False, message=f"{aim(probe, target)}: context deadline exceeded")
    except OSError as error:
        # asyncio words its connection errors itself; the number says what happened.
        why = f"connect: {os.strerror(error.errno).lower()}" if error.errno else str(error)
        return ProbeResult(healthy=False, message=f"{aim(probe, target)}: {why}")
    return ProbeResult(healthy=False, message=f"probe type not offered: {', '.join(sorted(probe))}")


async def ask_exec(action: Object, target: ProbeTarget) -> ProbeResult:
    """Healthy if the command exits 0."""
    code, output = await target.run(action.get("command") or ())
    return ProbeResult(healthy=code == 0, message="" if code == 0 else output[:MAX_OUTPUT])


async def ask_tcp(action: Object, target: ProbeTarget) -> ProbeResult:
    """Healthy if the port accepts."""
    _, writer = await asyncio.open_connection(action.get("host") or target.ip, port_of(action, target))
    writer.close()
    return ProbeResult(healthy=True)


async def ask_http(action: Object, target: ProbeTarget) -> ProbeResult:
    """Healthy if the status is 200 to 399. Certificates are not verified, as in Kubernetes."""
    host, port = action.get("host") or target.ip, port_of(action, target)
    context = None
    if (action.get("scheme") or "HTTP").upper() == "HTTPS":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    headers = {"Host": f"{host}:{port}", "User-Agent": "kube-probe/1.32", "Connection": "close"}
    headers |= {header["name"]: header["value"] for header in action.get("httpHeaders") or ()}
    path = action.get("path") or "/"
    lines = [f"GET {path if path.startswith('/') else '/' + path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    reader, writer = await asyncio.open_connection(host, port, ssl=context, limit=MAX_HEADER)
    try:
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        status_line = (await reader.readline()).split(None, 2)
    except ValueError:  # a first line longer than any status line
        status_line = []
    finally:
        writer.close()
    if len(status_line) < 2 or not status_line[0].startswith(b"HTTP/") or not status_line[1].isdigit():
        what = aim({"httpGet": action}, target)
        return ProbeResult(healthy=False, message=f"{what}: malformed HTTP response")
    code = int(status_line[1])
    if 200 <= code < 400:
        return ProbeResult(healthy=True)
    return ProbeResult(healthy=False, message=f"HTTP probe failed with statuscode: {code}")


def port_of(action: Object, target: ProbeTarget) -> int:
    """The port of an action, a number or a container port's name. Raises OSError for an unknown name."""
    port = action["port"]
    if isinstance(port, int):
        return port
    if port in target.ports:
        return target.ports[port]
    if str(port).isdigit():
        return int(port)
    raise OSError(f"unknown port: {port}")


def aim(probe: Object, target: ProbeTarget) -> str:
    """What the probe does, for a message."""
    if "httpGet" in probe:
        action = probe["httpGet"]
        scheme = (action.get("scheme") or "HTTP").lower()
        host = action.get("host") or target.ip
        return f'Get "{scheme}://{host}:{action["port"]}{action.get("path") or "/"}"'
    if "tcpSocket" in probe:
        return f"dial tcp {probe['tcpSocket'].get('host') or target.ip}:{probe['tcpSocket']['port']}"
    return "exec"


async def watch_health(
    kind: ProbeKind,
    probe: Object,
    target: ProbeTarget,
    *,
    changed: Callable[[bool], None],
    failed: Callable[[str], None],
) -> None:
    """Probe until cancelled, or until a startup probe has decided or a liveness probe has given up.

    `changed` hears each verdict that differs from the last (a container begins as not ready, not started,
    alive). `failed` hears why, at most once a period, and not while a container has only just begun to come
    up. A verdict turns as the thresholds say; failures are counted once a period, however often it is asked.
    """
    timing = ProbeTiming.of(probe)
    await asyncio.sleep(timing.initial_delay)
    verdict = kind is ProbeKind.LIVENESS
    successes = failures = 0
    eager = FIRST_EAGER_SECONDS
    period_began = time.monotonic() - (timing.period if verdict else 0)
    told_at = time.monotonic() - timing.period + (0 if verdict else min(timing.period, QUIET_SECONDS))
    while True:
        asked_at = time.monotonic()
        result = await ask(probe, target, timeout=timing.timeout)
        if result.healthy:
            successes, failures = successes + 1, 0
            if not verdict and successes >= timing.successes:
                verdict = True
                changed(True)
                if kind is ProbeKind.STARTUP:
                    return
        else:
            successes = 0
            if asked_at - told_at >= timing.period * EARLY:
                told_at = asked_at
                failed(result.message)
            if asked_at - period_began >= timing.period * EARLY:
                period_began = asked_at
                failures += 1
                if failures >= timing.failures and (verdict or kind is ProbeKind.STARTUP):
                    verdict = False
                    changed(False)
                    if kind is not ProbeKind.READINESS:
                        return
        if verdict:
            period_began, pause = asked_at, timing.period
        else:
            pause = min(timing.period, eager)
            if "exec" in probe:
                pause = min(timing.period, max(pause, EXEC_PAUSE_FACTOR * (time.monotonic() - asked_at)))
            eager = min(eager * 2, LAST_EAGER_SECONDS)
        await asyncio.sleep(pause)
