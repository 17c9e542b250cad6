"""Who workloads are, and the mesh's certificate authority that says so.

An identity is a SPIFFE URI: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`. The authority is
kept in a Secret of the root namespace, so that sidecars go on trusting a controller that was restarted.
"""

from __future__ import annotations

import base64
import binascii
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from enforcer.certificate import Authority, key_pem, make_authority
from enforcer.errors import EnforcerError
from enforcer.kube import Json, KubeError

log = logging.getLogger("enforcer.identity")

SECRET = "authz-ca"  # noqa: S105 - the name of an object
CERTIFICATE_KEY, PRIVATE_KEY = "tls.crt", "tls.key"
AUTHORITY_NAME = "authz-enforcer mesh authority"
FORBIDDEN, NOT_FOUND, CONFLICT = 403, 404, 409


class AuthorityError(EnforcerError):
    """The stored authority cannot be used; replacing it by another would cut off every sidecar."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Identity:
    """A service account."""

    namespace: str
    service_account: str

    def uri(self, trust_domain: str) -> str:
        return f"spiffe://{trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


class Api(Protocol):
    def get(self, path: str) -> Json: ...

    def create(self, path: str, body: object) -> Json: ...


def keep_authority(api: Api, namespace: str) -> Authority:
    """The authority of the Secret, which is made where there is none; one in memory where neither is allowed.

    Raises KubeError where the API cannot answer now, AuthorityError where the Secret holds no authority.
    """
    path = f"/api/v1/namespaces/{namespace}/secrets"
    try:
        try:
            return read_authority(api.get(f"{path}/{SECRET}"))
        except KubeError as error:
            if error.status != NOT_FOUND:
                raise
        made = make_authority(AUTHORITY_NAME)
        try:
            api.create(path, _secret(made, namespace))
        except KubeError as error:
            if error.status != CONFLICT:
                raise
            # Another controller was faster.
            return read_authority(api.get(f"{path}/{SECRET}"))
    except KubeError as error:
        if error.status != FORBIDDEN:
            raise
        log.warning(
            "the authority lives in memory, because the Secret %s cannot be used (%s): "
            "after a restart of this controller pods must be restarted, too",
            SECRET,
            error,
        )
        return make_authority(AUTHORITY_NAME)
    log.info("made the mesh's authority, kept in the Secret %s/%s", namespace, SECRET)
    return made


def _secret(authority: Authority, namespace: str) -> Json:
    data = {CERTIFICATE_KEY: authority.pem, PRIVATE_KEY: key_pem(authority.key)}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET, "namespace": namespace, "labels": {"app": "enforcer"}},
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


def read_authority(secret: Json) -> Authority:
    """The authority in a Secret. Raises AuthorityError."""
    try:
        data = secret["data"]
        certificate = x509.load_pem_x509_certificate(base64.b64decode(data[CERTIFICATE_KEY]))
        key = serialization.load_pem_private_key(base64.b64decode(data[PRIVATE_KEY]), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the key is not an elliptic curve's")
        if key.public_key() != certificate.public_key():
            raise ValueError("key and certificate do not belong together")
        if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise ValueError("the certificate is not an authority's")
        if certificate.not_valid_after_utc <= datetime.now(UTC):
            raise ValueError(f"it has ended on {certificate.not_valid_after_utc:%Y-%m-%d}")
    except (
        KeyError,
        TypeError,
        ValueError,
        binascii.Error,
        UnsupportedAlgorithm,
        x509.ExtensionNotFound,
    ) as error:
        raise AuthorityError(
            f"Secret {SECRET}: no usable authority in {CERTIFICATE_KEY} and {PRIVATE_KEY} ({error}); "
            "repair it, or delete it and restart every injected pod"
        ) from error
    return Authority(certificate=certificate, key=key)
