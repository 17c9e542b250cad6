"""Redirects a pod's TCP connections to its Envoy: nftables rules, sent as one netlink batch.

Runs in an init container of every pod, so it uses the standard library only and needs no `nft` program. The
batch is atomic and replaces the whole table: running it again, or after a change of options, leaves no old
rule behind.

    inbound    not from loopback, tcp, port not excluded        -> Envoy's inbound port
    outbound   not to loopback, tcp, not Envoy's own, not excluded -> Envoy's outbound port

The table is of the family inet: IPv6 is redirected as well. Where Envoy has no IPv6 listener such a
connection is refused, so a link-local address is no way around the policies.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from enforcer import ports
from enforcer.errors import EnforcerError

TABLE: Final = "authz"
INBOUND_CHAIN: Final = "inbound"
OUTBOUND_CHAIN: Final = "outbound"

# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
NETLINK_NETFILTER = 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE, NLM_F_APPEND = 0x1, 0x4, 0x400, 0x800
NLMSG_ERROR = 2
NLA_F_NESTED = 0x8000
NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 0x10, 0x11
NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE = 0, 2, 3, 6
NFPROTO_INET = 1
NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT = 0, 3
NF_IP_PRI_NAT_DST = -100
NFTA_TABLE_NAME = 1
NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK, NFTA_CHAIN_TYPE = 1, 3, 4, 7
NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY = 1, 2
NFTA_RULE_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS = 1, 2, 4
NFTA_LIST_ELEM = 1
NFTA_EXPR_NAME, NFTA_EXPR_DATA = 1, 2
NFTA_META_DREG, NFTA_META_KEY = 1, 2
NFT_META_MARK, NFT_META_IIFNAME, NFT_META_OIFNAME, NFT_META_SKUID, NFT_META_L4PROTO = 3, 6, 7, 10, 16
NFTA_CMP_SREG, NFTA_CMP_OP, NFTA_CMP_DATA = 1, 2, 3
NFT_CMP_EQ = 0
NFTA_DATA_VALUE, NFTA_DATA_VERDICT = 1, 2
NFTA_VERDICT_CODE = 1
NFT_RETURN = -5
NFTA_IMMEDIATE_DREG, NFTA_IMMEDIATE_DATA = 1, 2
NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_BASE, NFTA_PAYLOAD_OFFSET, NFTA_PAYLOAD_LEN = 1, 2, 3, 4
NFT_PAYLOAD_TRANSPORT_HEADER = 2
NFTA_REDIR_REG_PROTO_MIN = 1
NFT_REG_VERDICT, NFT_REG_1 = 0, 1

IFNAMSIZ = 16
LOOPBACK = b"lo".ljust(IFNAMSIZ, b"\0")
ANSWER_SECONDS = 10


class CaptureError(EnforcerError):
    """The rules could not be installed; the message says why and what is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What to redirect. Exactly one of `mark` and `uid` exempts Envoy's own connections."""

    inbound_port: int = ports.INBOUND
    outbound_port: int = ports.OUTBOUND
    mark: int | None = ports.MARK
    uid: int | None = None
    exclude_inbound: tuple[int, ...] = ()
    exclude_outbound: tuple[int, ...] = ()


def _attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + bytes(-length % 4)


def _nested(kind: int, *children: bytes) -> bytes:
    return _attribute(kind | NLA_F_NESTED, b"".join(children))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def _expression(name: str, *attributes: bytes) -> bytes:
    return _nested(NFTA_LIST_ELEM, _text(NFTA_EXPR_NAME, name), _nested(NFTA_EXPR_DATA, *attributes))


def _meta(key: int) -> bytes:
    return _expression("meta", _number(NFTA_META_KEY, key), _number(NFTA_META_DREG, NFT_REG_1))


def _equals(value: bytes) -> bytes:
    return _expression(
        "cmp",
        _number(NFTA_CMP_SREG, NFT_REG_1),
        _number(NFTA_CMP_OP, NFT_CMP_EQ),
        _nested(NFTA_CMP_DATA, _attribute(NFTA_DATA_VALUE, value)),
    )


def _is_tcp() -> bytes:
    return _meta(NFT_META_L4PROTO) + _equals(bytes([socket.IPPROTO_TCP]))


def _to_port(port: int) -> bytes:
    load = _expression(
        "payload",
        _number(NFTA_PAYLOAD_DREG, NFT_REG_1),
        _number(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER),
        _number(NFTA_PAYLOAD_OFFSET, 2),
        _number(NFTA_PAYLOAD_LEN, 2),
    )
    return load + _equals(struct.pack(">H", port))


def _return() -> bytes:
    verdict = _nested(NFTA_DATA_VERDICT, _number(NFTA_VERDICT_CODE, NFT_RETURN))
    return _expression(
        "immediate", _number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT), _nested(NFTA_IMMEDIATE_DATA, verdict)
    )


def _redirect(port: int) -> bytes:
    value = _attribute(NFTA_DATA_VALUE, struct.pack(">H", port))
    load = _expression(
        "immediate", _number(NFTA_IMMEDIATE_DREG, NFT_REG_1), _nested(NFTA_IMMEDIATE_DATA, value)
    )
    return load + _expression("redir", _number(NFTA_REDIR_REG_PROTO_MIN, NFT_REG_1))


def _own(options: Capture) -> bytes:
    """Matches Envoy's own connections. Mark and user are in the machine's byte order."""
    if options.uid is not None:
        return _meta(NFT_META_SKUID) + _equals(struct.pack("=I", options.uid))
    if options.mark is not None:
        return _meta(NFT_META_MARK) + _equals(struct.pack("=I", options.mark))
    raise CaptureError("capture needs a mark or a user to tell Envoy's own connections by")


def _rule(chain: str, *expressions: bytes) -> bytes:
    return (
        _text(NFTA_RULE_TABLE, TABLE)
        + _text(NFTA_RULE_CHAIN, chain)
        + _nested(NFTA_RULE_EXPRESSIONS, *expressions)
    )


def _chain(name: str, hook: int) -> bytes:
    return (
        _text(NFTA_CHAIN_TABLE, TABLE)
        + _text(NFTA_CHAIN_NAME, name)
        + _nested(
            NFTA_CHAIN_HOOK,
            _number(NFTA_HOOK_HOOKNUM, hook),
            _number(NFTA_HOOK_PRIORITY, NF_IP_PRI_NAT_DST),
        )
        + _text(NFTA_CHAIN_TYPE, "nat")
    )


def inbound_rules(options: Capture) -> list[bytes]:
    """The inbound chain, in order. The first match that returns wins."""
    excluded = sorted({ports.READY, *options.exclude_inbound})
    return [
        _rule(INBOUND_CHAIN, _meta(NFT_META_IIFNAME), _equals(LOOPBACK), _return()),
        *(_rule(INBOUND_CHAIN, _is_tcp(), _to_port(port), _return()) for port in excluded),
        _rule(INBOUND_CHAIN, _is_tcp(), _redirect(options.inbound_port)),
    ]


def outbound_rules(options: Capture) -> list[bytes]:
    """The outbound chain, in order."""
    excluded = sorted(set(options.exclude_outbound))
    return [
        _rule(OUTBOUND_CHAIN, _own(options), _return()),
        _rule(OUTBOUND_CHAIN, _meta(NFT_META_OIFNAME), _equals(LOOPBACK), _return()),
        *(_rule(OUTBOUND_CHAIN, _is_tcp(), _to_port(port), _return()) for port in excluded),
        _rule(OUTBOUND_CHAIN, _is_tcp(), _redirect(options.outbound_port)),
    ]


def build_batch(options: Capture) -> tuple[bytes, int]:
    """The netlink batch and how many of its messages the kernel acknowledges (sequence 1..n)."""
    table = _text(NFTA_TABLE_NAME, TABLE)
    create = NLM_F_CREATE
    append = NLM_F_CREATE | NLM_F_APPEND
    messages: list[tuple[int, int, bytes]] = [
        # Deleting a table that is not there fails, creating one that is there does not: create, delete,
        # create.
        (NFT_MSG_NEWTABLE, create, table),
        (NFT_MSG_DELTABLE, 0, table),
        (NFT_MSG_NEWTABLE, create, table),
        (NFT_MSG_NEWCHAIN, create, _chain(INBOUND_CHAIN, NF_INET_PRE_ROUTING)),
        (NFT_MSG_NEWCHAIN, create, _chain(OUTBOUND_CHAIN, NF_INET_LOCAL_OUT)),
        *((NFT_MSG_NEWRULE, append, rule) for rule in inbound_rules(options)),
        *((NFT_MSG_NEWRULE, append, rule) for rule in outbound_rules(options)),
    ]
    numbers = count(1)
    body = b"".join(
        _message(
            NFNL_SUBSYS_NFTABLES << 8 | kind, flags | NLM_F_ACK, next(numbers), NFPROTO_INET, 0, attributes
        )
        for kind, flags, attributes in messages
    )
    begin = _message(NFNL_MSG_BATCH_BEGIN, 0, 0, 0, NFNL_SUBSYS_NFTABLES, b"")
    end = _message(NFNL_MSG_BATCH_END, 0, len(messages) + 1, 0, NFNL_SUBSYS_NFTABLES, b"")
    return begin + body + end, len(messages)


def _message(kind: int, flags: int, number: int, family: int, resource: int, attributes: bytes) -> bytes:
    header = struct.pack("=IHHII", 20 + len(attributes), kind, flags | NLM_F_REQUEST, number, 0)
    return header + struct.pack(">BBH", family, 0, resource) + attributes


def _acknowledgements(data: bytes) -> Iterable[tuple[int, int]]:
    """(sequence, errno) of every acknowledgement in a datagram."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind, _, number, _ = struct.unpack_from("=IHHII", data, offset)
        if length < 16:
            return
        if kind == NLMSG_ERROR:
            (error,) = struct.unpack_from("=i", data, offset + 16)
            yield number, -error
        offset += length + -length % 4


def install(options: Capture) -> None:
    """Installs the rules in this network namespace. Raises CaptureError."""
    batch, expected = build_batch(options)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as link:
            link.settimeout(ANSWER_SECONDS)
            link.bind((0, 0))
            link.sendto(batch, (0, 0))
            done = 0
            while done < expected:
                for number, error in _acknowledgements(link.recv(65536)):
                    if error:
                        raise CaptureError(_explain(number, error))
                    done += 1
    except TimeoutError as error:
        raise CaptureError("the kernel did not answer the nftables batch") from error
    except OSError as error:
        raise CaptureError(f"netlink: {error}") from error


def _explain(number: int, error: int) -> str:
    text = f"nftables refused message {number}: {os.strerror(error)}"
    if error in {1, 13}:
        return f"{text}; the container needs the capability NET_ADMIN"
    return text


def _port_list(text: str) -> tuple[int, ...]:
    numbers = tuple(_port(part) for part in text.split(",") if part.strip())
    return tuple(sorted(set(numbers)))


def _port(text: str) -> int:
    if not text.strip().isascii() or not text.strip().isdigit() or not 0 < int(text) <= 0xFFFF:
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is not a port")
    return int(text)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="enforcer capture", description="Redirects this pod's TCP to its Envoy."
    )
    own = parser.add_mutually_exclusive_group()
    own.add_argument("--exempt-mark", type=int, help=f"socket mark of Envoy's own connections ({ports.MARK})")
    own.add_argument("--exempt-uid", type=int, help="user of Envoy, instead of a mark")
    parser.add_argument("--inbound-port", type=_port, default=ports.INBOUND)
    parser.add_argument("--outbound-port", type=_port, default=ports.OUTBOUND)
    parser.add_argument("--exclude-inbound-ports", type=_port_list, default=(), metavar="PORT,...")
    parser.add_argument("--exclude-outbound-ports", type=_port_list, default=(), metavar="PORT,...")
    given = parser.parse_args(arguments)
    mark = given.exempt_mark if given.exempt_mark is not None else ports.MARK
    install(
        Capture(
            inbound_port=given.inbound_port,
            outbound_port=given.outbound_port,
            mark=None if given.exempt_uid is not None else mark,
            uid=given.exempt_uid,
            exclude_inbound=given.exclude_inbound_ports,
            exclude_outbound=given.exclude_outbound_ports,
        )
    )
    return 0
