"""Who is asking: bearer tokens, static ones and service account tokens (JWT, ES256).

A service account token names its audiences, expires, and dies with what it is bound to: the service account
and, where given, the pod must still exist with the same uid.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from conformance.cluster.embedded.apiserver.status import ApiError, FieldError, conflict, invalid, not_found

Find = Callable[[str, str, str], dict[str, Any] | None]  # resource (plural.group), namespace, name

MASTERS: Final = "system:masters"
AUTHENTICATED: Final = "system:authenticated"
DEFAULT_SECONDS: Final = 3600
_SHORTEST_SECONDS: Final = 600
_LONGEST_SECONDS: Final = 2**32
_COORDINATE_BYTES: Final = 32
_BOUND_KINDS: Final = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    name: str
    groups: tuple[str, ...]
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_info(self) -> dict[str, Any]:
        """The UserInfo of reviews and admission requests."""
        info: dict[str, Any] = {"username": self.name, "groups": list(self.groups)}
        if self.uid:
            info["uid"] = self.uid
        if self.extra:
            info["extra"] = {key: list(values) for key, values in self.extra.items()}
        return info


class TokenError(ValueError):
    """The token is none of ours, or no longer; the text says which."""


class Authenticator:
    def __init__(
        self,
        *,
        static_tokens: Mapping[str, User],
        find: Find,
        issuer: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`find` looks bound objects up; `issuer` is also the audience of the API itself."""
        self._static = {_digest(token): user for token, user in static_tokens.items()}
        self._find = find
        self._issuer = issuer
        self._clock = clock
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def api_audiences(self) -> tuple[str, ...]:
        return (self._issuer,)

    def authenticate(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """`audiences`: one of them must be the token's; none given = the API server's own."""
        try:
            return self.verify(token, audiences)[0]
        except TokenError:
            return None

    def verify(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, tuple[str, ...]]:
        """The user, and which of the audiences the token is for. Raises TokenError."""
        wanted = tuple(audiences) or self.api_audiences
        if user := self._static.get(_digest(token)):
            # Static tokens are for the API server, as with any authenticator that knows no audiences.
            shared = tuple(a for a in wanted if a in self.api_audiences)
            if not shared:
                raise TokenError(
                    f"token audiences {_go_list(self.api_audiences)} is invalid for this request"
                )
            return user, shared
        claims = self._claims(token)
        now = self._clock()
        if not isinstance(claims.get("exp"), int) or claims["exp"] <= now:
            raise TokenError("service account token has expired")
        if claims.get("nbf", 0) > now + 1:
            raise TokenError("service account token is not valid yet")
        shared = tuple(a for a in wanted if a in claims["aud"])
        if not shared:
            raise TokenError(f"token audiences {_go_list(claims['aud'])} is invalid for this request")
        return self._bound_user(claims), shared

    def _claims(self, token: str) -> dict[str, Any]:
        head, _, signature = token.rpartition(".")
        try:
            raw = _decode(signature)
            der = encode_dss_signature(
                int.from_bytes(raw[:_COORDINATE_BYTES]), int.from_bytes(raw[_COORDINATE_BYTES:])
            )
            self._key.public_key().verify(der, head.encode(), ec.ECDSA(SHA256()))
            # Signed by us: from here on the shape is ours as well.
            claims: dict[str, Any] = json.loads(_decode(head.partition(".")[2]))
        except (InvalidSignature, ValueError, binascii.Error) as error:
            raise TokenError("invalid bearer token") from error
        if claims["iss"] != self._issuer:
            raise TokenError("invalid bearer token: issued by someone else")
        return claims

    def _bound_user(self, claims: Mapping[str, Any]) -> User:
        bound = claims["kubernetes.io"]
        namespace, account = bound["namespace"], bound["serviceaccount"]
        self._must_live("serviceaccounts", namespace, account, "service account")
        extra = {"authentication.kubernetes.io/credential-id": (f"JTI={claims['jti']}",)}
        for kind, resource in _BOUND_KINDS.items():
            if reference := bound.get(kind.lower()):
                self._must_live(resource, "" if kind == "Node" else namespace, reference, kind.lower())
        if pod := bound.get("pod"):
            extra["authentication.kubernetes.io/pod-name"] = (pod["name"],)
            extra["authentication.kubernetes.io/pod-uid"] = (pod["uid"],)
        return service_account_user(namespace, account["name"], uid=account["uid"], extra=extra)

    def _must_live(self, resource: str, namespace: str, reference: Mapping[str, str], what: str) -> None:
        found = self._find(resource, namespace, reference["name"])
        if found is None or found["metadata"].get("uid") != reference["uid"]:
            raise TokenError(f"{what} {namespace}/{reference['name']} has been deleted")

    def issue(
        self,
        *,
        namespace: str,
        service_account: str,
        audiences: Sequence[str] = (),
        expiration_seconds: int = DEFAULT_SECONDS,
        bound: Mapping[str, Any] | None = None,
    ) -> tuple[str, datetime]:
        """A token and its end. `bound` is a BoundObjectReference (kind, name, uid). Raises ApiError: the
        service account or the bound object is not there (404), or is another one by now (409)."""
        account = self._find("serviceaccounts", namespace, service_account)
        if account is None:
            raise not_found("serviceaccounts", service_account)
        about: dict[str, Any] = {
            "namespace": namespace,
            "serviceaccount": {"name": service_account, "uid": account["metadata"].get("uid", "")},
        }
        if bound:
            about[bound["kind"].lower()] = self._bound_reference(namespace, service_account, bound)
        now = int(self._clock())
        claims = {
            "aud": list(audiences or self.api_audiences),
            "exp": now + expiration_seconds,
            "iat": now,
            "iss": self._issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": about,
            "nbf": now,
            "sub": f"system:serviceaccount:{namespace}:{service_account}",
        }
        head = f"{_encode_json({'alg': 'ES256', 'typ': 'JWT'})}.{_encode_json(claims)}"
        r, s = decode_dss_signature(self._key.sign(head.encode(), ec.ECDSA(SHA256())))
        signature = r.to_bytes(_COORDINATE_BYTES) + s.to_bytes(_COORDINATE_BYTES)
        return f"{head}.{_encode(signature)}", datetime.fromtimestamp(now + expiration_seconds, tz=UTC)

    def _bound_reference(
        self, namespace: str, service_account: str, bound: Mapping[str, Any]
    ) -> dict[str, str]:
        kind, name = bound.get("kind", ""), bound.get("name", "")
        if kind not in _BOUND_KINDS:
            raise ApiError(400, "BadRequest", f'cannot bind token to object of type "{kind}"')
        resource = _BOUND_KINDS[kind]
        found = self._find(resource, "" if kind == "Node" else namespace, name)
        if found is None:
            raise not_found(resource, name)
        uid = found["metadata"].get("uid", "")
        if bound.get("uid") and bound["uid"] != uid:
            why = (
                f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise conflict(resource, name, why)
        if kind == "Pod" and found["spec"].get("serviceAccountName", "default") != service_account:
            why = "cannot bind token for serviceaccount "
            raise ApiError(400, "BadRequest", f'{why}"{service_account}" to pod running with another one')
        return {"name": name, "uid": uid}


def service_account_user(
    namespace: str, name: str, *, uid: str = "", extra: Mapping[str, tuple[str, ...]] | None = None
) -> User:
    return User(
        name=f"system:serviceaccount:{namespace}:{name}",
        groups=("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED),
        uid=uid,
        extra=extra or {},
    )


def token_request(
    authenticator: Authenticator, *, namespace: str, service_account: str, body: Mapping[str, Any]
) -> dict[str, Any]:
    """Answers a TokenRequest (authentication.k8s.io/v1). Raises ApiError."""
    spec = dict(body.get("spec") or {})
    seconds = spec.get("expirationSeconds")
    seconds = DEFAULT_SECONDS if seconds is None else seconds
    why = ""
    if not isinstance(seconds, int) or seconds < _SHORTEST_SECONDS:
        why = "may not specify a duration less than 10 minutes"
    elif seconds > _LONGEST_SECONDS:
        why = "may not specify a duration larger than 2^32 seconds"
    if why:
        message = f"Invalid value: {json.dumps(seconds)}: {why}"
        error = FieldError(path="spec.expirationSeconds", type="FieldValueInvalid", message=message)
        raise invalid("TokenRequest", "", [error], group="authentication.k8s.io")
    audiences = spec.get("audiences") or list(authenticator.api_audiences)
    token, end = authenticator.issue(
        namespace=namespace,
        service_account=service_account,
        audiences=audiences,
        expiration_seconds=seconds,
        bound=spec.get("boundObjectRef"),
    )
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": service_account, "namespace": namespace},
        "spec": spec | {"audiences": audiences, "expirationSeconds": seconds},
        "status": {"token": token, "expirationTimestamp": end.strftime("%Y-%m-%dT%H:%M:%SZ")},
    }


def token_review(authenticator: Authenticator, body: Mapping[str, Any]) -> dict[str, Any]:
    """Answers a TokenReview; a bad token is an answer (authenticated: false), not an error."""
    spec = body.get("spec") or {}
    if not spec.get("token"):
        error = FieldError(path="spec.token", type="FieldValueRequired", message="Required value")
        raise invalid("TokenReview", "", [error], group="authentication.k8s.io")
    try:
        user, audiences = authenticator.verify(spec["token"], spec.get("audiences") or ())
    except TokenError as error:
        status: dict[str, Any] = {"user": {}, "error": str(error)}
    else:
        status = {"authenticated": True, "user": user.to_info(), "audiences": list(audiences)}
    return _answer("TokenReview", body, status)


def self_subject_review(user: User, body: Mapping[str, Any]) -> dict[str, Any]:
    """Answers a SelfSubjectReview (`kubectl auth whoami`)."""
    return _answer("SelfSubjectReview", body, {"userInfo": user.to_info()})


def _answer(kind: str, body: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"kind": kind, "apiVersion": "authentication.k8s.io/v1"}
    answer["metadata"] = dict(body.get("metadata") or {}) | {"creationTimestamp": None}
    if "spec" in body:
        answer["spec"] = body["spec"]
    return answer | {"status": dict(status)}


def _digest(token: str) -> bytes:
    """Tokens are looked up by digest, so a comparison tells nothing by its duration."""
    return hashlib.sha256(token.encode()).digest()


def _go_list(values: Sequence[str]) -> str:
    return f"[{' '.join(json.dumps(value) for value in values)}]"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _encode_json(value: object) -> str:
    return _encode(json.dumps(value, separators=(",", ":")).encode())


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
