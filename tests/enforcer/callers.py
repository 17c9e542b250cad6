"""Pods that ask a control plane for their configuration, and what they ask it with."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from enforcer.certificate import issue_server, make_authority
from enforcer.destinations import Destination
from enforcer.identity import Identity
from enforcer.mesh import Exempt, Trust
from enforcer.peer_authentication import Modes
from enforcer.policy import Policy
from enforcer.tokens import Caller, TokenError
from enforcer.xds import outbound
from enforcer.xds.authorizers import Authorizer
from enforcer.xds.server import METHOD, SERVICE
from enforcer.xds.snapshot import Snapshot, build

AUTHORITY = make_authority("test authority")
SERVER = issue_server(AUTHORITY, ("localhost",))
OPEN = Modes(ports={})
NONE: Mapping[str, Authorizer] = {}


def snapshot_of(
    *policies: Policy,
    modes: Modes = OPEN,
    exempt: Exempt = Exempt.MARK,
    ipv6: bool = False,
    destinations: Sequence[Destination] = (),
    authorizers: Mapping[str, Authorizer] = NONE,
) -> Snapshot:
    """The snapshot of a workload; `destinations`: the Services of its mesh."""
    trust = Trust()
    way_out = outbound.build(destinations, trust=trust, exempt=exempt, ipv6=ipv6)
    return build(
        policies,
        modes=modes,
        outbound=way_out,
        trust=trust,
        exempt=exempt,
        ipv6=ipv6,
        authorizers=authorizers,
    )


def token(node: str = "foo/x", account: str = "default", uid: str = "u") -> str:
    """What `read_token` takes for the token of this pod."""
    return f"{node}/{account}/{uid}"


def read_token(text: str) -> Caller:
    if text.count("/") != 3:
        raise TokenError("the token is not valid")
    namespace, pod, account, uid = text.split("/")
    return Caller(identity=Identity(namespace=namespace, service_account=account), pod=pod, uid=uid)


async def authenticate(text: str) -> Caller:
    return read_token(text)


@asynccontextmanager
async def channel_to(port: int, *, root: bytes = AUTHORITY.pem, name: str = "") -> AsyncIterator[Any]:
    """A TLS channel to a control plane on this machine; `name`: what its certificate says."""
    options = (("grpc.ssl_target_name_override", name),) if name else ()
    credentials = grpc.ssl_channel_credentials(root)
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials, options=options) as channel:
        yield channel


def open_stream(channel: Any, proof: str | None) -> Any:
    """A configuration stream, with or without a token."""
    return channel.stream_stream(
        f"/{SERVICE}/{METHOD}",
        request_serializer=DiscoveryRequest.SerializeToString,
        response_deserializer=DiscoveryResponse.FromString,
    )(metadata=() if proof is None else (("authorization", proof),))
