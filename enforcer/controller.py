"""The control plane: composes watch, world, configuration service, webhooks, status and conditions.

Events are taken in batches of whatever is queued, the first of a burst without a delay: one batch, one
snapshot number. Nothing is served before everything has been listed once; from then on API errors leave the
last known state in force.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from enforcer import conditions, control_plane, envoy_binary, identity, ports, tokens, watch
from enforcer.certificate import Authority, Certificate, issue_server, make_certificate, server_context
from enforcer.hooks import Hooks
from enforcer.kube import Kube, KubeError
from enforcer.mesh import MeshOptions, load_options
from enforcer.rollout import Rollout, resolve
from enforcer.status import Board
from enforcer.tokens import Caller
from enforcer.watch import Event, Listed, Watcher
from enforcer.webhook import create_app, create_health_app
from enforcer.world import KINDS, World
from enforcer.xds import secrets
from enforcer.xds.secrets import Secrets
from enforcer.xds.server import Ads
from enforcer.xds.session import Session

log = logging.getLogger("enforcer")

BURST_SECONDS = 0.025

MESH_FILE = Path("/etc/authz/mesh.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the controller listens, as host and port; tests choose port 0."""

    xds: tuple[str, int] = ("0.0.0.0", ports.XDS)
    webhook: tuple[str, int] = ("0.0.0.0", ports.WEBHOOK)
    health: tuple[str, int] = ("0.0.0.0", ports.HEALTH)
    status: tuple[str, int] = ("127.0.0.1", ports.STATUS)


class Controller:
    """Lives in one asyncio loop; `run` returns when `stop` is called."""

    def __init__(self, api: Kube, options: MeshOptions, addresses: Addresses) -> None:
        self._api = api
        self._options = options
        self._addresses = addresses
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._stopping = asyncio.Event()
        self._serving = False
        self._certificate: Certificate = make_certificate((options.webhook_service,))
        self._hooks = Hooks(api, options, self._certificate.authority)
        self._runners: list[web.AppRunner] = []
        self.world = World(options)
        self._authority: Authority | None = None
        self.ads = Ads(
            authenticate=self._authenticate,
            resolve=lambda session: resolve(self.world, session),
            issue=self._issue,
            changed=self._answered,
        )
        self._rollout = Rollout(self.world, self.ads)
        self.board = Board(self._rollout.status)
        self.writer = conditions.Writer(api, self._rollout.wanted)
        self.bound: dict[str, int] = {}
        """The ports really bound, by the field names of Addresses."""

    def stop(self) -> None:
        self._stopping.set()

    @property
    def ready(self) -> bool:
        return self._serving and not self._hooks.missing

    def _waiting_for(self) -> str:
        if not self.world.synced:
            return "waiting for the first list of every kind"
        if not self._serving:
            return "starting to serve"
        missing = ", ".join(sorted(map(str, self._hooks.missing)))
        return f"waiting to be trusted by {missing}"

    async def run(self) -> None:
        """Runs until stopped. Raises OSError or RuntimeError where an address is taken."""
        loop = asyncio.get_running_loop()
        emit = self._events.put_nowait

        def hand_over(event: Event) -> None:
            try:
                loop.call_soon_threadsafe(emit, event)
            except RuntimeError:
                # The loop is closed: the process is ending.
                return

        watchers = [Watcher(self._api, kind, hand_over) for kind in watch.ALL]
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._serve_health()
            for watcher in watchers:
                watcher.start()
            while not self.world.synced:
                if await self._stopped_before(self._take()):
                    return
            if await self._stopped_before(self._keep_authority()):
                return
            await self._serve()
            tasks = [
                asyncio.create_task(self._process(), name="events"),
                asyncio.create_task(self.writer.run(), name="conditions"),
                asyncio.create_task(self._hooks.run(), name="trust"),
            ]
            self._after_batch()
            stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
            done, _ = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            for task in done - {stopping}:
                # A task that ended by itself has failed: better a restart than half a controller.
                task.result()
        finally:
            self._serving = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.ads.stop()
            for runner in self._runners:
                await runner.cleanup()
            await asyncio.gather(*(asyncio.to_thread(watcher.stop) for watcher in watchers))

    async def _stopped_before(self, work: Any) -> bool:
        """Awaits the work unless the controller is stopped first; whether it was."""
        task = asyncio.create_task(work)
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if task.done():
            task.result()
            return False
        task.cancel()
        return True

    async def _keep_authority(self) -> None:
        """Raises AuthorityError."""
        delays = watch.backoff()
        while self._authority is None:
            try:
                self._authority = await asyncio.to_thread(
                    identity.keep_authority, self._api, self._options.root_namespace
                )
            except KubeError as error:
                log.warning("the mesh's authority: %s", error)
                await asyncio.sleep(next(delays))

    @property
    def authority(self) -> Authority:
        """The mesh's; known before anything is served."""
        if self._authority is None:
            raise RuntimeError("nothing is served before the authority is known")
        return self._authority

    async def _serve_health(self) -> None:
        await self._listen(
            "health",
            create_health_app(ready=lambda: self.ready, reason=self._waiting_for),
            self._addresses.health,
        )
        await self._listen("status", self.board.create_app(), self._addresses.status)

    async def _serve(self) -> None:
        host, port = self._addresses.xds
        certificate = issue_server(self.authority, (control_plane.host_of(self._options.xds_address),))
        self.bound["xds"] = await self.ads.start(f"{host}:{port}", certificate)
        root = self.authority.pem.decode()
        app = create_app(options=self._options, root=root, ready=lambda: self._serving)
        await self._listen("webhook", app, self._addresses.webhook, tls=server_context(self._certificate))
        self._serving = True
        log.info("serving %d workloads", len(self.world.workloads))

    async def _listen(
        self, name: str, app: web.Application, address: tuple[str, int], *, tls: Any = None
    ) -> None:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, *address, ssl_context=tls, backlog=1024)
        await site.start()
        self.bound[name] = runner.addresses[0][1]

    async def _process(self) -> None:
        while True:
            await self._take()
            self._after_batch()
            # The first change is served at once; of a burst, what comes in this time is served together.
            await asyncio.sleep(BURST_SECONDS)

    async def _take(self) -> None:
        """Applies every event that is queued, waiting for the first."""
        self._apply(await self._events.get())
        while not self._events.empty():
            self._apply(self._events.get_nowait())

    def _apply(self, event: Event) -> None:
        kind = event.kind if isinstance(event, Listed) else event.key.kind
        if kind in KINDS:
            self.world.apply(event)
            return
        self._hooks.apply(event)

    def _after_batch(self) -> None:
        self._rollout.advance()
        self.ads.refresh()
        self._answered()

    def _answered(self) -> None:
        """A sidecar or the world moved: the status and the conditions may differ now."""
        self.board.changed()
        self.writer.notify()

    async def _authenticate(self, token: str) -> Caller:
        return await asyncio.to_thread(tokens.review, self._api, token)

    def _issue(self, session: Session) -> Secrets:
        uri = session.identity.uri(self._options.trust_domain)
        log.info("a certificate of %s for %s", uri, session.node)
        return secrets.issue(
            self.authority, uri, lifetime=timedelta(seconds=self._options.certificate_seconds)
        )


async def _run(api: Kube, options: MeshOptions, addresses: Addresses) -> None:
    controller = Controller(api, options, addresses)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, controller.stop)
    await controller.run()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="enforcer controller", description="The control plane.")
    parser.add_argument("--mesh", type=Path, default=MESH_FILE, help="mesh options (YAML)")
    parser.add_argument(
        "--kubeconfig", type=Path, help="outside a cluster; inside, the service account is used"
    )
    given = parser.parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    envoy_binary.check_messages()
    options = load_options(given.mesh)
    api = Kube.connect(given.kubeconfig)
    # What the imports left behind lives for ever: the collector need not look at it again.
    gc.freeze()
    try:
        asyncio.run(_run(api, options, Addresses()))
    finally:
        api.close()
    return 0
