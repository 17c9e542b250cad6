"""Starts a node and ends it: the only part of the embedded cluster that runs outside of it."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from conformance.cluster.embedded.node.images import PROJECT
from conformance.cluster.embedded.node.node import NodeOptions

READY_SECONDS = 120.0
_STOP_SECONDS = 5.0


class NodeError(Exception):
    """The node did not start: what failed, what to do, and the last of its log."""

    def __init__(self, message: str, *, hint: str = "", log: str = "") -> None:
        super().__init__("; ".join(part for part in (message, hint) if part))
        self.message = message
        self.hint = hint
        self.log = log


class Node:
    """A running node. It ends with `stop()` and with the process that started it, however that ends."""

    def __init__(self, *, process: "subprocess.Popen[bytes]", lifeline: int, log: int) -> None:
        self.ready: Mapping[str, Any] = {}
        """The control plane's readiness line."""
        self._process = process
        self._lifeline = lifeline
        self._log = log

    @property
    def pid(self) -> int:
        """A process inside the node's mount namespace, seen from here."""
        return self._process.pid

    @property
    def port(self) -> int:
        return int(self.ready["port"])

    def path(self, inside: str) -> Path:
        """A path of the node as this process reads it: `path("/run/authz-node/kubeconfig")`."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def alive(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float) -> int:
        """The exit code of a node that is ending by itself; negative where a signal did it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.stop()
        return self._process.returncode

    def log(self) -> str:
        """The last of what the node's own processes wrote; also after it has ended."""
        size = os.fstat(self._log).st_size
        return os.pread(self._log, size, 0).decode(errors="replace")

    def stop(self) -> None:
        """Returns once every process of the node is gone."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def __del__(self) -> None:
        for fd in (self._lifeline, self._log):
            with contextlib.suppress(OSError):
                os.close(fd)


def start_node(
    *,
    entry: str = "conformance.cluster.embedded.control_plane:main",
    options: Mapping[str, Any] | None = None,
    port: int = 0,
    seconds: float = READY_SECONDS,
) -> Node:
    """Starts a node and waits for its readiness line. Raises NodeError.

    `options` (JSON values) go to the entry, which must be importable from inside: not from /tmp or /run.
    """
    lifeline, held = os.pipe()
    ready, reported = os.pipe()
    log = os.memfd_create("node-log")
    # PDEATHSIG follows the thread that starts the node; only the main one lives as long as the process.
    main_thread = threading.current_thread() is threading.main_thread()
    node_options = NodeOptions(
        entry=entry,
        options=options or {},
        port=port,
        ready=reported,
        lifeline=lifeline,
        log=log,
        starter=os.getpid() if main_thread else None,
    )
    search = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "conformance.cluster.embedded.node.node", node_options.to_json()],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd="/",
        env={**os.environ, "PYTHONPATH": ":".join(search), "PYTHONDONTWRITEBYTECODE": "1"},
        pass_fds=(lifeline, reported, log),
        # Ctrl-C is the starter's business; the node ends when the starter has finished with it.
        start_new_session=True,
    )
    os.close(lifeline)
    os.close(reported)
    node = Node(process=process, lifeline=held, log=log)
    try:
        node.ready = _await_ready(node, ready, seconds)
    except BaseException:
        node.stop()
        raise
    finally:
        os.close(ready)
    return node


def _await_ready(node: Node, ready: int, seconds: float) -> Mapping[str, Any]:
    deadline = time.monotonic() + seconds
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(ready, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(timeout=max(0.0, deadline - time.monotonic())):
                raise NodeError(f"the node was not ready after {seconds:g} s", log=node.log())
            data = os.read(ready, 65536)
            if not data:
                code = node.wait(_STOP_SECONDS)
                ending = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                raise NodeError(f"the node ended before it was ready: {ending}", log=node.log())
            line += data
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        node.stop()
        raise NodeError(answer["error"], hint=answer.get("hint", ""), log=node.log())
    return answer
