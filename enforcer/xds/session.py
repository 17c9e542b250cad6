"""One sidecar's conversation (aggregated, state of the world): what it was sent, took, or refused. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from envoy.config.core.v3.base_pb2 import ControlPlane
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from google.protobuf.any_pb2 import Any as AnyMessage

from enforcer.errors import EnforcerError
from enforcer.identity import Identity
from enforcer.xds.secrets import SECRET_TYPE, Secrets
from enforcer.xds.snapshot import TYPES, Snapshot
from enforcer.xds.tls import IDENTITY, ROOT

CONTROL_PLANE = "authz-enforcer"
SECRETS = frozenset({IDENTITY, ROOT})


class ForeignSecretError(EnforcerError):
    """A sidecar asks for a secret that is not its own."""


@dataclass(slots=True)
class _Subscription:
    names: frozenset[str] = frozenset()
    """The resources asked for; empty for all of the type."""
    sent: str = ""
    nonce: str = ""
    acknowledged: str = ""
    refused: str | None = None
    unanswered: bool = False


@dataclass(slots=True, eq=False)
class Session:
    """State of one stream. `node` is `<namespace>/<pod>`; `uid` and `identity` are what its token proved."""

    node: str
    uid: str
    identity: Identity
    ipv6: bool = False
    nacks: int = 0
    secrets: Secrets | None = None
    """The newest made for this stream."""
    _subscriptions: dict[str, _Subscription] = field(default_factory=dict)
    _nonces: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def nack(self) -> str | None:
        """What the sidecar said of the configuration it refused last; None once it took a newer one."""
        errors = [sub.refused for sub in self._subscriptions.values() if sub.refused is not None]
        return errors[0] if errors else None

    def receive(self, request: DiscoveryRequest) -> str | None:
        """Takes a subscription, an ACK or a NACK; returns a NACK's message. Raises ForeignSecretError."""
        if request.type_url not in (*TYPES, SECRET_TYPE):
            return None
        names = frozenset(request.resource_names) if request.type_url == SECRET_TYPE else frozenset()
        if foreign := ", ".join(sorted(names - SECRETS)):
            raise ForeignSecretError(f"{foreign} is no secret of {self.node}")
        subscription = self._subscriptions.get(request.type_url)
        if subscription is None:
            # A sidecar that comes back names what it runs; that needs no second delivery.
            version = request.version_info
            self._subscriptions[request.type_url] = _Subscription(
                names=names, sent=version, acknowledged=version
            )
            return None
        if names - subscription.names:
            # More than it was sent.
            subscription.sent = subscription.acknowledged = ""
        subscription.names = names
        if request.response_nonce != subscription.nonce:
            # An answer to what has been overtaken by a newer response.
            return None
        subscription.unanswered = False
        if request.HasField("error_detail"):
            subscription.refused = str(request.error_detail.message)
            self.nacks += 1
            return subscription.refused
        subscription.acknowledged = subscription.sent
        subscription.refused = None
        return None

    def due(self, snapshot: Snapshot) -> list[DiscoveryResponse]:
        """The responses that bring the sidecar to this snapshot; none for what it was already sent.

        Nothing newer while it has not answered: taking a configuration costs it more than making one costs
        us, so of those that come up meanwhile it is sent the last. Secrets do not wait."""
        busy = any(kind in TYPES and known.unanswered for kind, known in self._subscriptions.items())
        responses = [
            response
            for kind in (() if busy else TYPES)
            if (response := self._response(kind, snapshot.versions[kind], snapshot.resources[kind]))
        ]
        names = self._subscriptions[SECRET_TYPE].names if SECRET_TYPE in self._subscriptions else ()
        if self.secrets is not None and names:
            resources = [self.secrets.resources[name] for name in sorted(names)]
            secret = self._response(SECRET_TYPE, self.secrets.version, resources)
            responses += [secret] if secret else []
        return responses

    def _response(self, kind: str, version: str, resources: Sequence[AnyMessage]) -> DiscoveryResponse | None:
        subscription = self._subscriptions.get(kind)
        if subscription is None or subscription.sent == version:
            return None
        subscription.unanswered = True
        subscription.sent = version
        subscription.nonce = str(next(self._nonces))
        return DiscoveryResponse(
            version_info=version,
            type_url=kind,
            nonce=subscription.nonce,
            resources=resources,
            control_plane=ControlPlane(identifier=CONTROL_PLANE),
        )

    def in_sync(self, snapshot: Snapshot) -> bool:
        """Whether the sidecar acknowledged exactly this configuration, and the secrets it needs for it.

        Which certificate it has does not matter: the one before is good for a while yet.
        """
        secrets = self._subscriptions.get(SECRET_TYPE)
        if secrets is not None and secrets.names and not secrets.acknowledged:
            return False
        return all(
            (subscription := self._subscriptions.get(kind)) is not None
            and subscription.acknowledged == snapshot.versions[kind]
            for kind in TYPES
        )
