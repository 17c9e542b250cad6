"""The status service: what has been processed, and what each sidecar has acknowledged. On loopback only.

`/status` answers one JSON line, `/follow` one at once and one at each change.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarStatus:
    """`snapshot`: the newest one this sidecar is known to run; 0 for none."""

    snapshot: int
    in_sync: bool
    nack: str | None
    connected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One line. `objects`: `Kind/namespace/name` -> resourceVersion processed. `nacks`: since the start."""

    snapshot: int
    objects: Mapping[str, str]
    sidecars: Mapping[str, SidecarStatus]
    rejected: Mapping[str, str]
    nacks: int

    def line(self) -> bytes:
        # By hand: dataclasses.asdict copies every text of it, at each change.
        content = {
            "snapshot": self.snapshot,
            "objects": self.objects,
            "sidecars": {
                node: {
                    "snapshot": sidecar.snapshot,
                    "in_sync": sidecar.in_sync,
                    "nack": sidecar.nack,
                    "connected": sidecar.connected,
                }
                for node, sidecar in self.sidecars.items()
            },
            "rejected": self.rejected,
            "nacks": self.nacks,
        }
        return json.dumps(content, separators=(",", ":"), sort_keys=True).encode() + b"\n"


LINE_SECONDS = 0.01


class Board:
    """Holds the newest status for its readers. `read` is called only when somebody looks."""

    def __init__(self, read: Callable[[], Status]) -> None:
        self._read = read
        self._followers: set[asyncio.Event] = set()

    def changed(self) -> None:
        for follower in self._followers:
            follower.set()

    def create_app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/status", self._status)
        app.router.add_get("/follow", self._follow)
        return app

    async def _status(self, _: web.Request) -> web.Response:
        return web.Response(body=self._read().line(), content_type="application/json")

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        await response.prepare(request)
        wake = asyncio.Event()
        wake.set()
        self._followers.add(wake)
        last = b""
        try:
            while True:
                await wake.wait()
                wake.clear()
                line = self._read().line()
                if line != last:
                    last = line
                    await response.write(line)
                    # One push is answered by many sidecars: what they say in this time is one line.
                    await asyncio.sleep(LINE_SECONDS)
        except ConnectionError:
            # The reader went away.
            return response
        finally:
            self._followers.discard(wake)
