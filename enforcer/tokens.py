"""Who asks for a configuration: the pod's projected service-account token, judged by the API server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from enforcer.errors import EnforcerError
from enforcer.identity import Identity
from enforcer.kube import Json

AUDIENCE = "authz-enforcer"
"""Tokens for the API server, or for anybody else, are worth nothing here, nor ours there."""
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
POD_NAME, POD_UID = "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"
ACCOUNT_PREFIX = "system:serviceaccount:"


class TokenError(EnforcerError):
    """The token does not prove that a pod holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The pod that a token was given to."""

    identity: Identity
    pod: str
    uid: str

    @property
    def node(self) -> str:
        return f"{self.identity.namespace}/{self.pod}"


class Api(Protocol):
    def create(self, path: str, body: object) -> Json: ...


def review(api: Api, token: str) -> Caller:
    """Who holds this token. Raises TokenError, and KubeError where the API could not be asked."""
    answer = api.create(
        REVIEWS,
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        },
    )
    return read_review(answer)


def read_review(answer: Json) -> Caller:
    """The caller that a TokenReview names. Raises TokenError."""
    status = answer.get("status") or {}
    if status.get("authenticated") is not True:
        raise TokenError(str(status.get("error") or "the token is not valid"))
    # An API server that does not know audiences would accept any token of its own.
    if AUDIENCE not in (status.get("audiences") or ()):
        raise TokenError(f"the token is not for the audience {AUDIENCE}")
    user = status.get("user") or {}
    namespace, colon, account = str(user.get("username", "")).removeprefix(ACCOUNT_PREFIX).partition(":")
    if not str(user.get("username", "")).startswith(ACCOUNT_PREFIX) or not colon or not account:
        raise TokenError(f"{user.get('username')!r} is not a service account")
    extra = user.get("extra") or {}
    pod, uid = _only(extra.get(POD_NAME)), _only(extra.get(POD_UID))
    if not pod or not uid:
        raise TokenError(f"the token of {namespace}/{account} is not bound to a pod")
    return Caller(identity=Identity(namespace=namespace, service_account=account), pod=pod, uid=uid)


def _only(values: Any) -> str:
    return str(values[0]) if isinstance(values, list) and len(values) == 1 else ""
