"""ClusterIPs: destination translation in the node's packet filter, replaced as a whole.

    table ip services
      prerouting, output   nat      -> jump to services-N, N being the current generation
      services-N                    one rule for each backend of each port
      postrouting          nat      -> jump to hairpin-N
      hairpin-N                     a pod that reached itself: the source becomes 169.254.1.1
      forward, local       filter   still addressed to a ClusterIP: no backend, so refuse at once

With IPv6 there is a second one, ip6 services, without forward and local: see `network`.

Of n backends the first is taken by one connection in n, the next by one in n - 1 of the rest, and so on:
each equally often, without memory.
"""

import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from conformance.cluster.embedded.node.netlink import (
    APPEND,
    CREATE,
    NETLINK_NETFILTER,
    NetlinkError,
    NetlinkSocket,
    attribute,
    batches,
    nested,
    nft_message,
)
from conformance.cluster.embedded.node.network import API_PORT, GATEWAY, GATEWAY6
from conformance.cluster.embedded.node.spec import ServiceRule

KUBERNETES = ServiceRule(cluster_ip="10.96.0.1", port=443, backends=((GATEWAY, API_PORT),))

_TABLE = "services"
_NEWTABLE, _NEWCHAIN, _DELCHAIN, _NEWRULE, _DELRULE = 0, 3, 5, 6, 8
_PREROUTING, _FORWARD, _LOCAL_OUT, _POSTROUTING = 0, 2, 3, 4
_NAT_BEFORE_ROUTING, _NAT_LOCAL_OUT, _FILTER, _NAT_AFTER_ROUTING = -100, -100, 0, 100
_VERDICT, _REGISTER_1, _REGISTER_2 = 0, 1, 2
_JUMP = -3
_BASES = {"prerouting": "services", "output": "services", "postrouting": "hairpin"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """`source`, `destination`: where the addresses of `size` bytes are in the header."""

    number: int
    size: int
    source: int
    destination: int
    gateway: str

    def has(self, ip: str) -> bool:
        return (":" in ip) is (self.number == socket.AF_INET6)

    def packed(self, ip: str) -> bytes:
        return socket.inet_pton(self.number, ip)


_IP4 = _Family(number=socket.AF_INET, size=4, source=12, destination=16, gateway=GATEWAY)
_IP6 = _Family(number=socket.AF_INET6, size=16, source=8, destination=24, gateway=GATEWAY6)


class ServiceTable:
    """The Services in force, in the network namespace it was made in."""

    def __init__(self, *, ipv6: bool = False) -> None:
        """Raises NetlinkError; with `ipv6` where the kernel cannot translate that, before anything else."""
        self._netlink = NetlinkSocket(NETLINK_NETFILTER)
        self._generation = 0
        self._chains = 0
        self._families = [_IP4, _IP6] if ipv6 else [_IP4]
        if ipv6:
            self._netlink.commit(_bases(_IP6), about="load the packet filter for IPv6")
        self._netlink.commit(_static(), about="load the packet filter")
        self.replace(())

    def replace(self, rules: Sequence[ServiceRule]) -> None:
        """Puts these, and the API server's own, in the place of all others, in one step. Raises OSError."""
        # The new chain is filled while nothing refers to it, in as many transactions as it needs (a failed
        # one leaves a chain that the next does not touch); then a single one switches.
        old, self._chains = self._generation, self._chains + 1
        new = self._chains
        every = [KUBERNETES, *rules]
        filling: list[bytes] = []
        for family in self._families:
            own = [rule for rule in every if family.has(rule.cluster_ip)]
            filling += [_chain(family, f"{kind}-{new}") for kind in ("services", "hairpin")]
            filling += _rules(family, f"services-{new}", own)
            filling += _hairpins(family, f"hairpin-{new}", own)
        for batch in batches(filling):
            self._netlink.commit(batch, about="load the Services")
        switch = []
        for family in self._families:
            for base, kind in _BASES.items():
                switch += [_flush(family, base), _rule(family, base, _jump(f"{kind}-{new}"))]
            for kind in ("services", "hairpin") if old else ():
                switch += [_flush(family, f"{kind}-{old}"), _delete_chain(family, f"{kind}-{old}")]
        self._netlink.commit(switch, about="switch to the new Services")
        self._generation = new


def load_services(no_ipv6: str) -> tuple[ServiceTable, str]:
    """The table, for both families unless `no_ipv6` says why not; why it is for IPv4 only, if it is.

    Raises OSError."""
    if not no_ipv6:
        try:
            return ServiceTable(ipv6=True), ""
        except NetlinkError as error:
            no_ipv6 = f"{error.strerror} ({error.filename})"
    return ServiceTable(), no_ipv6


def _bases(family: _Family) -> list[bytes]:
    return [
        nft_message(_NEWTABLE, CREATE, family.number, attribute(1, _TABLE)),
        _base_chain(family, "prerouting", "nat", _PREROUTING, _NAT_BEFORE_ROUTING),
        _base_chain(family, "output", "nat", _LOCAL_OUT, _NAT_LOCAL_OUT),
        _base_chain(family, "postrouting", "nat", _POSTROUTING, _NAT_AFTER_ROUTING),
    ]


def _static() -> list[bytes]:
    return [
        *_bases(_IP4),
        _base_chain(_IP4, "forward", "filter", _FORWARD, _FILTER),
        _base_chain(_IP4, "local", "filter", _LOCAL_OUT, _FILTER),
        *(
            _rule(_IP4, chain, *match, *_match_cluster_range(), _reject(kind))
            for chain in ("forward", "local")
            for match, kind in ((_match_tcp(), 1), ((), 0))
        ),
    ]


def _rules(family: _Family, chain: str, services: Iterable[ServiceRule]) -> Iterable[bytes]:
    for service in services:
        match = (*_match_destination(family, service.cluster_ip), *_match_tcp(), *_match_port(service.port))
        remaining = len(service.backends)
        for ip, port in service.backends:
            chance = _one_in(remaining) if remaining > 1 else ()
            yield _rule(family, chain, *match, *chance, *_destination_translation(family, ip, port))
            remaining -= 1


def _hairpins(family: _Family, chain: str, services: Iterable[ServiceRule]) -> Iterable[bytes]:
    pods = {ip for service in services for ip, _port in service.backends}
    for pod in sorted(pods - {GATEWAY}):
        itself = (*_match_source(family, pod), *_match_destination(family, pod))
        yield _rule(family, chain, *itself, *_source_translation(family))


# Statements -----------------------------------------------------------------------------------------------


def _base_chain(family: _Family, name: str, kind: str, hook: int, priority: int) -> bytes:
    at = nested(4, attribute(1, struct.pack("!I", hook)), attribute(2, struct.pack("!i", priority)))
    named = attribute(1, _TABLE) + attribute(3, name)
    return nft_message(_NEWCHAIN, CREATE, family.number, named, at, attribute(7, kind))


def _chain(family: _Family, name: str) -> bytes:
    return nft_message(_NEWCHAIN, CREATE, family.number, attribute(1, _TABLE), attribute(3, name))


def _delete_chain(family: _Family, name: str) -> bytes:
    return nft_message(_DELCHAIN, 0, family.number, attribute(1, _TABLE), attribute(3, name))


def _flush(family: _Family, chain: str) -> bytes:
    return nft_message(_DELRULE, 0, family.number, attribute(1, _TABLE), attribute(2, chain))


def _rule(family: _Family, chain: str, *expressions: bytes) -> bytes:
    listed = nested(4, *(nested(1, expression) for expression in expressions))
    named = attribute(1, _TABLE) + attribute(2, chain)
    return nft_message(_NEWRULE, CREATE | APPEND, family.number, named, listed)


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


def _match_source(family: _Family, ip: str) -> tuple[bytes, ...]:
    return _payload(1, family.source, family.size), _equals(family.packed(ip))


def _match_destination(family: _Family, ip: str) -> tuple[bytes, ...]:
    return _payload(1, family.destination, family.size), _equals(family.packed(ip))


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


def _destination_translation(family: _Family, ip: str, port: int) -> tuple[bytes, ...]:
    to = (_number(2, family.number), _number(3, _REGISTER_1), _number(5, _REGISTER_2))
    nat = _expression("nat", _number(1, 1), *to)
    return (
        _immediate(_REGISTER_1, family.packed(ip)),
        _immediate(_REGISTER_2, struct.pack("!H", port)),
        nat,
    )


def _source_translation(family: _Family) -> tuple[bytes, ...]:
    nat = _expression("nat", _number(1, 0), _number(2, family.number), _number(3, _REGISTER_1))
    return _immediate(_REGISTER_1, family.packed(family.gateway)), nat


def _jump(chain: str) -> bytes:
    verdict = nested(2, nested(2, attribute(1, struct.pack("!i", _JUMP)), attribute(2, chain)))
    return _expression("immediate", _number(1, _VERDICT), verdict)


def _reject(kind: int) -> bytes:
    """1: a TCP reset (an ICMP error would be rate-limited); 0: ICMP port unreachable (code 3)."""
    return _expression("reject", _number(1, kind), attribute(2, bytes([3])))
