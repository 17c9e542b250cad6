"""Fixtures of the embedded cluster's tests: real nodes, as the current user and, for root, as nobody, too."""

import itertools
import os
from collections.abc import Iterator

import pytest

from conformance.cluster.embedded.node.network import second_address
from tests.cluster.embedded import node_cases as cases
from tests.cluster.embedded.live import Live, Space, make_space, start_live
from tests.cluster.embedded.node_harness import Node, start

NOBODY = 65534
USERS = [pytest.param(None, id="own-user")]
if os.geteuid() == 0:
    USERS.append(pytest.param(NOBODY, id="nobody"))

_numbers = itertools.count(10)


@pytest.fixture(scope="module", params=USERS)
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    running = start(user=request.param)
    yield running
    running.stop()


@pytest.fixture
def pod(node: Node) -> Iterator[str]:
    ip = f"10.244.0.{next(_numbers)}"
    node.run(cases.make_pod, ip=ip, ip6="" if node.no_ipv6 else second_address(ip))
    yield ip
    node.run(cases.remove_pod, ip=ip)


@pytest.fixture
def server(node: Node) -> Iterator[str]:
    ip = f"10.244.0.{next(_numbers)}"
    node.run(cases.make_pod, ip=ip, ip6="" if node.no_ipv6 else second_address(ip))
    node.run(cases.serve, ip=ip)
    yield ip
    node.run(cases.remove_pod, ip=ip)


@pytest.fixture
def ipv6(node: Node) -> None:
    """For tests that need it: skips them with the node's reason where there is none."""
    if node.no_ipv6:
        pytest.skip(f"no IPv6 here: {node.no_ipv6}")


@pytest.fixture
def free_ip() -> str:
    return f"10.244.0.{next(_numbers)}"


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    running = start_live()
    yield running
    running.stop()


@pytest.fixture
def space(live: Live) -> Iterator[Space]:
    """A namespace of the test's own; it goes in its own time."""
    name = f"t{next(_numbers)}"
    yield make_space(live, name)
    live.core.delete_namespace(name)
