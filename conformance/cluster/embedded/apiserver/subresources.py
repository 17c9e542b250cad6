"""What is neither plain object nor list: reviews, tokens, evictions, exec and logs."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from conformance.cluster.embedded.apiserver.answers import answer
from conformance.cluster.embedded.apiserver.attributes import Attributes
from conformance.cluster.embedded.apiserver.auth import self_subject_review, token_request, token_review
from conformance.cluster.embedded.apiserver.deletion import delete_object
from conformance.cluster.embedded.apiserver.lists import find
from conformance.cluster.embedded.apiserver.rbac import (
    self_subject_access_review,
    self_subject_rules_review,
    subject_access_review,
)
from conformance.cluster.embedded.apiserver.requests import Call, read_object
from conformance.cluster.embedded.apiserver.server import Server, attributes
from conformance.cluster.embedded.apiserver.status import method_not_allowed, success
from conformance.cluster.embedded.apiserver.streams import handle_exec, handle_log


async def review(server: Server, call: Call) -> web.StreamResponse:
    """Questions that are answered at once and never stored."""
    body = await read_object(call)
    kind = call.resource.kind
    if kind == "TokenReview":
        answered = token_review(server.authenticator, body)
    elif kind == "SelfSubjectReview":
        answered = self_subject_review(call.user, body)
    elif kind == "SelfSubjectAccessReview":
        answered = self_subject_access_review(call.user, body, server.objects)
    elif kind == "SelfSubjectRulesReview":
        answered = self_subject_rules_review(call.user, body, server.objects)
    else:
        answered = subject_access_review(body, server.objects)
    return answer(answered, code=201)


async def token(server: Server, call: Call) -> web.StreamResponse:
    if call.verb != "create":
        raise method_not_allowed()
    find(server, call)
    body = await read_object(call, kind="TokenRequest", api_version="authentication.k8s.io/v1")
    answered = token_request(
        server.authenticator,
        namespace=call.target.namespace,
        service_account=call.target.name,
        body=body,
    )
    return answer(answered, code=201)


async def eviction(server: Server, call: Call) -> web.StreamResponse:
    """There are no disruption budgets here: an eviction is a graceful deletion."""
    if call.verb != "create":
        raise method_not_allowed()
    pod = find(server, call)
    body = await read_object(call, kind="Eviction", api_version="policy/v1")
    options: dict[str, Any] = body.get("deleteOptions") or {}
    await delete_object(server, call, pod, options)
    return answer(success(name=call.target.name, kind="pods", uid=pod["metadata"]["uid"]), code=201)


async def exec_(server: Server, call: Call) -> web.StreamResponse:
    pod = find(server, call)
    asked: Attributes = attributes(call, "CONNECT", name=call.target.name, obj=None, old=None)
    await server.admission.validate(asked)
    return await handle_exec(call.request, streams=server.streams, namespace=call.target.namespace, pod=pod)


async def log(server: Server, call: Call) -> web.StreamResponse:
    if call.verb != "get":
        raise method_not_allowed()
    pod = find(server, call)
    return await handle_log(call.request, streams=server.streams, namespace=call.target.namespace, pod=pod)
