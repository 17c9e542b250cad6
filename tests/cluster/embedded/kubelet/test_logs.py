"""Container logs: order, bounds, tails, followers."""

import asyncio
import re
from typing import Any

import pytest

from conformance.cluster.embedded.kubelet.logs import MAX_LINE_BYTES, ContainerLog


async def filled(*chunks: bytes, max_bytes: int = 1 << 20) -> ContainerLog:
    log = ContainerLog(max_bytes=max_bytes)
    stream = asyncio.StreamReader()
    for chunk in chunks:
        stream.feed_data(chunk)
    stream.feed_eof()
    await log.pump(stream)
    log.close()
    return log


async def text_of(log: ContainerLog, **options: Any) -> bytes:
    return b"".join([chunk async for chunk in log.read(**{"follow": False, **options})])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, b"one\ntwo\nthree"),
        ({"tail_lines": 2}, b"two\nthree"),
        ({"tail_lines": 0}, b""),
        ({"limit_bytes": 5}, b"one\nt"),
        ({"since_seconds": 60}, b"one\ntwo\nthree"),
        ({"follow": True}, b"one\ntwo\nthree"),
    ],
)
def test_what_was_written_is_read(options: dict[str, Any], expected: bytes) -> None:
    async def scenario() -> bytes:
        return await text_of(await filled(b"one\ntw", b"o\nthree"), **options)

    assert asyncio.run(scenario()) == expected


def test_old_lines_are_left_out_by_since() -> None:
    async def scenario() -> bytes:
        return await text_of(await filled(b"one\n"), since_seconds=-1)

    assert asyncio.run(scenario()) == b""


def test_timestamps_stand_before_lines_only() -> None:
    async def scenario() -> bytes:
        return await text_of(await filled(b"a" * (MAX_LINE_BYTES + 3) + b"\nshort\n"), timestamps=True)

    stamp = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z "
    pattern = stamp + b"a{%d}\n" % (MAX_LINE_BYTES + 3) + stamp + b"short\n"
    assert re.fullmatch(pattern, asyncio.run(scenario()))


def test_a_long_line_counts_as_one_for_the_tail() -> None:
    async def scenario() -> bytes:
        log = await filled(b"first\n", b"a" * (3 * MAX_LINE_BYTES) + b"\n")
        return await text_of(log, tail_lines=1)

    assert asyncio.run(scenario()) == b"a" * (3 * MAX_LINE_BYTES) + b"\n"


def test_the_oldest_lines_go_when_the_log_is_full() -> None:
    async def scenario() -> bytes:
        return await text_of(await filled(*[b"%04d\n" % number for number in range(1000)], max_bytes=500))

    kept = asyncio.run(scenario()).split()
    assert kept[-1] == b"0999"
    assert 50 <= len(kept) <= 100
    assert kept == [b"%04d" % number for number in range(1000 - len(kept), 1000)]


def test_followers_see_every_line_until_the_end() -> None:
    async def scenario() -> None:
        log, stream = ContainerLog(), asyncio.StreamReader()
        pump = asyncio.create_task(log.pump(stream))
        stream.feed_data(b"early\n")

        async def follow(**options: Any) -> bytes:
            return await text_of(log, follow=True, **options)

        followers = [asyncio.create_task(follow()), asyncio.create_task(follow(limit_bytes=8))]
        await asyncio.sleep(0)
        stream.feed_data(b"late\nunfinished")
        stream.feed_eof()
        await pump
        log.close()
        assert await asyncio.gather(*followers) == [b"early\nlate\nunfinished", b"early\nla"]

    asyncio.run(scenario())
