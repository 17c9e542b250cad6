"""The sidecar: its bootstrap, and real connections through a real Envoy in a pod's network."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from enforcer.envoy_binary import find_envoy
from enforcer.sidecar import (
    Sidecar,
    SidecarError,
    build_bootstrap,
    command,
    has_ipv6,
    read_environment,
)
from tests.enforcer import pod_network

ENVIRONMENT = {"POD_NAMESPACE": "foo", "POD_NAME": "pod", "XDS_ADDRESS": "enforcer.authz-system.svc:15010"}


def bootstrap(xds: str = "enforcer.authz-system.svc:15010", **changes: Any) -> dict[str, Any]:
    return build_bootstrap(Sidecar(namespace="foo", pod="pod", xds=xds, **changes))


def control_plane(config: dict[str, Any]) -> dict[str, Any]:
    clusters = config["static_resources"]["clusters"]
    return next(cluster for cluster in clusters if cluster["name"] == "control-plane")


def test_the_bootstrap_is_what_envoy_defines() -> None:
    # Registers the types that the bootstrap packs.
    import envoy.extensions.filters.http.router.v3.router_pb2
    import envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2
    import envoy.extensions.network.dns_resolver.getaddrinfo.v3.getaddrinfo_dns_resolver_pb2
    import envoy.extensions.upstreams.http.v3.http_protocol_options_pb2  # noqa: F401
    from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap

    message = json_format.ParseDict(bootstrap(), Bootstrap())
    assert message.node.id == "foo/pod"
    assert message.dynamic_resources.lds_config.initial_fetch_timeout.ToMilliseconds() == 0


def test_a_bootstrap_holds_no_listener_for_traffic() -> None:
    listeners = bootstrap()["static_resources"]["listeners"]
    ports = [listener["address"]["socket_address"]["port_value"] for listener in listeners]
    assert ports == [15021]


def test_the_way_to_the_control_plane_is_marked() -> None:
    [option] = control_plane(bootstrap())["upstream_bind_config"]["socket_options"]
    assert (option["level"], option["name"], option["int_value"]) == (1, 36, 1337)
    assert "upstream_bind_config" not in control_plane(bootstrap(mark=0))


@pytest.mark.parametrize(
    ("address", "kind", "host"),
    [
        ("enforcer.authz-system.svc:15010", "STRICT_DNS", "enforcer.authz-system.svc"),
        ("10.96.0.7:15010", "STATIC", "10.96.0.7"),
        ("[fd00::7]:15010", "STATIC", "fd00::7"),
    ],
)
def test_addresses_of_the_control_plane(address: str, kind: str, host: str) -> None:
    cluster = control_plane(bootstrap(address))
    [locality] = cluster["load_assignment"]["endpoints"]
    [endpoint] = locality["lb_endpoints"]
    assert cluster["type"] == kind
    assert endpoint["endpoint"]["address"]["socket_address"] == {"address": host, "port_value": 15010}


@pytest.mark.parametrize("address", ["enforcer", ":15010", "enforcer:", "enforcer:http", "enforcer:70000"])
def test_an_unusable_address_is_named(address: str) -> None:
    with pytest.raises(SidecarError, match="XDS_ADDRESS"):
        bootstrap(address)


@pytest.mark.parametrize("missing", sorted(ENVIRONMENT))
def test_a_missing_variable_is_named(missing: str) -> None:
    environment = {name: value for name, value in ENVIRONMENT.items() if name != missing}
    with pytest.raises(SidecarError, match=missing):
        read_environment(environment, ipv6=False)


def test_a_mark_must_be_a_number() -> None:
    with pytest.raises(SidecarError, match="PROXY_MARK"):
        read_environment({**ENVIRONMENT, "PROXY_MARK": "0x539"}, ipv6=False)


def test_ipv6_is_told_by_its_addresses(tmp_path: Path) -> None:
    addresses = tmp_path / "if_inet6"
    assert not has_ipv6(addresses)
    addresses.write_text("")
    assert not has_ipv6(addresses)
    addresses.write_text("00000000000000000000000000000001 01 80 10 80       lo\n")
    assert has_ipv6(addresses)


def test_envoy_accepts_the_bootstrap_and_the_options() -> None:
    argv = [*command(find_envoy(), bootstrap()), "--mode", "validate"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """One pod's life, played once."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.enforcer.pod_network"],
        cwd=pod_network.PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=45)
    finally:
        # The client and Envoy are in its session; whatever happened, they go.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode == pod_network.UNAVAILABLE:
        pytest.skip(errors.strip())
    assert process.returncode == 0, errors
    result: dict[str, Any] = json.loads(output)
    return result


def test_nothing_is_accepted_before_the_first_configuration(seen: dict[str, Any]) -> None:
    assert seen["before"] == ["refused", "refused"]


def test_without_policies_every_port_is_open(seen: dict[str, Any]) -> None:
    echo, echo_too, server_first, excluded, _, _ = seen["open"]
    assert [echo, echo_too, server_first, excluded] == ["hello hi\n", "hello hi\n", "welcome\n", "hello hi\n"]


def test_envoys_own_port_and_a_closed_port_lead_nowhere(seen: dict[str, Any]) -> None:
    assert seen["open"][4:] == ["closed", "closed"]


def test_an_excluded_port_is_not_captured(seen: dict[str, Any]) -> None:
    assert [line["destination_port"] for line in seen["open_log"]] == [9000, 9001, 9003, 9999]


def test_the_log_tells_the_original_addresses_and_the_bytes(seen: dict[str, Any]) -> None:
    line = seen["open_log"][0]
    assert (line["log"], line["direction"]) == ("access", "inbound")
    assert (line["source_ip"], line["destination_ip"]) == (pod_network.CLIENT, pod_network.POD)
    assert (line["bytes_received"], line["bytes_sent"]) == (len("hi\n"), len("hello hi\n"))
    assert isinstance(line["source_port"], int)


def test_an_allow_policy_admits_its_port_only_and_is_named(seen: dict[str, Any]) -> None:
    allowed, denied = seen["allow_log"]
    assert seen["allow"] == ["hello hi\n", "closed"]
    assert allowed["allowed_by"] == "ns[foo]-policy[p]-rule[0]"
    assert (denied["allowed_by"], denied["bytes_sent"]) == (None, 0)
    assert denied["termination_details"] == "rbac_access_denied_matched_policy[none]"


def test_dry_run_touches_nothing_and_is_visible(seen: dict[str, Any]) -> None:
    allowed, denied = seen["dry_run_log"]
    assert seen["dry_run"] == ["hello hi\n", "closed"]
    assert allowed["dry_run"] == {
        "allow_result": "allowed",
        "allow_policy": "ns[foo]-policy[try]-rule[0]",
        "deny_result": "denied",
        "deny_policy": "ns[foo]-policy[would]-rule[0]",
    }
    assert denied["termination_details"] == "rbac_access_denied_matched_policy[ns[foo]-policy[shut]-rule[0]]"


def test_the_last_policies_stay_without_a_control_plane(seen: dict[str, Any]) -> None:
    assert seen["orphaned"] == ["hello hi\n", "closed"]


def test_without_envoy_nothing_is_accepted(seen: dict[str, Any]) -> None:
    assert seen["dead"] == ["refused"]
