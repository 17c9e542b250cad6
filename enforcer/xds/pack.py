"""Messages into `Any`, the same bytes each time: a difference in bytes replaces what is already running."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from envoy.config.core.v3.address_pb2 import Address, SocketAddress
from envoy.config.listener.v3.listener_components_pb2 import Filter
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message


def pack(message: Message) -> AnyMessage:
    """Maps are serialized in a fixed order."""
    packed = AnyMessage()
    packed.Pack(message, deterministic=True)
    return packed


def digest(messages: Sequence[AnyMessage]) -> str:
    """A version: equal for equal bytes."""
    hashed = hashlib.sha256()
    for message in messages:
        # The length keeps apart what one message ends and the next begins with.
        hashed.update(len(message.value).to_bytes(8, "big") + message.value)
    return hashed.hexdigest()[:16]


def network_filter(name: str, config: Message) -> Filter:
    return Filter(name=name, typed_config=pack(config))


def address(ip: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=ip, port_value=port))
