"""The netlink batch, decoded by pyroute2's independent tables, and taken by a real kernel."""

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyroute2.netlink.nfnetlink import nftsocket

from enforcer import capture
from enforcer.capture import Capture, CaptureError, build_batch
from tests.enforcer import pod_network

MESSAGES = {
    nftsocket.NFT_MSG_NEWTABLE: ("add table", nftsocket.nft_table_msg),
    nftsocket.NFT_MSG_DELTABLE: ("delete table", nftsocket.nft_table_msg),
    nftsocket.NFT_MSG_NEWCHAIN: ("add chain", nftsocket.nft_chain_msg),
    nftsocket.NFT_MSG_NEWRULE: ("add rule", nftsocket.nft_rule_msg),
}


def decode(batch: bytes) -> list[str]:
    """The batch as readable lines."""
    lines, offset = [], 0
    while offset < len(batch):
        length, kind = struct.unpack_from("=IH", batch, offset)
        if kind >> 8 == capture.NFNL_SUBSYS_NFTABLES:
            verb, message_class = MESSAGES[kind & 0xFF]
            message = message_class(batch[offset : offset + length])
            message.decode()
            lines.append(f"{verb} {describe(message)}")
        offset += length + -length % 4
    return lines


def describe(message: Any) -> str:
    if isinstance(message, nftsocket.nft_table_msg):
        return str(message.get_attr("NFTA_TABLE_NAME"))
    if isinstance(message, nftsocket.nft_chain_msg):
        hook = message.get_attr("NFTA_CHAIN_HOOK")
        where = hook.get_attr("NFTA_HOOK_HOOKNUM"), hook.get_attr("NFTA_HOOK_PRIORITY")
        return f"{message.get_attr('NFTA_CHAIN_NAME')} {message.get_attr('NFTA_CHAIN_TYPE')} hook {where}"
    expressions = message.get_attr("NFTA_RULE_EXPRESSIONS")
    words = [expression_text(item) for item in expressions]
    return f"{message.get_attr('NFTA_RULE_CHAIN')}: {' '.join(words)}"


def value_of(data: Any) -> bytes:
    return bytes(data.get_attr("NFTA_DATA_VALUE"))


def expression_text(item: Any) -> str:
    name, data = item.get_attr("NFTA_EXPR_NAME"), item.get_attr("NFTA_EXPR_DATA")
    match name:
        case "meta":
            key = data.get_attr("NFTA_META_KEY")
            return str(key).removeprefix("NFT_META_").lower()
        case "cmp":
            value = value_of(data.get_attr("NFTA_CMP_DATA"))
            return "== " + (value.rstrip(b"\0").decode() if value.startswith(b"lo") else value.hex())
        case "payload":
            base = data.get_attr("NFTA_PAYLOAD_BASE")
            return (
                f"payload {base}+{data.get_attr('NFTA_PAYLOAD_OFFSET')}:{data.get_attr('NFTA_PAYLOAD_LEN')}"
            )
        case "immediate":
            content = data.get_attr("NFTA_IMMEDIATE_DATA")
            verdict = content.get_attr("NFTA_DATA_VERDICT")
            if verdict is not None:
                return "return" if "RETURN" in str(verdict) or "-5" in str(verdict) else str(verdict)
            return f"load {int.from_bytes(value_of(content), 'big')}"
        case _:
            return str(name)


def rules(options: Capture) -> list[str]:
    lines = decode(build_batch(options)[0])
    return [line.removeprefix("add rule ") for line in lines if line.startswith("add rule")]


IS_TCP = "l4proto == 06"


def port(number: int) -> str:
    return f"payload NFT_PAYLOAD_TRANSPORT_HEADER+2:2 == {number:04x}"


def test_the_batch_replaces_the_table() -> None:
    lines = decode(build_batch(Capture())[0])
    assert lines[:5] == [
        "add table authz",
        "delete table authz",
        "add table authz",
        "add chain inbound nat hook (0, -100)",
        "add chain outbound nat hook (3, -100)",
    ]


def test_every_message_but_the_frame_is_acknowledged() -> None:
    batch, acknowledged = build_batch(Capture())
    assert acknowledged == len(decode(batch))


def test_the_rules_of_a_plain_pod() -> None:
    assert rules(Capture()) == [
        "inbound: iifname == lo return",
        f"inbound: {IS_TCP} {port(15021)} return",
        f"inbound: {IS_TCP} load 15006 redir",
        f"outbound: mark == {struct.pack('=I', 1337).hex()} return",
        "outbound: oifname == lo return",
        f"outbound: {IS_TCP} load 15001 redir",
    ]


def test_excluded_ports_return_before_the_redirect() -> None:
    listed = rules(Capture(exclude_inbound=(22, 8080), exclude_outbound=(3306,)))
    assert listed[1:5] == [
        f"inbound: {IS_TCP} {port(22)} return",
        f"inbound: {IS_TCP} {port(8080)} return",
        f"inbound: {IS_TCP} {port(15021)} return",
        f"inbound: {IS_TCP} load 15006 redir",
    ]
    assert listed[-2:] == [
        f"outbound: {IS_TCP} {port(3306)} return",
        f"outbound: {IS_TCP} load 15001 redir",
    ]


def test_a_user_instead_of_a_mark() -> None:
    assert f"outbound: skuid == {struct.pack('=I', 1337).hex()} return" in rules(Capture(mark=None, uid=1337))


def test_without_mark_and_user_there_is_no_capture() -> None:
    with pytest.raises(CaptureError, match="mark or a user"):
        build_batch(Capture(mark=None))


@pytest.mark.parametrize("text", ["http", "0", "65536", "80,x"])
def test_a_port_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        capture.main(["--exclude-inbound-ports", text])
    assert ended.value.code == 2
    assert "is not a port" in capsys.readouterr().err


INSTALL_TWICE = """
import sys
from tests.enforcer import pod_network
from enforcer.__main__ import main
try:
    pod_network.enter_namespaces()
except OSError as error:
    sys.exit(pod_network.UNAVAILABLE)
excluded = ["--exclude-inbound-ports", "22,80", "--exclude-outbound-ports", "53"]
sys.exit(main(["capture", "--exempt-uid", "0", *excluded]) or main(["capture"]))
"""

WITHOUT_RIGHTS = """
import sys
from tests.enforcer import pod_network
from enforcer.__main__ import main
try:
    pod_network.enter(pod_network.CLONE_NEWUSER)
except OSError as error:
    sys.exit(pod_network.UNAVAILABLE)
sys.exit(main(["capture"]))
"""


def run_inside(program: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(pod_network.PROJECT),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == pod_network.UNAVAILABLE:
        pytest.skip("this kernel gives no user and network namespaces")
    return done


def test_a_kernel_takes_the_rules_and_takes_them_again() -> None:
    done = run_inside(INSTALL_TWICE)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_capability_is_named() -> None:
    done = run_inside(WITHOUT_RIGHTS)
    assert done.returncode == 1
    assert "NET_ADMIN" in done.stderr
    assert "Traceback" not in done.stderr
