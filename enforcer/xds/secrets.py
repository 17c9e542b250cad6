"""The secrets of one sidecar: its certificate and key, made for its stream and kept in memory only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import CertificateValidationContext, TlsCertificate
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from google.protobuf.any_pb2 import Any as AnyMessage

from enforcer.certificate import Authority, issue_workload
from enforcer.xds.pack import digest, pack
from enforcer.xds.tls import IDENTITY, ROOT

SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name
RENEW_AFTER = 0.5
"""Of a certificate's life. The other half is for a control plane that is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """By name. `renew_at`: when the next ones are due."""

    resources: Mapping[str, AnyMessage]
    version: str
    renew_at: datetime

    def due_in(self, now: datetime) -> float:
        """Seconds; 0 for now."""
        return max(0.0, (self.renew_at - now).total_seconds())


def issue(authority: Authority, uri: str, *, lifetime: timedelta, now: datetime | None = None) -> Secrets:
    """New secrets for the workload of this identity."""
    now = now or datetime.now(UTC)
    certificate = issue_workload(authority, uri, now=now, lifetime=lifetime)
    made = (
        Secret(
            name=IDENTITY,
            tls_certificate=TlsCertificate(
                certificate_chain=DataSource(inline_bytes=certificate.chain),
                private_key=DataSource(inline_bytes=certificate.key),
            ),
        ),
        Secret(
            name=ROOT,
            validation_context=CertificateValidationContext(
                trusted_ca=DataSource(inline_bytes=certificate.authority)
            ),
        ),
    )
    resources = {secret.name: pack(secret) for secret in made}
    return Secrets(
        resources=resources,
        version=digest(list(resources.values())),
        renew_at=now + lifetime * RENEW_AFTER,
    )
