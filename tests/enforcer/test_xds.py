"""The configuration service: the state of one stream, and streams over real gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from google.rpc.status_pb2 import Status

from enforcer.identity import Identity
from enforcer.policy import parse
from enforcer.xds import secrets
from enforcer.xds.secrets import SECRET_TYPE, Secrets
from enforcer.xds.server import Ads
from enforcer.xds.session import ForeignSecretError, Session
from enforcer.xds.snapshot import CLUSTER_TYPE, LISTENER_TYPE, Snapshot
from enforcer.xds.tls import IDENTITY, ROOT
from tests.enforcer.callers import (
    AUTHORITY,
    SERVER,
    authenticate,
    channel_to,
    open_stream,
    snapshot_of,
    token,
)


def snapshot(*ports: str) -> Snapshot:
    document = {
        "metadata": {"namespace": "foo", "name": "p"},
        "spec": {"rules": [{"to": [{"operation": {"ports": [port]}}]} for port in ports]},
    }
    return snapshot_of(parse(document))


FIRST, SECOND = snapshot("9000"), snapshot("9001")


def subscribe(kind: str, version: str = "", names: tuple[str, ...] = ()) -> DiscoveryRequest:
    return DiscoveryRequest(type_url=kind, version_info=version, node=Node(id="foo/x"), resource_names=names)


def ack(response: DiscoveryResponse, names: tuple[str, ...] = ()) -> DiscoveryRequest:
    return DiscoveryRequest(
        type_url=response.type_url,
        version_info=response.version_info,
        response_nonce=response.nonce,
        resource_names=names,
    )


def nack(response: DiscoveryResponse, message: str = "bad") -> DiscoveryRequest:
    return DiscoveryRequest(
        type_url=response.type_url, response_nonce=response.nonce, error_detail=Status(message=message)
    )


def new_session() -> Session:
    return Session(node="foo/x", uid="u", identity=Identity(namespace="foo", service_account="default"))


def new_secrets(seconds: float = 3600) -> Secrets:
    return secrets.issue(
        AUTHORITY, "spiffe://cluster.local/ns/foo/sa/default", lifetime=timedelta(seconds=seconds)
    )


def subscribed(version: Callable[[str], str] = lambda _: "") -> Session:
    session = new_session()
    for kind in (CLUSTER_TYPE, LISTENER_TYPE):
        session.receive(subscribe(kind, version(kind)))
    return session


def test_clusters_come_before_the_listeners_that_name_them() -> None:
    responses = subscribed().due(FIRST)
    assert [response.type_url for response in responses] == [CLUSTER_TYPE, LISTENER_TYPE]


def test_what_was_not_asked_for_is_not_sent() -> None:
    session = new_session()
    session.receive(subscribe(CLUSTER_TYPE))
    assert [response.type_url for response in session.due(FIRST)] == [CLUSTER_TYPE]
    assert not session.in_sync(FIRST)


def test_in_sync_means_acknowledged() -> None:
    session = subscribed()
    responses = session.due(FIRST)
    assert not session.in_sync(FIRST)
    for response in responses:
        session.receive(ack(response))
    assert session.in_sync(FIRST)
    assert not session.in_sync(SECOND)


def test_an_identical_snapshot_is_not_sent_again() -> None:
    session = subscribed()
    session.due(FIRST)
    assert session.due(snapshot("9000")) == []


def test_a_change_sends_what_changed_only() -> None:
    session = subscribed()
    for response in session.due(FIRST):
        session.receive(ack(response))
    assert [response.type_url for response in session.due(SECOND)] == [LISTENER_TYPE]


def test_a_nack_keeps_the_error_and_is_not_answered_by_the_same_again() -> None:
    session = subscribed()
    _, listener = session.due(FIRST)
    assert session.receive(nack(listener, "no such filter")) == "no such filter"
    assert (session.nack, session.nacks) == ("no such filter", 1)
    assert session.due(FIRST) == []
    assert not session.in_sync(FIRST)


def test_a_later_ack_clears_the_nack() -> None:
    session = subscribed()
    cluster, listener = session.due(FIRST)
    session.receive(ack(cluster))
    session.receive(nack(listener))
    [better] = session.due(SECOND)
    session.receive(ack(better))
    assert session.nack is None
    assert session.in_sync(SECOND)


def test_nothing_newer_is_sent_before_the_answer_and_then_the_last() -> None:
    session = subscribed()
    cluster, listener = session.due(FIRST)
    session.receive(ack(cluster))
    assert session.due(SECOND) == []
    session.receive(ack(listener))
    assert not session.in_sync(SECOND)
    [newest] = session.due(snapshot("9002"))
    session.receive(ack(newest))
    assert session.in_sync(snapshot("9002"))


def test_a_refusal_is_an_answer_too() -> None:
    session = subscribed()
    cluster, listener = session.due(FIRST)
    session.receive(ack(cluster))
    session.receive(nack(listener))
    assert [response.type_url for response in session.due(SECOND)] == [LISTENER_TYPE]


def test_an_answer_to_another_response_counts_for_nothing() -> None:
    session = subscribed()
    cluster, _ = session.due(FIRST)
    session.receive(ack(cluster))
    session.receive(DiscoveryRequest(type_url=LISTENER_TYPE, response_nonce="another"))
    assert not session.in_sync(FIRST)
    assert session.due(SECOND) == []


def test_a_sidecar_that_comes_back_with_the_same_is_in_sync_without_a_push() -> None:
    session = subscribed(lambda kind: FIRST.versions[kind])
    assert session.due(FIRST) == []
    assert session.in_sync(FIRST)


def test_a_sidecar_that_comes_back_with_something_older_is_brought_up_to_date() -> None:
    session = subscribed(lambda kind: FIRST.versions[kind])
    assert not session.in_sync(SECOND)
    assert [response.type_url for response in session.due(SECOND)] == [LISTENER_TYPE]


def test_other_types_are_ignored() -> None:
    session = subscribed()
    session.receive(subscribe("type.googleapis.com/envoy.config.route.v3.RouteConfiguration"))
    assert len(session.due(FIRST)) == 2


def test_a_secret_is_sent_by_its_name_and_again_when_it_is_renewed() -> None:
    session = subscribed()
    session.secrets = new_secrets()
    session.receive(subscribe(SECRET_TYPE, names=(IDENTITY,)))
    [*_, sent] = session.due(FIRST)
    assert (sent.type_url, len(sent.resources)) == (SECRET_TYPE, 1)
    assert session.due(FIRST) == []
    session.secrets = new_secrets()
    [renewed] = session.due(FIRST)
    assert renewed.version_info != sent.version_info


def test_a_name_more_brings_them_all() -> None:
    session = subscribed()
    session.secrets = new_secrets()
    session.receive(subscribe(SECRET_TYPE, names=(IDENTITY,)))
    [*_, first] = session.due(FIRST)
    session.receive(
        DiscoveryRequest(type_url=SECRET_TYPE, response_nonce=first.nonce, resource_names=(IDENTITY, ROOT))
    )
    [both] = session.due(FIRST)
    assert len(both.resources) == 2


def test_without_its_secrets_a_sidecar_is_not_in_sync() -> None:
    session = subscribed()
    session.secrets = new_secrets()
    session.receive(subscribe(SECRET_TYPE, names=(IDENTITY, ROOT)))
    *others, secret = session.due(FIRST)
    for response in others:
        session.receive(ack(response))
    assert not session.in_sync(FIRST)
    session.receive(ack(secret, (IDENTITY, ROOT)))
    assert session.in_sync(FIRST)
    session.secrets = new_secrets()
    session.due(FIRST)
    assert session.in_sync(FIRST), "the certificate before is still good"


@pytest.mark.parametrize("name", ["spiffe://cluster.local/ns/foo/sa/other", "", "other"])
def test_no_other_secret_can_be_asked_for(name: str) -> None:
    with pytest.raises(ForeignSecretError, match="foo/x"):
        new_session().receive(subscribe(SECRET_TYPE, names=(IDENTITY, name or "*")))


class Plane:
    """An ADS server on a free port, with the snapshots of its nodes."""

    def __init__(self) -> None:
        self.snapshots: dict[str, Snapshot] = {}
        self.moved = asyncio.Event()
        self.lifetime = 3600.0
        self.ads = Ads(
            authenticate=authenticate,
            resolve=lambda session: self.snapshots.get(session.node),
            issue=lambda session: new_secrets(self.lifetime),
            changed=self.moved.set,
        )
        self.channel: Any = None
        self.port = 0

    def open(self, node: str = "foo/x") -> Any:
        return open_stream(self.channel, token(node))

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.moved.clear()
            await asyncio.wait_for(self.moved.wait(), 60)


@asynccontextmanager
async def plane() -> AsyncIterator[Plane]:
    made = Plane()
    made.port = await made.ads.start("127.0.0.1:0", SERVER)
    async with channel_to(made.port) as channel:
        made.channel = channel
        yield made
    await made.ads.stop()


def run(play: Callable[[Plane], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with plane() as made:
            await asyncio.wait_for(play(made), 60)

    asyncio.run(main())


async def read(stream: Any) -> DiscoveryResponse:
    response = await asyncio.wait_for(stream.read(), 60)
    assert isinstance(response, DiscoveryResponse)
    return response


def test_a_push_reaches_an_open_stream_and_its_ack_is_seen() -> None:
    async def play(made: Plane) -> None:
        made.snapshots["foo/x"] = FIRST
        stream = made.open()
        await stream.write(subscribe(LISTENER_TYPE))
        first = await read(stream)
        await stream.write(ack(first))
        made.snapshots["foo/x"] = SECOND
        made.ads.refresh()
        second = await read(stream)
        assert (first.version_info, second.version_info) == (
            FIRST.versions[LISTENER_TYPE],
            SECOND.versions[LISTENER_TYPE],
        )
        await stream.write(subscribe(CLUSTER_TYPE))
        await stream.write(ack(second))
        await stream.write(ack(await read(stream)))
        await made.until(lambda: made.ads.sessions["foo/x"].in_sync(SECOND))
        stream.cancel()

    run(play)


def test_a_sidecar_waits_until_its_pod_is_known() -> None:
    async def play(made: Plane) -> None:
        stream = made.open()
        await stream.write(subscribe(LISTENER_TYPE))
        await made.until(lambda: made.ads.connected("foo/x"))
        made.snapshots["foo/x"] = FIRST
        made.ads.refresh()
        assert (await read(stream)).version_info == FIRST.versions[LISTENER_TYPE]
        stream.cancel()

    run(play)


def test_each_sidecar_gets_its_own() -> None:
    async def play(made: Plane) -> None:
        made.snapshots |= {"foo/x": FIRST, "foo/y": SECOND}
        for node, expected in made.snapshots.items():
            stream = made.open(node)
            await stream.write(DiscoveryRequest(type_url=LISTENER_TYPE, node=Node(id=node)))
            assert (await read(stream)).version_info == expected.versions[LISTENER_TYPE]
            stream.cancel()

    run(play)


def test_a_stream_that_ends_leaves_its_session_until_the_pod_is_gone() -> None:
    async def play(made: Plane) -> None:
        made.snapshots["foo/x"] = FIRST
        stream = made.open()
        await stream.write(subscribe(LISTENER_TYPE))
        await read(stream)
        stream.cancel()
        await made.until(lambda: not made.ads.connected("foo/x"))
        assert "foo/x" in made.ads.sessions
        made.ads.forget("foo/x")
        assert "foo/x" not in made.ads.sessions

    run(play)


def test_a_nack_is_counted() -> None:
    async def play(made: Plane) -> None:
        made.snapshots["foo/x"] = FIRST
        stream = made.open()
        await stream.write(subscribe(LISTENER_TYPE))
        await stream.write(nack(await read(stream), "no such filter"))
        await made.until(lambda: made.ads.nacks == 1)
        assert made.ads.sessions["foo/x"].nack == "no such filter"
        stream.cancel()

    run(play)


@pytest.mark.parametrize("proof", [None, "", "Bearer ", "stolen"])
def test_without_a_pods_token_nobody_is_answered(proof: str | None) -> None:
    async def play(made: Plane) -> None:
        made.snapshots["foo/x"] = FIRST
        stream = open_stream(made.channel, proof)
        assert await stream.code() == grpc.StatusCode.UNAUTHENTICATED
        assert made.ads.sessions == {}

    run(play)


def test_without_tls_nobody_is_answered() -> None:
    async def play(made: Plane) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{made.port}") as channel:
            assert await open_stream(channel, token()).code() == grpc.StatusCode.UNAVAILABLE

    run(play)


@pytest.mark.parametrize("node", ["foo/y", "bar/x", "", "foo"])
def test_a_token_speaks_for_its_own_pod_only(node: str, caplog: pytest.LogCaptureFixture) -> None:
    async def play(made: Plane) -> None:
        made.snapshots |= {"foo/x": FIRST, "foo/y": SECOND}
        stream = made.open()
        await stream.write(DiscoveryRequest(type_url=LISTENER_TYPE, node=Node(id=node)))
        assert await stream.code() == grpc.StatusCode.PERMISSION_DENIED
        assert made.ads.sessions == {}

    run(play)
    assert "is not foo/x, whose token this is" in caplog.text


@pytest.mark.parametrize("later", [False, True], ids=["at-once", "later"])
def test_asking_for_anothers_certificate_ends_the_stream(
    later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = "spiffe://cluster.local/ns/foo/sa/other"

    async def play(made: Plane) -> None:
        made.snapshots["foo/x"] = FIRST
        stream = made.open()
        if later:
            await stream.write(subscribe(SECRET_TYPE, names=(IDENTITY,)))
            assert len((await read(stream)).resources) == 1
        await stream.write(subscribe(SECRET_TYPE, names=(IDENTITY, foreign)))
        assert await stream.code() == grpc.StatusCode.PERMISSION_DENIED

    run(play)
    assert f"{foreign} is no secret of foo/x" in caplog.text


def test_certificates_are_renewed_on_the_open_stream() -> None:
    async def play(made: Plane) -> None:
        made.snapshots["foo/x"] = FIRST
        made.lifetime = 0.5
        stream = made.open()
        await stream.write(subscribe(SECRET_TYPE, names=(IDENTITY, ROOT)))
        versions = []
        for _ in range(3):
            response = await read(stream)
            await stream.write(ack(response, (IDENTITY, ROOT)))
            versions.append(response.version_info)
        assert len(set(versions)) == 3
        stream.cancel()

    run(play)
