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

from enforcer.control_plane import SidecarError
from enforcer.envoy_binary import find_envoy
from enforcer.sidecar import (
    Sidecar,
    build_bootstrap,
    command,
    has_ipv6,
    read_environment,
    write_token_resource,
)
from tests.enforcer import callers, pod_network, tls_peer

ROOT = callers.AUTHORITY.pem.decode()
ENVIRONMENT = {
    "POD_NAMESPACE": "foo",
    "POD_NAME": "pod",
    "XDS_ADDRESS": "enforcer.authz-system.svc:15010",
    "MESH_ROOT": ROOT,
}


def bootstrap(xds: str = "enforcer.authz-system.svc:15010", **changes: Any) -> dict[str, Any]:
    return build_bootstrap(Sidecar(namespace="foo", pod="pod", xds=xds, root=ROOT, **changes))


def control_plane(config: dict[str, Any]) -> dict[str, Any]:
    clusters = config["static_resources"]["clusters"]
    return next(cluster for cluster in clusters if cluster["name"] == "control-plane")


def test_the_bootstrap_is_what_envoy_defines() -> None:
    # Registers the types that the bootstrap packs.
    import envoy.extensions.filters.http.credential_injector.v3.credential_injector_pb2
    import envoy.extensions.filters.http.router.v3.router_pb2
    import envoy.extensions.filters.http.upstream_codec.v3.upstream_codec_pb2
    import envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2
    import envoy.extensions.http.injected_credentials.generic.v3.generic_pb2
    import envoy.extensions.network.dns_resolver.getaddrinfo.v3.getaddrinfo_dns_resolver_pb2
    import envoy.extensions.transport_sockets.tls.v3.tls_pb2
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


@pytest.mark.parametrize(
    ("address", "kind"), [("enforcer.authz-system.svc:15010", "DNS"), ("10.96.0.7:15010", "IP_ADDRESS")]
)
def test_only_the_control_plane_itself_is_trusted_with_the_token(address: str, kind: str) -> None:
    tls = control_plane(bootstrap(address))["transport_socket"]["typed_config"]["common_tls_context"]
    [name] = tls["validation_context"]["match_typed_subject_alt_names"]
    assert (name["san_type"], name["matcher"]["exact"]) == (kind, address.partition(":")[0])
    assert tls["validation_context"]["trusted_ca"]["inline_string"] == ROOT


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(SidecarError, match=str(missing)):
        write_token_resource(
            Sidecar(namespace="foo", pod="pod", xds="localhost:15010", root=ROOT, run=missing)
        )


def test_envoy_accepts_the_bootstrap_and_the_options(tmp_path: Path) -> None:
    sidecar = read_environment(
        {**ENVIRONMENT, "TOKEN_DIRECTORY": str(tmp_path), "RUN_DIRECTORY": str(tmp_path)}, ipv6=False
    )
    (tmp_path / "token").write_text("x")
    write_token_resource(sidecar)
    argv = [*command(find_envoy(), build_bootstrap(sidecar)), "--mode", "validate"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
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
        output, errors = process.communicate(timeout=180)
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
    assert [echo, echo_too, server_first, excluded] == [
        "hello hi there\n",
        "hello hi there\n",
        "welcome\n",
        "hello hi there\n",
    ]


def test_envoys_own_port_and_a_closed_port_lead_nowhere(seen: dict[str, Any]) -> None:
    assert seen["open"][4:] == ["closed", "closed"]


def test_an_excluded_port_is_not_captured(seen: dict[str, Any]) -> None:
    assert [line["destination_port"] for line in seen["open_log"]] == [9000, 9001, 9003, 9999]


def test_the_log_tells_the_original_addresses_and_the_bytes(seen: dict[str, Any]) -> None:
    line = seen["open_log"][0]
    assert (line["log"], line["direction"]) == ("access", "inbound")
    assert (line["source_ip"], line["destination_ip"]) == (pod_network.CLIENT, pod_network.POD)
    assert (line["bytes_received"], line["bytes_sent"]) == (len("hi there\n"), len("hello hi there\n"))
    assert isinstance(line["source_port"], int)


def test_the_log_names_a_peer_of_the_mesh_and_no_other(seen: dict[str, Any]) -> None:
    own, *refused, passed = seen["tls_log"]
    assert (own["peer_principal"], own["tls_error"]) == (tls_peer.SLEEP, None)
    assert all(line["tls_error"] and line["bytes_sent"] == 0 for line in refused)
    assert (passed["destination_port"], passed["peer_principal"]) == (pod_network.OWN_TLS, None)
    assert all(line["peer_principal"] is None for line in seen["open_log"])


def test_mutual_tls_takes_whom_the_mesh_has_certified_and_nobody_else(seen: dict[str, Any]) -> None:
    assert seen["tls"][0] == "hello hi spiffe://cluster.local/ns/foo/sa/server"
    assert [answer.split(":")[0] for answer in seen["tls"][1:]] == ["failed"] * 3


def test_an_applications_own_tls_passes_through(seen: dict[str, Any]) -> None:
    assert seen["own_tls"] == "hello hi application"


def test_a_strict_port_is_reached_with_a_certificate_of_the_mesh_only(seen: dict[str, Any]) -> None:
    assert seen["strict"] == ["closed", "closed"]
    assert seen["strict_tls"][0].startswith("hello hi")
    assert [answer.split(":")[0] for answer in seen["strict_tls"][1:]] == ["failed"] * 3
    assert seen["strict_accepted"] == [pod_network.ECHO], "the application heard of others"


def test_a_refused_plaintext_connection_says_so(seen: dict[str, Any]) -> None:
    refused = [line for line in seen["strict_log"] if line["response_flags"] == "NR"]
    assert [line["destination_port"] for line in refused] == [pod_network.ECHO, pod_network.SERVER_FIRST]
    assert {line["termination_details"] for line in refused} == {"mutual_tls_required"}


def test_where_mutual_tls_is_off_everything_is_the_applications(seen: dict[str, Any]) -> None:
    assert seen["disable"] == ["hello hi there\n", "hello hi application"]


def test_certificates_are_replaced_under_open_and_new_connections(seen: dict[str, Any]) -> None:
    held = seen["held"]
    assert held["failures"] == []
    assert held["outlived"]
    assert held["serials"] >= 3
    assert held["connections"] > held["serials"]


def test_the_way_out_shows_each_certificate_in_its_time(seen: dict[str, Any]) -> None:
    assert set(seen["outgoing"]) == {"hello hi\n"}
    assert {shown["uri"] for shown in seen["seen_beyond"]} == {"spiffe://cluster.local/ns/foo/sa/server"}
    assert len({shown["serial"] for shown in seen["seen_beyond"]}) >= 3


def test_an_allow_policy_admits_its_port_only_and_is_named(seen: dict[str, Any]) -> None:
    allowed, denied = seen["allow_log"]
    assert seen["allow"] == ["hello hi there\n", "closed"]
    assert allowed["allowed_by"] == "ns[foo]-policy[p]-rule[0]"
    assert (denied["allowed_by"], denied["bytes_sent"]) == (None, 0)
    assert denied["termination_details"] == "rbac_access_denied_matched_policy[none]"


def test_dry_run_touches_nothing_and_is_visible(seen: dict[str, Any]) -> None:
    allowed, denied = seen["dry_run_log"]
    assert seen["dry_run"] == ["hello hi there\n", "closed"]
    assert allowed["dry_run"] == {
        "allow_result": "allowed",
        "allow_policy": "ns[foo]-policy[try]-rule[0]",
        "deny_result": "denied",
        "deny_policy": "ns[foo]-policy[would]-rule[0]",
    }
    assert denied["termination_details"] == "rbac_access_denied_matched_policy[ns[foo]-policy[shut]-rule[0]]"


def test_the_last_policies_stay_without_a_control_plane(seen: dict[str, Any]) -> None:
    assert seen["orphaned"] == ["hello hi there\n", "closed"]


def test_without_envoy_nothing_is_accepted(seen: dict[str, Any]) -> None:
    assert seen["dead"] == ["refused"]
