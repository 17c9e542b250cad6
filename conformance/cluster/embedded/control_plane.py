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

from conformance.cluster.embedded import pki
from conformance.cluster.embedded.admission import Admission
from conformance.cluster.embedded.api import create_app
from conformance.cluster.embedded.auth import MASTERS, Authenticator, User
from conformance.cluster.embedded.client import ApiClient, ApiClientError
from conformance.cluster.embedded.controllers.deployments import DeploymentController
from conformance.cluster.embedded.controllers.endpoints import EndpointsController
from conformance.cluster.embedded.controllers.garbage import GarbageCollector
from conformance.cluster.embedded.controllers.namespaces import NamespaceController
from conformance.cluster.embedded.controllers.proxy import ServiceProxy
from conformance.cluster.embedded.controllers.shared import SharedInformers
from conformance.cluster.embedded.kubelet import Kubelet
from conformance.cluster.embedded.node import NodeSockets, report_ready
from conformance.cluster.embedded.rbac_bootstrap import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES
from conformance.cluster.embedded.runtime import Runtime
from conformance.cluster.embedded.spec import STATE
from conformance.cluster.embedded.storage import Storage

KUBECONFIG = f"{STATE}/kubeconfig"
ISSUER = "https://kubernetes.default.svc.cluster.local"
API_SERVICE_IP = "10.96.0.1"
API_ENDPOINT = ("169.254.1.1", 6443)

Object = dict[str, Any]


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
    kubelet = Kubelet(client=client, runtime=runtime)
    app = create_app(storage=storage, authenticator=authenticator, admission=admission, streams=kubelet)

    # handler_cancellation: a watch or a log stream ends with its client, not at its next write.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.SockSite(runner, sockets.host, ssl_context=tls, backlog=1024).start()
    await web.SockSite(runner, sockets.node, ssl_context=tls, backlog=1024).start()
    await web.UnixSite(runner, str(state / "api.sock")).start()

    for path, item in initial_objects():
        await create_once(client, path, item)

    port = sockets.host.getsockname()[1]
    kubeconfig = Path(KUBECONFIG)
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(
        pki.kubeconfig(server=f"https://127.0.0.1:{port}", ca=authority.certificate, token=admin_token)
    )
    informers = SharedInformers(client)
    parts: list[Coroutine[Any, Any, None]] = [
        kubelet.run(),
        DeploymentController(client, informers).run(),
        NamespaceController(client, informers, ca_certificate=authority.certificate).run(),
        GarbageCollector(client, informers).run(),
        EndpointsController(client, informers).run(),
        ServiceProxy(informers, runtime).run(),
        informers.run(),
    ]
    # One part's failure ends the control plane, and with it the node: never a half-running cluster.
    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(part)
        report_ready(sockets, kubeconfig=KUBECONFIG)


async def create_once(client: ApiClient, path: str, item: Object) -> None:
    """Create an object unless it is there."""
    try:
        await client.create(path, item)
    except ApiClientError as error:
        if error.code != 409:
            raise


def initial_objects() -> list[tuple[str, Object]]:
    """(list path, object): what stands in every new Kubernetes cluster."""
    namespaces = [
        ("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for name in ("default", "kube-system", "kube-public")
    ]
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    roles = [(f"{rbac}/clusterroles", role) for role in CLUSTER_ROLES]
    bindings = [(f"{rbac}/clusterrolebindings", binding) for binding in CLUSTER_ROLE_BINDINGS]
    address, port = API_ENDPOINT
    # Without a selector: no controller touches its endpoints.
    service: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {
            "clusterIP": API_SERVICE_IP,
            "ports": [{"name": "https", "port": 443, "targetPort": port, "protocol": "TCP"}],
        },
    }
    endpoints: Object = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default"},
        "subsets": [{"addresses": [{"ip": address}], "ports": [{"name": "https", "port": port}]}],
    }
    return [
        *namespaces,
        *roles,
        *bindings,
        ("/api/v1/namespaces/default/services", service),
        ("/api/v1/namespaces/default/endpoints", endpoints),
    ]
