"""One command in a container over one WebSocket, kept open: lines in, lines out."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote

from kubernetes.client.exceptions import ApiException
from kubernetes.stream import ws_client
from websocket import WebSocket, WebSocketException, WebSocketTimeoutException

from conformance.cluster.kube import Kube
from conformance.errors import ProbeError

__all__ = ["ExecStream", "open_exec"]

STDOUT, STDERR, STATUS = 1, 2, 3
_seconds: ContextVar[float] = ContextVar("_seconds", default=30.0)


class _Bounded(WebSocket):
    """A WebSocket of which every wait has an end: connect, handshake, each read and write."""

    def connect(self, url: str, **options: Any) -> None:
        super().connect(url, timeout=_seconds.get(), **options)  # type: ignore[no-untyped-call]  # the library's


# The client opens its WebSockets without any deadline and takes none, so that an API that accepts the
# connection and never answers would hold its caller for ever.
ws_client.WebSocket = _Bounded


class ExecStream:
    """Used by one thread at a time: reading and writing share one TLS connection."""

    def __init__(self, client: Any, what: str) -> None:
        self._client = client
        self._buffer = b""
        self._errors = b""
        self.what = what

    def send(self, line: str) -> None:
        """One line to the command's standard input. Raises ProbeError where the stream is gone."""
        try:
            self._client.write_stdin(line.encode() + b"\n")
        except (WebSocketException, OSError) as error:
            raise ProbeError(f"{self.what}: the exec stream broke: {error}") from None

    def receive(self, deadline: float) -> str:
        """The next line of standard output, by `deadline` (of time.monotonic). Raises ProbeError when
        the command ended or the deadline passed; the text has what it wrote to standard error."""
        line = self.poll(deadline)
        if line is None:
            raise ProbeError(f"{self.what}: no line within its deadline{self._said()}")
        return line

    def poll(self, deadline: float) -> str | None:
        """As `receive`, but the deadline passing is no error."""
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            if not self._client.is_open():
                raise ProbeError(f"{self.what}: the command ended{self._said()}")
            try:
                self._client.update(timeout=left)
            except (WebSocketException, OSError) as error:
                raise ProbeError(f"{self.what}: the exec stream broke: {error}{self._said()}") from None
            self._buffer += self._take(STDOUT)
            self._errors += self._take(STDERR)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace")

    def receive_all(self, deadline: float) -> str:
        """Everything on standard output until the command ends. Raises ProbeError where it does not end by
        `deadline` (of time.monotonic) or fails."""
        while self._client.is_open():
            left = deadline - time.monotonic()
            if left <= 0:
                raise ProbeError(f"{self.what}: it did not end within its deadline{self._said()}")
            try:
                self._client.update(timeout=left)
            except (WebSocketException, OSError) as error:
                raise ProbeError(f"{self.what}: the exec stream broke: {error}{self._said()}") from None
            self._buffer += self._take(STDOUT)
            self._errors += self._take(STDERR)
        text, self._buffer = self._buffer + self._take(STDOUT), b""
        self._errors += self._take(STDERR)
        status = self._take(STATUS)
        if b'"Success"' not in status:
            said = (self._errors.decode(errors="replace") + _message(status))[-400:].strip()
            raise ProbeError(f"{self.what}: {said or 'the stream ended without a status'}")
        return str(text.decode(errors="replace"))

    def close(self) -> None:
        try:
            self._client.close(timeout=0)  # the peer's goodbye is not waited for
            if self._client.sock is not None:
                self._client.sock.shutdown()  # of a stream that the peer has ended, the client forgets it
        except (WebSocketException, OSError):
            return  # gone already

    def _take(self, channel: int) -> bytes:
        """What has come on a channel. The client looks for more first, which on a stream that broke fails
        once more; that is told by who waits."""
        try:
            return bytes(self._client.read_channel(channel))
        except (WebSocketException, OSError):
            return b""

    def _said(self) -> str:
        self._errors += self._take(STDERR)
        status = self._take(STATUS)
        said = (self._errors.decode(errors="replace") + _message(status))[-400:].strip()
        return f": {said}" if said else ""


def _message(status: bytes) -> str:
    """What a Status object says to a reader; any other text as it is."""
    text = status.decode(errors="replace")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text


def open_exec(
    kube: Kube, *, namespace: str, pod: str, container: str, command: Sequence[str], what: str = ""
) -> ExecStream:
    """Starts `command` with standard input open. Raises ProbeError where the API refuses, or does not answer
    within the time that it has for any request."""
    query: list[tuple[str, str]] = [("command", word) for word in command]
    query += [("container", container), ("stdin", "true"), ("stdout", "true"), ("stderr", "true")]
    query.append(("tty", "false"))
    path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/exec"
    headers: dict[str, str] = {}
    kube.client.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
    configuration = kube.client.configuration
    label = what or f"exec in {namespace}/{pod}"
    patience = _seconds.set(kube.timeout)
    try:
        # The generated method swaps the shared client's transport while it runs, which is not safe
        # between threads; this is the call it ends in.
        client = ws_client.websocket_call(
            configuration,
            "GET",
            f"{configuration.host}{path}",
            headers=headers,
            query_params=query,
            _preload_content=False,
            capture_all=False,
            binary=True,
        )
    except ApiException as error:
        # The library wraps whatever ends its handshake, Ctrl-C included.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        if isinstance(error.__context__, TimeoutError | WebSocketTimeoutException):
            late = f"the Kubernetes API did not answer the exec request within {kube.timeout:g} s"
            raise ProbeError(f"{label}: {late}") from None
        said = str(error.reason or error.status).splitlines()
        raise ProbeError(f"{label}: {said[0] if said else 'no answer'}") from None
    finally:
        _seconds.reset(patience)
    return ExecStream(client, label)
