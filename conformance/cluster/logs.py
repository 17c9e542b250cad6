"""The log of a container over the API: the last lines of it, or followed from now on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import urllib3

from conformance.cluster.answers import lines_of, read_answer
from conformance.cluster.kube import Kube
from conformance.errors import SetupError

__all__ = ["end_log", "log_lines", "open_log", "read_log"]


def open_log(kube: Kube, *, namespace: str, pod: str, container: str, tail: int | None = None) -> Any:
    """A followed log as an open urllib3 response; read it with `log_lines`, end it with `end_log`. Raises
    SetupError where the API refuses, or does not answer in time.

    The answer begins at once, whether or not there is a line (Kubernetes 1.14, kubernetes/kubernetes#72575),
    so that it has a deadline as any other. Silence after that is normal: reading has none."""
    query = {"container": container, "follow": "true"}
    if tail is not None:
        query["tailLines"] = str(tail)
    try:
        response = kube.open(f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query)
    except SetupError as error:
        raise SetupError(f"log of {namespace}/{pod}: {error.message}", hint=error.hint) from None
    if int(response.status) >= 300:
        read_answer(response, kube.read(response)).or_raise(f"log of {namespace}/{pod}")
    if (sock := _socket_of(response.response)) is not None:
        sock.settimeout(None)
    return response.response


def _socket_of(response: Any) -> Any:
    """None where nobody tells any more: its log ends with the first long silence."""
    if response._sock_shutdown:
        # Where the API closes after its answer, the response alone still knows the socket.
        return response._sock_shutdown.__self__
    return getattr(response.connection, "sock", None)  # by way of a proxy that speaks TLS itself


def log_lines(response: Any) -> Iterator[bytes]:
    """The lines of a followed log until it ends or `end_log` is called."""
    try:
        yield from lines_of(response)
    except (urllib3.exceptions.HTTPError, OSError, ValueError):
        return  # closed under our hands: the end of the log for its reader


def end_log(response: Any) -> None:
    """Ends the reading in another thread, which owns the response, by shutting the socket down."""
    with suppress(RuntimeError, OSError, ValueError):  # it has ended by itself meanwhile
        response.shutdown()


def read_log(
    kube: Kube,
    *,
    namespace: str,
    pod: str,
    container: str,
    tail: int | None = None,
    previous: bool = False,
) -> str:
    """A log as far as it goes now, or its last `tail` lines; empty where there is none."""
    query = {"container": container, "previous": "true" if previous else "false"}
    if tail is not None:
        query["tailLines"] = str(tail)
    try:
        response = kube.open(f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query)
        data = kube.read(response)
    except SetupError:
        return ""
    return data.decode(errors="replace") if int(response.status) == 200 else ""
