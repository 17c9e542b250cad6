"""Protobuf bodies: the envelope, and every shape of field."""

import pytest

from conformance.cluster.embedded.apiserver.protobuf import MAGIC, decode, table
from conformance.cluster.embedded.apiserver.protobuf_fields import KINDS, MESSAGES
from conformance.cluster.embedded.apiserver.status import ApiError


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return bytes([number << 3]) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    meta = field(1, api_version.encode()) + field(2, kind.encode())
    return MAGIC + field(1, meta) + field(2, raw)


def test_a_deployment_in_depth() -> None:
    port = field(3, 9000) + field(1, b"")
    probe = field(1, field(3, field(1, field(1, 0) + field(2, 9003)))) + field(4, 5)
    container = field(1, b"c") + field(2, b"image") + field(6, port) + field(11, probe)
    template = field(1, field(11, field(1, b"app") + field(2, b"d"))) + field(2, field(2, container))
    spec = field(1, 0) + field(3, template) + field(5, 0)
    body = envelope("apps/v1", "Deployment", field(1, field(1, b"d") + field(8, b"")) + field(2, spec))
    assert decode(body) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {
            "replicas": 0,
            "template": {
                "metadata": {"labels": {"app": "d"}},
                "spec": {
                    "containers": [
                        {
                            "name": "c",
                            "image": "image",
                            "ports": [{"containerPort": 9000}],
                            "readinessProbe": {"tcpSocket": {"port": 9003}, "periodSeconds": 5},
                        }
                    ]
                },
            },
        },
    }


def test_bytes_times_and_embedded_messages() -> None:
    secret = field(1, field(8, field(1, 1_700_000_000))) + field(2, field(1, b"k") + field(2, b"\x00\xff"))
    assert decode(envelope("v1", "Secret", secret)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"creationTimestamp": "2023-11-14T22:13:20Z"},
        "data": {"k": "AP8="},
    }


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{}", 400),
        (MAGIC + b"\xff\xff", 400),
        (MAGIC + field(1, field(1, b"v1"))[:-1], 400),
        (envelope("v1", "Namespace", b"\x0a\x7fshort"), 400),
        (envelope("batch/v1", "Job", b""), 415),
    ],
)
def test_what_cannot_be_decoded_is_refused(body: bytes, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        decode(body)
    assert caught.value.code == code


def test_every_table_names_known_types() -> None:
    scalars = {"string", "int", "bool", "bytes", "Quantity", "Time", "MicroTime", "IntOrString", "StringList"}
    unknown = {
        f"{message}.{entry.name}"
        for message in MESSAGES
        for entry in table(message).values()
        if entry.type not in scalars and entry.type not in MESSAGES
    }
    assert unknown == set()
    assert set(KINDS.values()) <= set(MESSAGES)
