"""Container logs: kept in memory, bounded, timestamped by line, followed by any number of readers."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime

MAX_BYTES = 8 * 1024 * 1024  # of one container instance; the oldest quarter goes when it is full
MAX_LINE_BYTES = 16 * 1024  # a longer line is stored in pieces, as container runtimes do
READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)  # not kw_only: one is made for every line of every container
class Entry:
    """One line with its newline; a piece of a long line, or an unfinished last one, has none."""

    nanoseconds: int  # since the epoch
    text: bytes
    starts_line: bool

    def shown(self, *, timestamps: bool) -> bytes:
        """The entry as a log reader sees it."""
        if not (timestamps and self.starts_line):
            return self.text
        seconds, fraction = divmod(self.nanoseconds, 1_000_000_000)
        moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{moment}.{fraction:09d}Z ".encode() + self.text


class ContainerLog:
    """What one instance of a container wrote, stdout and stderr in the order they were read."""

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: list[Entry] = []
        self._dropped = 0  # entries that are no longer kept; the number of the first kept one
        self._bytes = 0
        self._closed = False
        self._readers: set[asyncio.Event] = set()

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._closed

    async def pump(self, stream: asyncio.StreamReader) -> None:
        """Store what a stream says until it ends."""
        pending = b""
        starts_line = True
        while chunk := await stream.read(READ_BYTES):
            now = time.time_ns()
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                starts_line = self._store(now, line + b"\n", starts_line=starts_line)
            while len(pending) > MAX_LINE_BYTES:
                starts_line = self._store(now, pending[:MAX_LINE_BYTES], starts_line=starts_line)
                pending = pending[MAX_LINE_BYTES:]
            self._wake()
        if pending:
            self._store(time.time_ns(), pending, starts_line=starts_line)
            self._wake()

    def close(self) -> None:
        """End the log: followers see its end."""
        self._closed = True
        self._wake()

    def tail(self, *, lines: int, max_bytes: int) -> str:
        """The last lines as text, at most so many bytes."""
        start = position_of_tail(self._entries, lines)
        text = b"".join(entry.text for entry in self._entries[start:])
        return text[-max_bytes:].decode(errors="replace")

    async def read(
        self,
        *,
        follow: bool,
        timestamps: bool = False,
        tail_lines: int | None = None,
        since_seconds: float | None = None,
        limit_bytes: int | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Chunks of whole entries; with follow until the log is closed.

        A reader that falls behind by more than the log keeps loses the lines in between.
        """
        oldest = 0 if since_seconds is None else time.time_ns() - int(since_seconds * 1_000_000_000)
        start = 0 if tail_lines is None else position_of_tail(self._entries, tail_lines)
        position = self._dropped + start
        left = limit_bytes
        woken = asyncio.Event()
        self._readers.add(woken)
        try:
            while True:
                woken.clear()
                ended = self._closed
                entries = self._entries[max(0, position - self._dropped) :]
                position = self._dropped + len(self._entries)
                chunk = b"".join(
                    entry.shown(timestamps=timestamps) for entry in entries if entry.nanoseconds >= oldest
                )
                if left is not None:
                    chunk = chunk[:left]
                    left -= len(chunk)
                if chunk:
                    yield chunk
                if ended or not follow or left == 0:
                    return
                await woken.wait()
        finally:
            self._readers.discard(woken)

    def _store(self, now: int, text: bytes, *, starts_line: bool) -> bool:
        """Keep one entry; whether the next one starts a line."""
        self._entries.append(Entry(now, text, starts_line))
        self._bytes += len(text)
        if self._bytes > self._max_bytes:
            self._forget_oldest()
        return text.endswith(b"\n")

    def _forget_oldest(self) -> None:
        kept = self._max_bytes * 3 // 4
        forgotten = 0
        while self._bytes > kept and forgotten < len(self._entries) - 1:
            self._bytes -= len(self._entries[forgotten].text)
            forgotten += 1
        del self._entries[:forgotten]
        self._dropped += forgotten

    def _wake(self) -> None:
        for reader in self._readers:
            reader.set()


def position_of_tail(entries: list[Entry], lines: int) -> int:
    """Where the last so many lines begin."""
    position = len(entries)
    while position > 0 and lines > 0:
        position -= 1
        if entries[position].starts_line:
            lines -= 1
    return position
