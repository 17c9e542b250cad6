"""What the Kubernetes API answers, or why it does not: objects by their keys, refusals, open bodies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import urllib3
from kubernetes.client.exceptions import ApiException

from conformance.errors import SetupError

__all__ = ["Answer", "ObjectKey", "Watched", "answering", "asked_to_wait", "lines_of", "read_answer"]

WARNING_TEXT = re.compile(r'299 [^ ]+ "((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the API said. `reason` and `message` are those of a Status object, empty on success."""

    code: int
    reason: str = ""
    message: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return 200 <= self.code < 300

    def or_raise(self, what: str) -> Answer:
        """Itself, or SetupError naming what was tried and the API's words."""
        if not self.ok:
            raise SetupError(f"{what}: {self.code} {self.reason} {self.message}".rstrip())
        return self


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ObjectKey:
    """One object. `resource` is the plural name; `namespace` is empty for cluster-wide kinds."""

    api_version: str
    kind: str
    resource: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"

    @property
    def collection(self) -> str:
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        return (
            f"{root}/namespaces/{self.namespace}/{self.resource}"
            if self.namespace
            else (f"{root}/{self.resource}")
        )

    @property
    def path(self) -> str:
        return f"{self.collection}/{quote(self.name)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One event of a watch."""

    type: str
    object: Mapping[str, Any]


def read_answer(response: Any, data: bytes) -> Answer:
    """A response of the client whose body is `data`; one that is no JSON object is empty."""
    code = int(response.status)
    warnings = tuple(
        text.replace('\\"', '"')
        for header in response.response.headers.getlist("Warning")
        for text in WARNING_TEXT.findall(header)
    )
    try:
        body = json.loads(data) if data else {}
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    if 200 <= code < 300:
        return Answer(code=code, body=body, warnings=warnings)
    message = str(body.get("message") or data[:300].decode(errors="replace"))
    return Answer(
        code=code, reason=str(body.get("reason", "")), message=message, body=body, warnings=warnings
    )


def asked_to_wait(code: int, retry_after: str | None) -> float | None:
    """Seconds until the request may be sent again, as client-go has it; None = it is answered."""
    if code != 429 and (code < 500 or retry_after is None):
        return None
    return float(retry_after) if retry_after and retry_after.isdigit() else 1.0


@contextmanager
def answering(host: str) -> Iterator[None]:
    """Around a request: raises SetupError where no answer came, or none that is whole."""
    try:
        yield
    except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
        raise SetupError(
            f"no answer from the Kubernetes API at {host}: {_cause(error)}",
            hint="check the address, and that the cluster is up",
        ) from None


def _cause(error: BaseException) -> str:
    """The innermost reason in a few words: `Connection refused`, not how it travelled through the layers."""
    seen: list[BaseException] = [error]
    while inner := getattr(seen[-1], "reason", None) or seen[-1].__cause__ or seen[-1].__context__:
        if not isinstance(inner, BaseException) or inner in seen:
            break
        seen.append(inner)
    system = [item.strerror for item in seen if isinstance(item, OSError) and item.strerror]
    return str(system[-1] if system else seen[-1]).strip().splitlines()[0]


def lines_of(response: Any) -> Iterator[bytes]:
    """The lines of an open urllib3 response, as they come."""
    buffer = b""
    for chunk in response.stream(65536, decode_content=True):
        buffer += chunk
        *lines, buffer = buffer.split(b"\n")
        yield from (line for line in lines if line)
    if buffer:
        yield buffer
