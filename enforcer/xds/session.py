"""One sidecar's conversation (aggregated, state of the world): what it was sent, took, or refused. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from envoy.config.core.v3.base_pb2 import ControlPlane
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from enforcer.xds.snapshot import TYPES, Snapshot

CONTROL_PLANE = "authz-enforcer"


@dataclass(slots=True)
class _Subscription:
    sent: str = ""
    nonce: str = ""
    acknowledged: str = ""
    refused: str | None = None


@dataclass(slots=True, eq=False)
class Session:
    """State of one stream. `node` is `<namespace>/<pod>`."""

    node: str
    ipv6: bool = False
    nacks: int = 0
    _subscriptions: dict[str, _Subscription] = field(default_factory=dict)
    _nonces: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def nack(self) -> str | None:
        """What the sidecar said of the configuration it refused last; None once it took a newer one."""
        errors = [sub.refused for sub in self._subscriptions.values() if sub.refused is not None]
        return errors[0] if errors else None

    def receive(self, request: DiscoveryRequest) -> str | None:
        """Takes a subscription, an ACK or a NACK. Returns the message of a NACK."""
        if request.type_url not in TYPES:
            return None
        subscription = self._subscriptions.get(request.type_url)
        if subscription is None:
            # A sidecar that comes back names what it runs; that needs no second delivery.
            known = request.version_info
            self._subscriptions[request.type_url] = _Subscription(sent=known, acknowledged=known)
            return None
        if request.response_nonce != subscription.nonce:
            # An answer to what has been overtaken by a newer response.
            return None
        if request.HasField("error_detail"):
            subscription.refused = str(request.error_detail.message)
            self.nacks += 1
            return subscription.refused
        subscription.acknowledged = subscription.sent
        subscription.refused = None
        return None

    def due(self, snapshot: Snapshot) -> list[DiscoveryResponse]:
        """The responses that bring the sidecar to this snapshot; none for what it was already sent."""
        responses = []
        for kind in TYPES:
            subscription = self._subscriptions.get(kind)
            version = snapshot.versions[kind]
            if subscription is None or subscription.sent == version:
                continue
            subscription.sent = version
            subscription.nonce = str(next(self._nonces))
            responses.append(
                DiscoveryResponse(
                    version_info=version,
                    type_url=kind,
                    nonce=subscription.nonce,
                    resources=snapshot.resources[kind],
                    control_plane=ControlPlane(identifier=CONTROL_PLANE),
                )
            )
        return responses

    def in_sync(self, snapshot: Snapshot) -> bool:
        """Whether the sidecar acknowledged exactly this configuration."""
        return all(
            (subscription := self._subscriptions.get(kind)) is not None
            and subscription.acknowledged == snapshot.versions[kind]
            for kind in TYPES
        )
