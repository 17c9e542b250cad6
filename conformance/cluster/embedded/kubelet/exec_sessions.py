"""An exec process as the API server's exec endpoint sees it."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import suppress

from conformance.cluster.embedded.node.runtime import Process, RuntimeFailure

STDOUT = 1
STDERR = 2
READ_BYTES = 64 * 1024
QUEUED_CHUNKS = 16  # per session; a client that does not read stops the process by a full pipe


class RuntimeExecSession:
    """One process started by exec, with its streams."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """(1 stdout | 2 stderr, chunk) until both streams have ended."""
        chunks: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(QUEUED_CHUNKS)

        async def read(channel: int, stream: asyncio.StreamReader) -> None:
            while chunk := await stream.read(READ_BYTES):
                await chunks.put((channel, chunk))
            await chunks.put((channel, b""))

        readers = [
            asyncio.create_task(read(STDOUT, self._process.stdout)),
            asyncio.create_task(read(STDERR, self._process.stderr)),
        ]
        try:
            open_streams = len(readers)
            while open_streams:
                channel, chunk = await chunks.get()
                if chunk:
                    yield channel, chunk
                else:
                    open_streams -= 1
        finally:
            for reader in readers:
                reader.cancel()

    async def write(self, data: bytes) -> None:
        """Give the process input; what comes after it closed its stdin is dropped, as in a pipe to nobody."""
        stdin = self._process.stdin
        if stdin is None or stdin.is_closing():
            return
        try:
            stdin.write(data)
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            stdin.close()

    async def close_stdin(self) -> None:
        """End the process' input."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def resize(self, *, columns: int, rows: int) -> None:
        """Tell the process the size of the client's terminal."""
        await self._process.resize(columns=columns, rows=rows)

    async def wait(self) -> int:
        """The exit code; 128+n for signal n."""
        return await self._process.wait()

    async def kill(self) -> None:
        """End the process now."""
        with suppress(RuntimeFailure):  # the runtime has gone, and every process with it
            await self._process.signal(signal.SIGKILL)
