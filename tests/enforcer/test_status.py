"""The status and what becomes of policies: a whole controller on a fake API."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from google.rpc.status_pb2 import Status as RpcStatus

from enforcer import status_client, watch
from enforcer.control_plane import host_of
from enforcer.controller import Addresses, Controller
from enforcer.mesh import MeshOptions
from enforcer.xds.snapshot import CLUSTER_TYPE, LISTENER_TYPE
from tests.enforcer.callers import channel_to, open_stream, token
from tests.enforcer.fake_api import FakeApi, serve

POLICY_STATUS = "/apis/security.istio.io/v1/namespaces/foo/authorizationpolicies/p/status"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sidecars may be slow here: that one was awaited is written only by a test that asks for it."""
    monkeypatch.setattr("enforcer.conditions.SETTLE_SECONDS", 600.0)


def hooks(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "webhooks": [{"name": "x", "clientConfig": {}}]}


def pod(name: str = "x", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "foo", "uid": "u", "labels": labels},
        "spec": {"containers": [{"name": "istio-proxy"}]},
        "status": {"phase": "Running"},
    }


READY = pod() | {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
"""Served before this controller came: its sidecar is awaited."""


def policy(port: str, generation: int = 1, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "foo", "generation": generation},
        "spec": {"rules": [{"to": [{"operation": {"ports": [port]}}]}], **spec},
    }


class Scene:
    """A running controller, its API, and the lines that a follower of its status reads."""

    def __init__(self, controller: Controller, api: FakeApi) -> None:
        self.controller = controller
        self.api = api
        self.lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.last: dict[str, Any] = {}

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status line from now on of which this is true."""
        async with asyncio.timeout(60):
            while True:
                line = self.last = await self.lines.get()
                if holds(line):
                    return line

    async def until_patched(self, holds: Callable[[tuple[str, Any]], bool]) -> tuple[str, Any]:
        await asyncio.to_thread(self.api.wait_for, lambda: any(holds(patch) for patch in self.api.patches))
        return next(patch for patch in self.api.patches if holds(patch))

    @contextlib.asynccontextmanager
    async def sidecar(self, node: str = "foo/x", *, refuses: str = "") -> AsyncIterator[None]:
        """A sidecar that acknowledges everything, or refuses every listener."""
        root, name = self.controller.authority.pem, host_of(MeshOptions().xds_address)
        async with channel_to(self.controller.bound["xds"], root=root, name=name) as channel:
            stream = open_stream(channel, token(node))
            for kind in (CLUSTER_TYPE, LISTENER_TYPE):
                await stream.write(DiscoveryRequest(type_url=kind, node=Node(id=node)))

            async def answer() -> None:
                while isinstance(response := await stream.read(), DiscoveryResponse):
                    request = DiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
                    if refuses and response.type_url == LISTENER_TYPE:
                        request.error_detail.CopyFrom(RpcStatus(message=refuses))
                    await stream.write(request)

            task = asyncio.create_task(answer())
            try:
                yield
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                stream.cancel()

    async def _follow(self) -> None:
        url = f"http://127.0.0.1:{self.controller.bound['status']}/follow"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            async for line in answer.content:
                self.lines.put_nowait(json.loads(line))


def run(play: Callable[[Scene], Coroutine[Any, Any, None]], *objects: tuple[watch.Kind, Any]) -> FakeApi:
    """Plays on a controller that has listed these objects and is ready."""
    options = MeshOptions()
    anywhere = ("127.0.0.1", 0)
    addresses = Addresses(xds=anywhere, webhook=anywhere, health=anywhere, status=anywhere)

    async def main(api: FakeApi, kube: Any) -> None:
        controller = Controller(kube, options, addresses)
        scene = Scene(controller, api)
        running = asyncio.create_task(controller.run())
        async with asyncio.timeout(60):
            while not controller.ready:
                await asyncio.sleep(0.005)
        follower = asyncio.create_task(scene._follow())
        try:
            await play(scene)
        finally:
            follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await follower
            controller.stop()
            await asyncio.wait_for(running, 60)

    with serve() as (api, kube):
        api.put(watch.MUTATING, hooks(options.mutating_webhook))
        api.put(watch.VALIDATING, hooks(options.validating_webhook))
        for kind, document in objects:
            api.put(kind, document)
        asyncio.run(main(api, kube))
        return api


def in_sync(line: dict[str, Any], node: str = "foo/x") -> bool:
    return bool(line["sidecars"].get(node, {}).get("in_sync"))


def processed(line: dict[str, Any], name: str = "AuthorizationPolicy/foo/p") -> int:
    return int(line["objects"].get(name, 0))


def test_a_policy_is_processed_pushed_acknowledged_and_told() -> None:
    async def play(scene: Scene) -> None:
        async with scene.sidecar():
            await scene.until(in_sync)
            scene.api.put(watch.POLICIES, policy("9000"))
            version = scene.api.version
            line = await scene.until(lambda line: processed(line) >= version and in_sync(line))
            assert line["sidecars"]["foo/x"]["snapshot"] == line["snapshot"]
            _, body = await scene.until_patched(lambda patch: patch[0] == POLICY_STATUS)
            assert body["status"]["conditions"][0]["reason"] == "Acknowledged"
            scene.api.delete(watch.POLICIES, "p", "foo")
            gone = await scene.until(lambda line: not processed(line) and in_sync(line))
            assert "AuthorizationPolicy/foo/p" not in gone["objects"]

    run(play, (watch.PODS, pod()))


def test_a_write_of_the_condition_pushes_nothing_and_is_not_repeated() -> None:
    async def play(scene: Scene) -> None:
        async with scene.sidecar():
            await scene.until(in_sync)
            await scene.until_patched(lambda patch: patch[0] == POLICY_STATUS)
            version = scene.api.version
            before = scene.controller.ads.sessions["foo/x"]._subscriptions[LISTENER_TYPE].nonce
            if processed(scene.last) < version:  # else the line of the acknowledgement told both
                await scene.until(lambda line: processed(line) >= version)
            # One more round through everything.
            scene.api.put(watch.NAMESPACES, {"metadata": {"name": "later"}})
            await scene.until(lambda line: "Namespace//later" in line["objects"])
            assert scene.controller.ads.sessions["foo/x"]._subscriptions[LISTENER_TYPE].nonce == before

    api = run(play, (watch.PODS, READY), (watch.POLICIES, policy("9000")))
    assert len([path for path, _ in api.patches if path == POLICY_STATUS]) == 1


def test_a_sidecar_that_refuses_is_shown_with_its_words() -> None:
    async def play(scene: Scene) -> None:
        async with scene.sidecar(refuses="no such filter"):
            line = await scene.until(lambda line: bool(line["sidecars"]["foo/x"]["nack"]))
            assert line["sidecars"]["foo/x"]["nack"] == "no such filter"
            assert line["sidecars"]["foo/x"]["in_sync"] is False
            assert line["nacks"] == 1
            _, body = await scene.until_patched(lambda patch: patch[0] == POLICY_STATUS)
            [told] = body["status"]["conditions"]
            assert (told["status"], told["reason"]) == ("False", "Nacked")
            assert "foo/x" in told["message"]

    run(play, (watch.PODS, READY), (watch.POLICIES, policy("9000")))


def test_a_policy_that_cannot_be_enforced_is_told_so() -> None:
    async def play(scene: Scene) -> None:
        line = await scene.until(lambda line: bool(line["rejected"]))
        assert "AuthorizationPolicy/foo/p" in line["rejected"]
        _, body = await scene.until_patched(lambda patch: patch[0] == POLICY_STATUS)
        [told] = body["status"]["conditions"]
        assert (told["status"], told["reason"], told["observedGeneration"]) == ("False", "Rejected", 1)

    run(play, (watch.POLICIES, policy("no-port")))


def test_a_peer_authentication_is_processed_acknowledged_and_told() -> None:
    strict = {
        "metadata": {"name": "default", "namespace": "foo", "generation": 1},
        "spec": {"mtls": {"mode": "STRICT"}},
    }

    async def play(scene: Scene) -> None:
        async with scene.sidecar():
            await scene.until(in_sync)
            scene.api.put(watch.PEER_AUTHENTICATIONS, strict)
            version = scene.api.version
            name = "PeerAuthentication/foo/default"
            await scene.until(lambda line: processed(line, name) >= version and in_sync(line))
            path = "/apis/security.istio.io/v1/namespaces/foo/peerauthentications/default/status"
            _, body = await scene.until_patched(lambda patch: patch[0] == path)
            assert body["status"]["conditions"][0]["reason"] == "Acknowledged"

    run(play, (watch.PODS, pod()))


def test_a_later_pod_of_the_same_name_is_not_the_one_before() -> None:
    async def play(scene: Scene) -> None:
        async with scene.sidecar():
            await scene.until(in_sync)
            again = pod()
            again["metadata"]["uid"] = "another"
            scene.api.put(watch.PODS, again)
            await scene.until(lambda line: not in_sync(line))

    run(play, (watch.PODS, pod()))


def test_the_authority_outlives_the_controller() -> None:
    authorities = []

    async def play(scene: Scene) -> None:
        authorities.append(scene.controller.authority.pem)

    api = run(play)
    secrets = api.objects["/api/v1/namespaces/authz-system/secrets"]
    [secret] = secrets.values()
    run(play, (SECRETS, secret))
    assert authorities[0] == authorities[1]


SECRETS = watch.Kind(name="Secret", path="/api/v1/namespaces/authz-system/secrets")


def test_labels_travel_like_policies() -> None:
    async def play(scene: Scene) -> None:
        async with scene.sidecar():
            first = await scene.until(in_sync)
            scene.api.put(watch.PODS, pod(version="v2"))
            version = scene.api.version
            line = await scene.until(lambda line: processed(line, "Pod/foo/x") >= version and in_sync(line))
            assert line["snapshot"] > first["snapshot"]

    selector = {"matchLabels": {"version": "v2"}}
    run(play, (watch.PODS, pod()), (watch.POLICIES, policy("9000", selector=selector)))


def test_a_pod_without_a_connection_is_not_in_sync_and_a_gone_one_is_absent() -> None:
    async def play(scene: Scene) -> None:
        line = await scene.until(lambda line: "foo/x" in line["sidecars"])
        assert line["sidecars"]["foo/x"] == {
            "connected": False,
            "in_sync": False,
            "nack": None,
            "snapshot": 0,
        }
        scene.api.delete(watch.PODS, "x", "foo")
        await scene.until(lambda line: line["sidecars"] == {})

    run(play, (watch.PODS, pod()))


def test_trust_is_restored_where_somebody_took_it_away() -> None:
    async def play(scene: Scene) -> None:
        name = MeshOptions().mutating_webhook
        before = len(scene.api.patches)
        scene.api.put(watch.MUTATING, hooks(name))
        await asyncio.to_thread(scene.api.wait_for, lambda: len(scene.api.patches) > before)
        path, _ = scene.api.patches[-1]
        assert path == f"{watch.MUTATING.path}/{name}"

    run(play)


def test_the_command_prints_a_line() -> None:
    async def play(scene: Scene) -> None:
        port = scene.controller.bound["status"]
        lines = await asyncio.to_thread(lambda: list(status_client.read_lines("/status", port=port)))
        assert [json.loads(line)["sidecars"] for line in lines] == [{}]

    run(play)


def test_the_command_says_when_there_is_no_controller() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "enforcer", "status"],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "no controller at 127.0.0.1:15014" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_light_commands_load_no_heavy_library() -> None:
    program = (
        "import sys; from enforcer.__main__ import main; main(['check']);"
        "import enforcer.sidecar, enforcer.capture, enforcer.status_client;"
        "print(sorted({'grpc', 'kubernetes', 'aiohttp', 'google', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
