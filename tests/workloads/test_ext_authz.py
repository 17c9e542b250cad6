"""The sample authorizer answers by its rule and logs each question."""

import json

import grpc
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from envoy.service.auth.v3.external_auth_pb2_grpc import AuthorizationStub
from google.rpc.code_pb2 import OK, PERMISSION_DENIED

from conformance.workloads import ext_authz

SECONDS = 30


def question(port: int) -> CheckRequest:
    request = CheckRequest()
    source, destination = request.attributes.source, request.attributes.destination
    source.principal = "spiffe://cluster.local/ns/foo/sa/sleep"
    source.address.socket_address.address = "10.0.0.1"
    source.address.socket_address.port_value = 40000
    destination.address.socket_address.address = "10.0.0.2"
    destination.address.socket_address.port_value = port
    return request


@pytest.mark.parametrize(("port", "code"), [(9000, OK), (9001, PERMISSION_DENIED), (9003, OK)])
def test_the_rule_and_the_log(port: int, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    server, bound = ext_authz.serve(0)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{bound}") as channel:
            answer = AuthorizationStub(channel).Check(question(port), timeout=SECONDS)
    finally:
        server.stop(None)
    assert answer.status.code == code
    listening, asked = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert listening == {"log": "listening", "port": bound}
    assert isinstance(asked.pop("time"), float)
    assert asked == {
        "log": "check",
        "source": "10.0.0.1:40000",
        "destination": f"10.0.0.2:{port}",
        "principal": "spiffe://cluster.local/ns/foo/sa/sleep",
        "allowed": code == OK,
    }


def test_the_silent_one_takes_the_question_and_never_answers(capsys: pytest.CaptureFixture[str]) -> None:
    server, bound = ext_authz.serve(0, ext_authz.Silent())
    try:
        with (
            grpc.insecure_channel(f"127.0.0.1:{bound}") as channel,
            pytest.raises(grpc.RpcError, match="DEADLINE_EXCEEDED"),
        ):
            AuthorizationStub(channel).Check(question(9000), timeout=1, wait_for_ready=True)
    finally:
        server.stop(None).wait(SECONDS)
    _, asked = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (asked["log"], asked["destination"], asked["allowed"]) == ("check", "10.0.0.2:9000", None)


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    server, bound = ext_authz.serve(0)
    try:
        assert ext_authz.main(["--port", str(bound)]) == 1
    finally:
        server.stop(None)
    error = capsys.readouterr().err
    assert "ext-authz: " in error
    assert str(bound) in error
