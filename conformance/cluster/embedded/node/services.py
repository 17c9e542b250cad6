"""ClusterIPs: destination translation in the node's packet filter, replaced as a whole.

    table ip services
      prerouting, output   nat      -> jump to services-N, N being the current generation
      services-N                    one rule for each backend of each port
      postrouting          nat      -> jump to hairpin-N
      hairpin-N                     a pod that reached itself: the source becomes 169.254.1.1
      forward, local       filter   still addressed to a ClusterIP: no backend, so refuse at once

Of n backends the first is taken by one connection in n, the next by one in n - 1 of the rest, and so on:
each equally often, without memory.
"""

import socket
import struct
from collections.abc import Iterable, Sequence

from conformance.cluster.embedded.node.netlink import (
    APPEND,
    CREATE,
    NETLINK_NETFILTER,
    NetlinkSocket,
    attribute,
    batches,
    nested,
    nft_message,
)
from conformance.cluster.embedded.node.network import API_PORT, GATEWAY
from conformance.cluster.embedded.node.spec import ServiceRule

KUBERNETES = ServiceRule(cluster_ip="10.96.0.1", port=443, backends=((GATEWAY, API_PORT),))

_TABLE = "services"
_IP = socket.AF_INET
_NEWTABLE, _NEWCHAIN, _DELCHAIN, _NEWRULE, _DELRULE = 0, 3, 5, 6, 8
_PREROUTING, _FORWARD, _LOCAL_OUT, _POSTROUTING = 0, 2, 3, 4
_NAT_BEFORE_ROUTING, _NAT_LOCAL_OUT, _FILTER, _NAT_AFTER_ROUTING = -100, -100, 0, 100
_VERDICT, _REGISTER_1, _REGISTER_2 = 0, 1, 2
_JUMP = -3
_BASES = {"prerouting": "services", "output": "services", "postrouting": "hairpin"}


class ServiceTable:
    """The Services in force, in the network namespace it was made in."""

    def __init__(self) -> None:
        self._netlink = NetlinkSocket(NETLINK_NETFILTER)
        self._generation = 0
        self._chains = 0
        self._netlink.commit(_static(), about="load the packet filter")
        self.replace(())

    def replace(self, rules: Sequence[ServiceRule]) -> None:
        """Puts these, and the API server's own, in the place of all others, in one step. Raises OSError."""
        # The new chain is filled while nothing refers to it, in as many transactions as it needs (a failed
        # one leaves a chain that the next does not touch); then a single one switches.
        old, self._chains = self._generation, self._chains + 1
        new = self._chains
        filling = [
            *(_chain(f"{kind}-{new}") for kind in ("services", "hairpin")),
            *_rules(f"services-{new}", [KUBERNETES, *rules]),
            *_hairpins(f"hairpin-{new}", rules),
        ]
        for batch in batches(filling):
            self._netlink.commit(batch, about="load the Services")
        switch = []
        for base, kind in _BASES.items():
            switch += [_flush(base), _rule(base, _jump(f"{kind}-{new}"))]
        for kind in ("services", "hairpin") if old else ():
            switch += [_flush(f"{kind}-{old}"), _delete_chain(f"{kind}-{old}")]
        self._netlink.commit(switch, about="switch to the new Services")
        self._generation = new


def _static() -> list[bytes]:
    return [
        nft_message(_NEWTABLE, CREATE, _IP, attribute(1, _TABLE)),
        _base_chain("prerouting", "nat", _PREROUTING, _NAT_BEFORE_ROUTING),
        _base_chain("output", "nat", _LOCAL_OUT, _NAT_LOCAL_OUT),
        _base_chain("postrouting", "nat", _POSTROUTING, _NAT_AFTER_ROUTING),
        _base_chain("forward", "filter", _FORWARD, _FILTER),
        _base_chain("local", "filter", _LOCAL_OUT, _FILTER),
        *(
            _rule(chain, *match, *_match_cluster_range(), _reject(kind))
            for chain in ("forward", "local")
            for match, kind in ((_match_tcp(), 1), ((), 0))
        ),
    ]


def _rules(chain: str, services: Iterable[ServiceRule]) -> Iterable[bytes]:
    for service in services:
        match = (*_match_destination(service.cluster_ip), *_match_tcp(), *_match_port(service.port))
        remaining = len(service.backends)
        for ip, port in service.backends:
            chance = _one_in(remaining) if remaining > 1 else ()
            yield _rule(chain, *match, *chance, *_destination_translation(ip, port))
            remaining -= 1


def _hairpins(chain: str, services: Iterable[ServiceRule]) -> Iterable[bytes]:
    for pod in sorted({ip for service in services for ip, _port in service.backends}):
        yield _rule(chain, *_match_source(pod), *_match_destination(pod), *_source_translation(GATEWAY))


# Statements -----------------------------------------------------------------------------------------------


def _base_chain(name: str, kind: str, hook: int, priority: int) -> bytes:
    at = nested(4, attribute(1, struct.pack("!I", hook)), attribute(2, struct.pack("!i", priority)))
    return nft_message(
        _NEWCHAIN, CREATE, _IP, attribute(1, _TABLE), attribute(3, name), at, attribute(7, kind)
    )


def _chain(name: str) -> bytes:
    return nft_message(_NEWCHAIN, CREATE, _IP, attribute(1, _TABLE), attribute(3, name))


def _delete_chain(name: str) -> bytes:
    return nft_message(_DELCHAIN, 0, _IP, attribute(1, _TABLE), attribute(3, name))


def _flush(chain: str) -> bytes:
    return nft_message(_DELRULE, 0, _IP, attribute(1, _TABLE), attribute(2, chain))


def _rule(chain: str, *expressions: bytes) -> bytes:
    listed = nested(4, *(nested(1, expression) for expression in expressions))
    return nft_message(_NEWRULE, CREATE | APPEND, _IP, attribute(1, _TABLE), attribute(2, chain), listed)


# Expressions ----------------------------------------------------------------------------------------------


def _expression(name: str, *attributes: bytes) -> bytes:
    return attribute(1, name) + nested(2, *attributes)


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!I", value))


def _data(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(1, value))


def _payload(base: int, offset: int, size: int) -> bytes:
    return _expression(
        "payload", _number(1, _REGISTER_1), _number(2, base), _number(3, offset), _number(4, size)
    )


def _equals(value: bytes) -> bytes:
    return _expression("cmp", _number(1, _REGISTER_1), _number(2, 0), _data(3, value))


def _match_source(ip: str) -> tuple[bytes, ...]:
    return _payload(1, 12, 4), _equals(socket.inet_aton(ip))


def _match_destination(ip: str) -> tuple[bytes, ...]:
    return _payload(1, 16, 4), _equals(socket.inet_aton(ip))


def _match_cluster_range() -> tuple[bytes, ...]:
    mask = _expression(
        "bitwise",
        _number(1, _REGISTER_1),
        _number(2, _REGISTER_1),
        _number(3, 4),
        _data(4, socket.inet_aton("255.240.0.0")),
        _data(5, bytes(4)),
    )
    return _payload(1, 16, 4), mask, _equals(socket.inet_aton("10.96.0.0"))


def _match_tcp() -> tuple[bytes, ...]:
    protocol = _expression("meta", _number(1, _REGISTER_1), _number(2, 16))
    return protocol, _equals(bytes([socket.IPPROTO_TCP]))


def _match_port(port: int) -> tuple[bytes, ...]:
    return _payload(2, 2, 2), _equals(struct.pack("!H", port))


def _one_in(count: int) -> tuple[bytes, ...]:
    draw = _expression("numgen", _number(1, _REGISTER_1), _number(2, count), _number(3, 1))
    return draw, _equals(struct.pack("I", 0))


def _immediate(register: int, value: bytes) -> bytes:
    return _expression("immediate", _number(1, register), _data(2, value))


def _destination_translation(ip: str, port: int) -> tuple[bytes, ...]:
    nat = _expression("nat", _number(1, 1), _number(2, _IP), _number(3, _REGISTER_1), _number(5, _REGISTER_2))
    return (
        _immediate(_REGISTER_1, socket.inet_aton(ip)),
        _immediate(_REGISTER_2, struct.pack("!H", port)),
        nat,
    )


def _source_translation(ip: str) -> tuple[bytes, ...]:
    nat = _expression("nat", _number(1, 0), _number(2, _IP), _number(3, _REGISTER_1))
    return _immediate(_REGISTER_1, socket.inet_aton(ip)), nat


def _jump(chain: str) -> bytes:
    verdict = nested(2, nested(2, attribute(1, struct.pack("!i", _JUMP)), attribute(2, chain)))
    return _expression("immediate", _number(1, _VERDICT), verdict)


def _reject(kind: int) -> bytes:
    """1: a TCP reset (an ICMP error would be rate-limited); 0: ICMP port unreachable (code 3)."""
    return _expression("reject", _number(1, kind), attribute(2, bytes([3])))
