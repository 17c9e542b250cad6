"""Netlink by hand: messages, attributes, and a socket that waits for the kernel's acknowledgement.

Small on purpose: PID 1 forks for every container, and its size is what a fork costs.
"""

import os
import socket
import struct
from collections.abc import Sequence
from typing import Self

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

REQUEST = 0x1
ACK = 0x4
EXCLUSIVE = 0x200
CREATE = 0x400
APPEND = 0x800

_ERROR = 2
_NESTED = 0x8000
_BATCH_BEGIN = 0x10
_BATCH_END = 0x11
_NFTABLES = 10
_HEADER = struct.Struct("IHHII")
# A netlink message must fit the socket's send buffer; this fits the one every kernel allows.
_BATCH_BYTES = 150_000
_SOL_NETLINK = 270
_NETLINK_EXT_ACK = 11


class NetlinkError(OSError):
    """The kernel refused a message; `filename` says which."""


def attribute(kind: int, value: bytes | str | int) -> bytes:
    """A string gets its NUL; a number is 32 bits in this machine's byte order."""
    if isinstance(value, str):
        value = value.encode() + b"\0"
    elif isinstance(value, int):
        value = struct.pack("I", value)
    return struct.pack("HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(attributes))


def message(kind: int, flags: int, body: bytes) -> bytes:
    """Sequence and port are left 0; the socket fills the sequence in."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags | REQUEST, 0, 0) + body


def nft_message(kind: int, flags: int, family: int, *attributes: bytes) -> bytes:
    return message(_NFTABLES << 8 | kind, flags, struct.pack("!BBH", family, 0, 0) + b"".join(attributes))


class NetlinkSocket:
    """Belongs to the network namespace it was made in, wherever its user goes."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def request(self, kind: int, flags: int, body: bytes, *, about: str) -> None:
        """One message. Raises NetlinkError with `about` where the kernel refuses it."""
        self._send([message(kind, flags | ACK, body)], about)

    def commit(self, messages: Sequence[bytes], *, about: str) -> None:
        """One nftables transaction: all of it or, with a NetlinkError, nothing."""
        body = struct.pack("!BBH", socket.AF_UNSPEC, 0, _NFTABLES)
        begin, end = message(_BATCH_BEGIN, 0, body), message(_BATCH_END, 0, body)
        # The last one asks for the acknowledgement; errors of others come before it.
        size, kind, flags, _sequence, _port = _HEADER.unpack_from(messages[-1])
        last = _HEADER.pack(size, kind, flags | ACK, 0, 0) + messages[-1][_HEADER.size :]
        self._send([begin, *messages[:-1], last, end], about, final=-2)

    def _send(self, messages: Sequence[bytes], about: str, *, final: int = -1) -> None:
        numbered = []
        for sent in messages:
            self._sequence += 1
            size, kind, flags, _sequence, port = _HEADER.unpack_from(sent)
            numbered.append(_HEADER.pack(size, kind, flags, self._sequence, port) + sent[_HEADER.size :])
        self._socket.send(b"".join(numbered))
        self._await(self._sequence + 1 + final, self._sequence - len(messages), about)

    def _await(self, final: int, before: int, about: str) -> None:
        while True:
            data = self._socket.recv(65536)
            while data:
                size, kind, flags, sequence, _port = _HEADER.unpack_from(data)
                payload, data = data[_HEADER.size : size], data[size + (-size % 4) :]
                if kind != _ERROR or sequence <= before:
                    continue  # an answer to an earlier, failed request
                (code,) = struct.unpack_from("i", payload)
                if code:
                    raise NetlinkError(-code, os.strerror(-code) + _explanation(payload, flags), about)
                if sequence == final:
                    return


def _explanation(payload: bytes, flags: int) -> str:
    """The kernel's own words, where it has any: attribute 1 behind the error."""
    if not flags & 0x200:
        return ""
    original = struct.unpack_from("I", payload, 4)[0]
    at = 4 + (_HEADER.size if flags & 0x100 else original + (-original % 4))
    while at + 4 <= len(payload):
        size, kind = struct.unpack_from("HH", payload, at)
        if kind & 0x3FFF == 1:
            return ": " + payload[at + 4 : at + size].rstrip(b"\0").decode()
        at += max(4, size + (-size % 4))
    return ""


def batches(messages: Sequence[bytes]) -> list[list[bytes]]:
    """Cuts a long list into transactions that fit a message."""
    cut: list[list[bytes]] = [[]]
    size = 0
    for part in messages:
        if cut[-1] and size + len(part) > _BATCH_BYTES:
            cut.append([])
            size = 0
        cut[-1].append(part)
        size += len(part)
    return cut
