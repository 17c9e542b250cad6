"""The control plane of the embedded cluster: one process, one event loop, composed here and nowhere else.

API server  <- the only one that touches the storage
kubelet, controllers, service rules: its clients, over a Unix socket
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from conformance.cluster.embedded.apiserver import pki
from conformance.cluster.embedded.apiserver.admission import Admission
from conformance.cluster.embedded.apiserver.api import create_app
from conformance.cluster.embedded.apiserver.auth import MASTERS, Authenticator, User
from conformance.cluster.embedded.apiserver.bootstrap import bootstrap
from conformance.cluster.embedded.apiserver.storage import Storage
from conformance.cluster.embedded.client import ApiClient
from conformance.cluster.embedded.controllers.deployments import DeploymentController
from conformance.cluster.embedded.controllers.endpoints import EndpointsController
from conformance.cluster.embedded.controllers.garbage import GarbageCollector
from conformance.cluster.embedded.controllers.namespaces import NamespaceController
from conformance.cluster.embedded.controllers.proxy import ServiceProxy
from conformance.cluster.embedded.controllers.quotas import QuotaController
from conformance.cluster.embedded.controllers.shared import SharedInformers
from conformance.cluster.embedded.kubelet.kubelet import Kubelet
from conformance.cluster.embedded.node.node import NodeSockets, report_ready
from conformance.cluster.embedded.node.runtime import Runtime
from conformance.cluster.embedded.node.spec import STATE

KUBECONFIG = f"{STATE}/kubeconfig"
ISSUER = "https://kubernetes.default.svc.cluster.local"
API_ADDRESS = "169.254.1.1"
"""On the node's end of every pod's link: where pods reach the API behind its Service."""


def main(sockets: NodeSockets, runtime_socket: socket.socket, _options: Mapping[str, Any]) -> None:
    """The node's entry: serve until the node ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(serve(sockets, runtime_socket))


async def serve(sockets: NodeSockets, runtime_socket: socket.socket) -> None:
    """Bring every part up, tell the starter, run until one part fails."""
    state = Path(STATE)
    admin_token, component_token = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    authority = pki.Authority.create()
    tls = pki.server_context(authority.issue_server(), state)

    storage = Storage()
    bootstrap(storage, address=API_ADDRESS, port=sockets.node.getsockname()[1])
    authenticator = Authenticator(
        static_tokens={
            admin_token: User(name="kubernetes-admin", groups=(MASTERS,)),
            component_token: User(name="system:embedded-node", groups=(MASTERS,)),
        },
        find=storage.get,
        issuer=ISSUER,
    )
    admission = Admission(list_objects=storage.all, find=storage.get)
    client = ApiClient(socket=state / "api.sock", token=component_token)
    runtime = Runtime(runtime_socket)
    informers = SharedInformers(client)
    ipv6 = not sockets.no_ipv6
    kubelet = Kubelet(client=client, informers=informers, runtime=runtime, ipv6=ipv6)
    app = create_app(
        storage=storage, authenticator=authenticator, admission=admission, streams=kubelet, ipv6=ipv6
    )

    # handler_cancellation: a watch or a log stream ends with its client, not at its next write.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.SockSite(runner, sockets.host, ssl_context=tls, backlog=1024).start()
    await web.SockSite(runner, sockets.node, ssl_context=tls, backlog=1024).start()
    await web.UnixSite(runner, str(state / "api.sock")).start()

    port = sockets.host.getsockname()[1]
    kubeconfig = Path(KUBECONFIG)
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(
        pki.kubeconfig(server=f"https://127.0.0.1:{port}", ca=authority.certificate, token=admin_token)
    )
    parts: list[Coroutine[Any, Any, None]] = [
        kubelet.run(),
        DeploymentController(client, informers).run(),
        NamespaceController(client, informers, ca_certificate=authority.certificate).run(),
        GarbageCollector(client, informers).run(),
        EndpointsController(client, informers).run(),
        QuotaController(client, informers).run(),
        ServiceProxy(informers, runtime).run(),
        informers.run(),
    ]
    # One part's failure ends the control plane, and with it the node: never a half-running cluster.
    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(part)
        report_ready(sockets, kubeconfig=KUBECONFIG)
