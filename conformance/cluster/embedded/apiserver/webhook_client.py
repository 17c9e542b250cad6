"""Calls one admission webhook: finds its address, speaks TLS with it, checks the answer's form."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import aiohttp

from conformance.cluster.embedded.apiserver.auth import Find

_ANSWER_BYTES: Final = 8 * 2**20
_DEFAULT_SECONDS: Final = 10


class CallError(Exception):
    """The webhook could not be asked, or did not answer in form; the text is what a real server says behind
    `failed calling webhook "x": `."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    url: str  # what is dialled: an endpoint of the service, or the URL as configured
    shown: str  # what errors call it
    server_name: str | None
    host: str | None


class WebhookClient:
    """Keeps connections to webhooks open. One per event loop; `close` it."""

    def __init__(self, *, find: Find) -> None:
        self._find = find
        self._session: aiohttp.ClientSession | None = None

    async def call(self, webhook: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
        """Sends an AdmissionRequest and returns the AdmissionResponse. Raises CallError."""
        review = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
        seconds = webhook.get("timeoutSeconds") or _DEFAULT_SECONDS
        config = webhook["clientConfig"]
        shown = f"{_shown_url(config)}?timeout={seconds}s"
        try:
            route = self._route(config, shown)
            context = _context(config.get("caBundle") or "")
            async with asyncio.timeout(seconds):
                status, body = await self._post(route, context, json.dumps(review).encode(), seconds)
        except _Unreachable as error:
            raise CallError(f'failed to call webhook: Post "{shown}": {error}') from error
        except TimeoutError as error:
            raise CallError(f'failed to call webhook: Post "{shown}": context deadline exceeded') from error
        except aiohttp.ClientError as error:
            raise CallError(f'failed to call webhook: Post "{shown}": {_words(error)}') from error
        if status != 200:
            raise CallError(f"failed to call webhook: {_refusal(status, body)}")
        return _response(body, str(request["uid"]))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(
        self, route: _Route, context: ssl.SSLContext, body: bytes, seconds: int
    ) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if route.host:
            headers["Host"] = route.host
        for last in (False, True):
            try:
                async with self._session.post(
                    route.url,
                    params={"timeout": f"{seconds}s"},
                    data=body,
                    headers=headers,
                    ssl=context,
                    server_hostname=route.server_name,
                    allow_redirects=False,
                ) as answer:
                    return answer.status, await answer.content.read(_ANSWER_BYTES)
            except (aiohttp.ServerDisconnectedError, ConnectionResetError) as error:
                # A kept connection may have ended meanwhile. Webhooks are idempotent: ask once more.
                if last:
                    raise _Unreachable("EOF") from error
        raise AssertionError("unreachable: the loop returns or raises")

    def _route(self, config: Mapping[str, Any], shown: str) -> _Route:
        service = config.get("service")
        if service is None:
            return _Route(url=config["url"], shown=shown, server_name=None, host=None)
        namespace, name = service["namespace"], service["name"]
        port, path = service.get("port") or 443, service.get("path") or "/"
        ip, target = self._endpoint(namespace, name, port)
        host = f"{name}.{namespace}.svc"
        shown_host = f"[{ip}]" if ":" in ip else ip
        url = f"https://{shown_host}:{target}{path}"
        return _Route(url=url, shown=shown, server_name=host, host=f"{host}:{port}")

    def _endpoint(self, namespace: str, name: str, port: int) -> tuple[str, int]:
        """Address and port of a ready endpoint: the process stands where pods can be reached directly."""
        found = self._find("services", namespace, name)
        if found is None:
            raise _Unreachable(f'service "{name}" not found')
        ports = [p for p in found["spec"].get("ports") or () if p["port"] == port]
        if not ports:
            raise _Unreachable(f'service "{name}" has no port {port}')
        endpoints = self._find("endpoints", namespace, name) or {}
        for subset in endpoints.get("subsets") or ():
            for target in subset.get("ports") or ():
                if target.get("name", "") == ports[0].get("name", "") and subset.get("addresses"):
                    return subset["addresses"][0]["ip"], target["port"]
        raise _Unreachable(f'no endpoints available for service "{name}"')


class _Unreachable(Exception):
    pass


@lru_cache(maxsize=32)
def _context(bundle: str) -> ssl.SSLContext:
    """TLS that trusts the bundle (base64 of PEM) and nothing else; an empty one trusts the system's roots."""
    if not bundle:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
    except (binascii.Error, ValueError, ssl.SSLError) as error:
        raise _Unreachable("unable to load root certificates: unable to parse bytes as PEM block") from error


def _shown_url(config: Mapping[str, Any]) -> str:
    if service := config.get("service"):
        host = f"{service['name']}.{service['namespace']}.svc:{service.get('port') or 443}"
        return f"https://{host}{service.get('path') or '/'}"
    return str(config["url"])


def _words(error: aiohttp.ClientError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = error.certificate_error
        text = getattr(why, "verify_message", "") or str(why)
        return f"tls: failed to verify certificate: x509: {text}"
    if isinstance(error, aiohttp.ClientConnectorError):
        code = error.os_error.strerror or str(error.os_error)
        address = f"{error.host}:{error.port}"
        if isinstance(error.os_error, ConnectionRefusedError):
            code = "connection refused"
        return f"dial tcp {address}: connect: {code}"
    return str(error) or type(error).__name__


def _refusal(status: int, body: bytes) -> str:
    if status == 404:
        return "the server could not find the requested resource"
    if status >= 500:
        text = json.dumps(body[:1024].decode(errors="replace").strip())
        return f"an error on the server ({text}) has prevented the request from succeeding"
    return f"the server rejected our request for an unknown reason (HTTP {status})"


def _response(body: bytes, uid: str) -> dict[str, Any]:
    def malformed(why: str) -> CallError:
        return CallError(f"received invalid webhook response: {why}")

    try:
        review = json.loads(body)
    except ValueError as error:
        raise malformed(f"couldn't parse JSON: {error}") from error
    response = review.get("response") if isinstance(review, dict) else None
    if not isinstance(response, dict):
        raise CallError("webhook response was absent")
    if review.get("apiVersion") != "admission.k8s.io/v1" or review.get("kind") != "AdmissionReview":
        found = f"{review.get('apiVersion')}, Kind={review.get('kind')}"
        raise malformed(
            f"expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {found}"
        )
    if response.get("uid") != uid:
        raise malformed(f"expected response.uid={json.dumps(uid)}, got {json.dumps(response.get('uid', ''))}")
    return response
