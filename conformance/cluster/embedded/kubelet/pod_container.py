"""One container of a pod: started, watched, restarted with back-off, stopped."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from signal import SIGKILL
from typing import Any

from conformance.cluster.embedded.client import ApiClientError
from conformance.cluster.embedded.kubelet import probes
from conformance.cluster.embedded.kubelet.container_process import end_process, run_command, run_pre_stop
from conformance.cluster.embedded.kubelet.container_spec import container_spec
from conformance.cluster.embedded.kubelet.container_surroundings import Surroundings, grace_of
from conformance.cluster.embedded.kubelet.environment import ConfigError
from conformance.cluster.embedded.kubelet.logs import ContainerLog
from conformance.cluster.embedded.kubelet.pod_status import (
    ContainerState,
    container_url,
    running,
    terminated,
    timestamp,
    waiting,
)
from conformance.cluster.embedded.node.images import ImageError
from conformance.cluster.embedded.node.runtime import Process, RuntimeFailure, StartError

Object = dict[str, Any]

START_ERROR_CODE = 128  # what Kubernetes reports for every container that could not be started
NEVER_STARTED = "1970-01-01T00:00:00Z"
CONFIG_RETRY_SECONDS = 0.5
LAST_OUTPUT_SECONDS = 2.0  # a process that has ended can leave no more than a pipe's content
FALLBACK_LINES, FALLBACK_BYTES = 80, 2048

log = logging.getLogger(__name__)


class Container:
    """A container's life. `policy` is Always, OnFailure or Never: its own, not the pod's."""

    def __init__(
        self,
        spec: Object,
        surroundings: Surroundings,
        *,
        policy: str,
        first_reason: str,
        sidecar: bool = False,
    ) -> None:
        self.spec = spec
        self.name: str = spec["name"]
        self.log: ContainerLog | None = None
        self.previous_log: ContainerLog | None = None
        self.process: Process | None = None
        self.id = ""
        self.environment: Mapping[str, str] = {}
        self.started = asyncio.Event()
        self.state = ContainerState(
            name=self.name, image=spec.get("image") or "", state=waiting(first_reason), sidecar=sidecar
        )
        self._around = surroundings
        self._policy = policy
        self._stopping = asyncio.Event()
        self._kills: set[asyncio.Task[None]] = set()

    @property
    def working_directory(self) -> str:
        """Where its processes start."""
        return self.spec.get("workingDir") or "/"

    @property
    def pod_name(self) -> str:
        """The pod as Kubernetes writes it in messages."""
        metadata = self._around.facts.pod["metadata"]
        return f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"

    async def run(self) -> bool:
        """Keep it as its restart policy says until it has ended for good; whether its last exit was 0."""
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return code == 0
            if code is None:  # not even configured: nothing has run, nothing is counted
                await self._pause(CONFIG_RETRY_SECONDS)
                continue
            if self._policy == "Never" or (self._policy == "OnFailure" and code == 0):
                return code == 0
            if time.monotonic() - began > 2 * self._around.back_off.last:
                failures = 0
            await self._await_restart(failures)
            failures += 1
        return False

    async def stop(self, *, grace: float) -> None:
        """End it for good: preStop, SIGTERM, and SIGKILL after grace seconds. `run` returns soon after."""
        self._stopping.set()
        await self._end(grace)

    def refuse(self, reason: str, message: str) -> None:
        """It will never be started: say why."""
        self._set(state=waiting(reason, message), urgent=True)

    async def run_command(self, argv: Sequence[str]) -> tuple[int, str]:
        """(exit code, output) of a command in the running container; ended when the caller is cancelled.

        Raises OSError where it cannot be started.
        """
        return await run_command(
            self._around.runtime, self.id, argv, env=self.environment, cwd=self.working_directory
        )

    async def _run_once(self) -> int | None:
        """The exit code of one instance; None where its configuration cannot be had yet."""
        try:
            spec = await container_spec(
                self.spec, self._around.facts, mounts=self._around.mounts, lookup=self._around.lookup
            )
        except ImageError as error:
            self._set(state=waiting("ErrImageNeverPull", str(error)), urgent=True)
            self._around.event(self.name, "ErrImageNeverPull", str(error))
            await self._stopping.wait()
            return None
        except (ConfigError, ApiClientError) as error:
            message = error.message if isinstance(error, ApiClientError) else str(error)
            self._set(state=waiting("CreateContainerConfigError", message), urgent=True)
            self._around.event(self.name, "Failed", f"Error: {message}")
            return None
        if "terminated" in self.state.state:
            self._set(last_state=self.state.state)
        if self.id:
            self._set(restarts=self.state.restarts + 1)
        self.id, self.environment = spec.id, spec.env
        try:
            process = await self._around.runtime.start(spec, stdin=bool(self.spec.get("stdin")))
        except (StartError, RuntimeFailure) as error:
            return self._could_not_start(str(error))
        return await self._attend(process)

    def _could_not_start(self, message: str) -> int:
        state = terminated(
            exit_code=START_ERROR_CODE,
            reason="StartError",
            message=message,
            started_at=NEVER_STARTED,
            finished_at=timestamp(),
            container_id=container_url(self.id),
        )
        self.log, self.previous_log = ContainerLog(), self.log
        self.log.close()
        self._set(state=state, container_id=container_url(self.id), urgent=True)
        self._around.event(self.name, "Failed", f"Error: {message}")
        return START_ERROR_CODE

    async def _attend(self, process: Process) -> int:
        """From the start of a process to its end."""
        self.process = process
        self.log, self.previous_log = ContainerLog(), self.log
        started = datetime.now(UTC)
        waits_for_start = bool(self.spec.get("startupProbe"))
        self._set(
            state=running(timestamp(started)),
            container_id=container_url(self.id),
            started=not waits_for_start,
            ready=not waits_for_start and not self.spec.get("readinessProbe"),
            urgent=True,
        )
        if not waits_for_start:
            self.started.set()
        pumps = [
            asyncio.create_task(self.log.pump(stream), name=f"log of {self.name}")
            for stream in (process.stdout, process.stderr)
        ]
        health = asyncio.create_task(self._watch_health(), name=f"probes of {self.name}")
        try:
            if self._stopping.is_set():  # it was asked to stop while it started
                with suppress(RuntimeFailure):
                    await process.signal(SIGKILL)
            code = await process.wait()
            self.process = None
            await asyncio.wait(pumps, timeout=LAST_OUTPUT_SECONDS)
        finally:
            for task in (*pumps, health):
                task.cancel()
            self.log.close()
        fallback = self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError" and code != 0
        self._set(
            state=terminated(
                exit_code=code,
                reason="Completed" if code == 0 else "Error",
                message=self.log.tail(lines=FALLBACK_LINES, max_bytes=FALLBACK_BYTES) if fallback else "",
                started_at=timestamp(started),
                finished_at=timestamp(),
                container_id=container_url(self.id),
            ),
            started=False,
            ready=False,
            urgent=True,
        )
        self.started.clear()
        return code

    async def _await_restart(self, restarts: int) -> None:
        ended = self.state.state
        could_start = ended["terminated"]["reason"] != "StartError"
        delay = self._around.back_off.delay(restarts if could_start else restarts + 1)
        if delay == 0:
            return
        if restarts == 0:
            state = waiting("RunContainerError", ended["terminated"]["message"])
        else:
            text = f"back-off {delay:g}s restarting failed container={self.name} pod={self.pod_name}"
            state = waiting("CrashLoopBackOff", text)
            told = f"Back-off restarting failed container {self.name} in pod {self.pod_name}"
            self._around.event(self.name, "BackOff", told)
        self._set(state=state, last_state=ended, urgent=True)
        await self._pause(delay)

    async def _watch_health(self) -> None:
        """The container's probes, one after the other in their order."""
        if self.spec.get("startupProbe"):
            await self._watch_one(probes.ProbeKind.STARTUP)
            if not self.started.is_set():
                return
        await asyncio.gather(
            *(
                self._watch_one(kind)
                for kind in (probes.ProbeKind.READINESS, probes.ProbeKind.LIVENESS)
                if self.spec.get(kind.field)
            )
        )

    async def _watch_one(self, kind: probes.ProbeKind) -> None:
        def changed(healthy: bool) -> None:
            if kind is probes.ProbeKind.READINESS:
                self._set(ready=healthy, urgent=True)
            elif healthy:
                self._set(started=True, ready=not self.spec.get("readinessProbe"), urgent=True)
                self.started.set()
            else:
                told = f"Container {self.name} failed {kind.value.lower()} probe, will be restarted"
                self._around.event(self.name, "Killing", told)
                grace = probe.get("terminationGracePeriodSeconds")
                self._end_soon(grace_of(self._around.facts.pod) if grace is None else grace)

        def failed(message: str) -> None:
            self._around.event(self.name, "Unhealthy", f"{kind.value} probe failed: {message}")

        probe = self.spec[kind.field]
        await probes.watch_health(kind, probe, self._target(), changed=changed, failed=failed)

    def _target(self) -> probes.ProbeTarget:
        ports = {
            port["name"]: port["containerPort"] for port in self.spec.get("ports") or () if port.get("name")
        }
        return probes.ProbeTarget(ip=self._around.facts.ip, ports=ports, run=self.run_command)

    def _end_soon(self, grace: float) -> None:
        task = asyncio.create_task(self._end(grace), name=f"end of {self.name}")
        self._kills.add(task)
        task.add_done_callback(self._kills.discard)

    async def _end(self, grace: float) -> None:
        """End the running instance, if there is one."""
        process = self.process
        if process is None:
            return
        try:
            await end_process(process, grace, before_stop=lambda: self._before_stop(process, grace))
        except RuntimeFailure as error:
            log.warning("%s of %s: %s", self.name, self.pod_name, error)
            return
        await process.wait()

    async def _before_stop(self, process: Process, grace: float) -> None:
        hook = (self.spec.get("lifecycle") or {}).get("preStop")
        if not hook:
            return
        problem = await run_pre_stop(hook, process, self._target(), grace=grace)
        if problem is not None:
            self._around.event(self.name, "FailedPreStopHook", f"PreStopHook failed: {problem}")

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _set(self, *, urgent: bool = False, **fields: Any) -> None:
        state = replace(self.state, **fields)
        if state != self.state:
            self.state = state
            self._around.changed(urgent)
