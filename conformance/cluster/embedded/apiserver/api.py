"""The API server's HTTP side: who asks, what for, may they; then the room that does it, or a Status."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from conformance.cluster.embedded.apiserver import crds, deletion, discovery, openapi, subresources
from conformance.cluster.embedded.apiserver.admission import Admission
from conformance.cluster.embedded.apiserver.answers import add_warnings, answer, answer_error
from conformance.cluster.embedded.apiserver.auth import Authenticator, User
from conformance.cluster.embedded.apiserver.lists import get, list_
from conformance.cluster.embedded.apiserver.patches import patch
from conformance.cluster.embedded.apiserver.rbac import authorize, authorize_path, denied, denied_path
from conformance.cluster.embedded.apiserver.registry import Registry
from conformance.cluster.embedded.apiserver.requests import Call, Target, parse_path, verb_of
from conformance.cluster.embedded.apiserver.scale import scale
from conformance.cluster.embedded.apiserver.server import Server
from conformance.cluster.embedded.apiserver.status import (
    ApiError,
    internal,
    method_not_allowed,
    no_such_resource,
    unauthorized,
)
from conformance.cluster.embedded.apiserver.storage import Storage
from conformance.cluster.embedded.apiserver.streams import PodStreams
from conformance.cluster.embedded.apiserver.watches import watch
from conformance.cluster.embedded.apiserver.writes import create, update

log = logging.getLogger(__name__)

MAX_BODY = 3 * 1024 * 1024  # bytes, as a real API server takes
_HEALTH = ("/healthz", "/livez", "/readyz")
Room = Callable[[Server, Call], Awaitable[web.StreamResponse]]


async def _get(server: Server, call: Call) -> web.StreamResponse:
    return get(server, call)


async def _list(server: Server, call: Call) -> web.StreamResponse:
    return list_(server, call)


_ROOMS: dict[str, Room] = {
    "get": _get,
    "list": _list,
    "watch": watch,
    "create": create,
    "update": update,
    "patch": patch,
    "delete": deletion.delete,
    "deletecollection": deletion.delete_collection,
}
_SUBRESOURCES: dict[str, Room] = {
    "scale": scale,
    "token": subresources.token,
    "eviction": subresources.eviction,
    "exec": subresources.exec_,
    "log": subresources.log,
}


def create_app(
    *,
    storage: Storage,
    authenticator: Authenticator,
    admission: Admission,
    streams: PodStreams,
    ipv6: bool = False,
) -> web.Application:
    """The application for every socket of the API server. What the storage holds already is served.
    `ipv6`: Services can have addresses of that family, too.

    Run it with `AppRunner(app, handler_cancellation=True)`, so that a watch ends with its client at once.
    """
    registry = Registry()
    crds.serve_all(registry, storage)
    server = Server(
        storage=storage,
        registry=registry,
        authenticator=authenticator,
        admission=admission,
        streams=streams,
        ipv6=ipv6,
    )

    async def handle(request: web.Request) -> web.StreamResponse:
        warnings: list[str] = []
        try:
            response = await _serve(server, request, warnings)
        except ApiError as error:
            return answer_error(error, warnings)
        except web.HTTPRequestEntityTooLarge:
            too_large = f"limit is {MAX_BODY}"
            return answer_error(
                ApiError(413, "RequestEntityTooLarge", f"Request entity too large: {too_large}")
            )
        except Exception as error:
            log.exception("%s %s", request.method, request.path)
            return answer_error(internal(f"{type(error).__name__}: {error}"))
        if warnings and not response.prepared:
            add_warnings(response, warnings)
        return response

    async def close(_: web.Application) -> None:
        storage.close()

    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_route("*", "/{path:.*}", handle)
    app.on_shutdown.append(close)
    return app


async def _serve(server: Server, request: web.Request, warnings: list[str]) -> web.StreamResponse:
    user = _user(server, request)
    target = parse_path(server.registry, request.rel_url.raw_path)
    if target is None:
        return _document(server, request, user)
    call = Call(request=request, user=user, verb=verb_of(request, target), target=target, warnings=warnings)
    _authorize(server, call)
    if target.resource.deprecation:
        warnings.append(target.resource.deprecation)
    return await _room(target, call.verb)(server, call)


def _user(server: Server, request: web.Request) -> User:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    user = server.authenticator.authenticate(token.strip()) if scheme.lower() == "bearer" and token else None
    if user is None:
        raise unauthorized()
    return user


def _authorize(server: Server, call: Call) -> None:
    target, resource = call.target, call.resource
    # A WebSocket exec is a GET; who may create pods/exec may use it, as roles are written.
    verbs = ("create", "get") if target.subresource == "exec" else (call.verb,)
    what = {
        "group": resource.group,
        "resource": resource.plural,
        "subresource": target.subresource,
        "namespace": target.name if resource.key == "namespaces" else target.namespace,
        "name": target.name,
    }
    if not any(authorize(call.user, verb=verb, list_objects=server.objects, **what) for verb in verbs):
        raise denied(call.user, verb=verbs[0], **what)


def _room(target: Target, verb: str) -> Room:
    resource = target.resource
    if target.subresource in _SUBRESOURCES:
        return _SUBRESOURCES[target.subresource]
    if target.subresource and verb not in ("get", "update", "patch"):
        raise method_not_allowed()
    if not target.subresource and verb not in resource.verbs:
        raise method_not_allowed()
    if resource.verbs == ("create",):
        return subresources.review
    if resource.namespaced and not target.namespace and verb not in ("list", "watch"):
        raise method_not_allowed()
    if (verb == "create") == bool(target.name) and verb in ("create", "update", "patch"):
        raise method_not_allowed()
    return _ROOMS[verb]


def _document(server: Server, request: web.Request, user: User) -> web.StreamResponse:
    """Discovery, OpenAPI, version and health. Raises ApiError 404 for any other path."""
    path = request.path.rstrip("/") or "/"
    if not authorize_path(user, verb=request.method.lower(), path=request.path, list_objects=server.objects):
        raise denied_path(user, verb=request.method.lower(), path=request.path)
    if request.method not in ("GET", "HEAD"):
        raise no_such_resource()
    registry = server.registry
    if path in _HEALTH or path.startswith(tuple(f"{health}/" for health in _HEALTH)):
        return web.Response(text="ok")
    if path == "/version":
        return answer(discovery.VERSION)
    if path in ("/api", "/apis"):
        version = discovery.aggregated_version(request.headers.get("Accept", ""))
        if version:
            document = discovery.aggregated(registry, version=version, core=path == "/api")
            response = answer(document)
            response.headers["Content-Type"] = discovery.AGGREGATED.format(version=version)
            return response
        return answer(discovery.api_versions() if path == "/api" else discovery.group_list(registry))
    found = None
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) == 2:
        found = discovery.resource_list(registry, "", parts[1])
    elif parts[0] == "apis" and len(parts) == 2:
        found = discovery.group_document(registry, parts[1])
    elif parts[0] == "apis" and len(parts) == 3:
        found = discovery.resource_list(registry, parts[1], parts[2])
    elif path == "/openapi/v2":
        return web.Response(body=openapi.EMPTY_V2, content_type=openapi.V2_TYPE)
    elif path == "/openapi/v3":
        found = openapi.index(registry)
    elif path.startswith("/openapi/v3/"):
        found = openapi.document(registry, path.removeprefix("/openapi/v3/"))
    if found is None:
        raise no_such_resource()
    return answer(found)
