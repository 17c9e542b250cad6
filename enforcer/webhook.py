"""The admission webhooks: injection and validation, over TLS, and readiness over plain HTTP.

Fails closed: an unknown path, a request that cannot be read, an error of ours, or a controller that has not
seen the cluster yet never answers `allowed: true`; the API server's failurePolicy Fail does the rest.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web

from enforcer import validation
from enforcer.inject import InjectionError, inject
from enforcer.mesh import MeshOptions

log = logging.getLogger("enforcer.webhook")

Json = dict[str, Any]

API_VERSION = "admission.k8s.io/v1"
INJECT_PATH, VALIDATE_PATH = "/inject", "/validate"
# A pod or policy of 3 MiB is what etcd refuses anyway; a review holds the object twice.
BODY_LIMIT = 8 * 1024 * 1024


class ReviewError(Exception):
    """The body is not an AdmissionReview that this path answers."""


def create_app(*, options: MeshOptions, root: str, ready: Callable[[], bool]) -> web.Application:
    """The webhook application. Until `ready()` every review is answered 503. `root` is what injected
    sidecars trust (PEM)."""
    app = web.Application(client_max_size=BODY_LIMIT)

    def handler(judge: Callable[[Json], Json]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            if not ready():
                return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="not ready\n")
            try:
                review = read_review(await request.read())
                response = {"uid": review["uid"], **judge(review)}
            except ReviewError as error:
                return web.Response(status=HTTPStatus.BAD_REQUEST, text=f"{error}\n")
            return web.json_response(
                {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}
            )

        return handle

    app.router.add_post(INJECT_PATH, handler(lambda review: judge_pod(review, options, root=root)))
    app.router.add_post(VALIDATE_PATH, handler(judge_policy))
    return app


def read_review(body: bytes) -> Json:
    """The `request` of an AdmissionReview. Raises ReviewError."""
    try:
        document = json.loads(body)
    except ValueError as error:
        raise ReviewError(f"not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != "AdmissionReview":
        raise ReviewError("not an AdmissionReview")
    if document.get("apiVersion") != API_VERSION:
        raise ReviewError(f"apiVersion must be {API_VERSION}")
    request = document.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str):
        raise ReviewError("the review has no request")
    if not isinstance(request.get("object"), dict):
        raise ReviewError("the request has no object")
    return request


def judge_pod(request: Json, options: MeshOptions, *, root: str) -> Json:
    """The response to a new pod."""
    if (request.get("kind") or {}).get("kind") != "Pod" or not _is_pod(request["object"]):
        raise ReviewError("this path judges pods")
    try:
        injection = inject(request["object"], options, root=root)
    except InjectionError as error:
        return _refused([str(error)])
    response: Json = {"allowed": True}
    if injection.patch:
        patch = json.dumps(injection.patch, separators=(",", ":")).encode()
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}
    if injection.warning:
        response["warnings"] = [injection.warning]
    return response


def _is_pod(document: Json) -> bool:
    """Whether what injection looks at has the shape that the API server guarantees."""
    metadata, spec = document.get("metadata") or {}, document.get("spec") or {}
    if not isinstance(metadata, dict) or not isinstance(spec, dict):
        return False
    lists = [spec.get(name) or [] for name in ("containers", "initContainers")]
    maps = [metadata.get(name) or {} for name in ("labels", "annotations")]
    return all(isinstance(entry, dict) for entry in maps) and all(
        isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries) for entries in lists
    )


def judge_policy(request: Json) -> Json:
    """The response to a new or changed object of security.istio.io."""
    old = request.get("oldObject")
    verdict = validation.review(request["object"], old=old if isinstance(old, dict) else None)
    if verdict.errors:
        return _refused(list(verdict.errors))
    response: Json = {"allowed": True}
    if verdict.warnings:
        response["warnings"] = list(verdict.warnings)
    return response


def _refused(reasons: list[str]) -> Json:
    """A refusal without a code, as istiod's: the API server makes it 400."""
    return {"allowed": False, "status": {"message": "; ".join(reasons)}}


def create_health_app(*, ready: Callable[[], bool], reason: Callable[[], str]) -> web.Application:
    """Probes of the Deployment: /livez while the loop turns, /readyz once everything serves."""
    app = web.Application()

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if ready():
            return web.Response(text="ok\n")
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=f"{reason()}\n")

    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    return app


def trust_patch(configuration: Json, authority: bytes) -> list[Json]:
    """The JSON Patch that makes a webhook configuration trust this authority; empty where it does."""
    bundle = base64.b64encode(authority).decode()
    return [
        {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle}
        for index, hook in enumerate(configuration.get("webhooks") or ())
        if (hook.get("clientConfig") or {}).get("caBundle") != bundle
    ]
