"""What is done to a running container's process: commands beside it, its preStop hook, its end."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from signal import SIGKILL, SIGTERM
from typing import Any

from conformance.cluster.embedded.kubelet import probes
from conformance.cluster.embedded.node.runtime import Process, Runtime, RuntimeFailure, StartError

Object = dict[str, Any]


async def run_command(
    runtime: Runtime, container: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: str
) -> tuple[int, str]:
    """(exit code, output) of a command in the running container with that id; ended when the caller is
    cancelled.

    Raises OSError where it cannot be started.
    """
    try:
        process = await runtime.exec(container, argv, env=env, cwd=cwd, stdin=False, tty=False)
    except (StartError, RuntimeFailure) as error:
        raise OSError(str(error)) from error
    try:
        out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
        code = await process.wait()
    except asyncio.CancelledError:
        with suppress(RuntimeFailure):
            await process.signal(SIGKILL)
        raise
    return code, (out + err).decode(errors="replace").strip()


async def end_process(process: Process, grace: float, *, before_stop: Callable[[], Awaitable[None]]) -> None:
    """The hook, SIGTERM, and SIGKILL after `grace` seconds. Raises RuntimeFailure."""
    ends = time.monotonic() + grace
    if grace > 0:
        await before_stop()
        await process.signal(SIGTERM)
        # As in Kubernetes, a hook that took all the time leaves two seconds for the process itself.
        left = max(ends - time.monotonic(), min(2.0, grace))
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await process.wait()
                return
    await process.signal(SIGKILL)


async def run_pre_stop(
    hook: Object, process: Process, target: probes.ProbeTarget, *, grace: float
) -> str | None:
    """Why the preStop hook failed, within `grace` seconds; None where it did not."""
    if "sleep" in hook:
        # The hook is a pause by its own definition; the process may end before it is over.
        with suppress(TimeoutError):
            async with asyncio.timeout(min(grace, hook["sleep"].get("seconds") or 0)):
                await process.wait()
        return None
    result = await probes.ask(hook, target, timeout=grace)
    return None if result.healthy else result.message
