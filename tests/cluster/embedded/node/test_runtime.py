"""The container runtime, asked through its client by a control plane inside a real node."""

import os
from typing import Any

import pytest

from tests.cluster.embedded import node_cases as cases
from tests.cluster.embedded.node_harness import ENV, PYTHON, Node


def test_a_container_prints_and_ends_with_its_code(node: Node, pod: str) -> None:
    assert node.run(cases.run, pod=pod, argv=["sh", "-c", "hostname; echo bad >&2; exit 3"]) == [
        3,
        f"pod-{pod.rpartition('.')[2]}\n",
        "bad\n",
    ]


def test_standard_input_reaches_the_container_and_ends(node: Node, pod: str) -> None:
    assert node.run(cases.send_lines, pod=pod, lines=100_000) == [0, "100000\n", ""]


def test_environment_and_working_directory_are_those_of_the_spec(node: Node, pod: str) -> None:
    result = node.run(
        cases.run, pod=pod, argv=["sh", "-c", "pwd; env | sort"], env={**ENV, "A": "b c"}, cwd="/usr"
    )
    lines = result[1].splitlines()
    assert lines[0] == "/usr"
    assert "A=b c" in lines
    assert not [line for line in lines if line.startswith("HOME=")]


@pytest.mark.parametrize(
    ("argv", "more", "message"),
    [
        (["nope"], {}, 'exec: "nope": executable file not found in $PATH'),
        (["/nope"], {}, 'exec: "/nope": stat /nope: no such file or directory'),
        (["/etc/passwd"], {}, 'exec: "/etc/passwd": permission denied'),
        (["true"], {"cwd": "/nope"}, 'chdir to cwd ("/nope") failed: no such file or directory'),
        (["true"], {"capabilities": ["NOPE"]}, "drop privileges: unknown capability NOPE"),
    ],
)
def test_what_cannot_start_says_why(
    node: Node, pod: str, argv: list[str], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(RuntimeError) as raised:
        node.run(cases.run, pod=pod, argv=argv, **more)
    assert str(raised.value) == f"StartError: {message}"


def test_start_errors_carry_the_shells_exit_codes(node: Node, pod: str) -> None:
    assert node.run(cases.start_error_codes, pod=pod) == [127, 126]


def test_pid_1_ignores_sigterm_without_a_handler_and_sigkill_ends_it(node: Node, pod: str) -> None:
    assert node.run(cases.ignore_then_kill, pod=pod) == ["up\n", True, 137]


def test_a_handled_signal_arrives(node: Node, pod: str) -> None:
    assert node.run(cases.trap_term, pod=pod) == 7


def test_exec_runs_inside_the_container_and_ends_with_it(node: Node, pod: str) -> None:
    first, failures, codes = node.run(cases.exec_twice, pod=pod)
    host = f"pod-{pod.rpartition('.')[2]}"
    assert first == [5, f"{host}\nmine\nsleep\nCapEff:\t0000000000000000\ntyped", ""]
    assert failures == ['exec: "nope": executable file not found in $PATH', "container is not running"]
    assert codes == [137, 137]


def test_a_terminal_has_a_name_and_the_size_that_was_set(node: Node, pod: str) -> None:
    assert node.run(cases.terminal, pod=pod) == [["/dev/pts/0", "22", "111"], 0]


def test_the_hosts_files_cannot_be_written(node: Node, pod: str) -> None:
    project = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - a string for a shell
    places = ["/", "/etc", "/usr", "/var/tmp", "/proc/sys/kernel", "/dev", project]
    script = f'for d in {" ".join(places)}; do touch "$d/x" 2>/dev/null && echo "$d"; done; echo end'
    assert node.run(cases.run, pod=pod, argv=["sh", "-c", script])[1] == "end\n"
    assert node.run(cases.run, pod=pod, argv=["sh", "-c", "echo 1 >/proc/sys/vm/drop_caches"])[0] != 0


def test_scratch_space_is_private_and_the_nodes_state_invisible(node: Node, pod: str) -> None:
    script = "ls -A /tmp; ls /run /run/authz-node; echo x >/tmp/x && echo x >/run/x && echo x >/dev/null"
    assert node.run(cases.run, pod=pod, argv=["sh", "-c", script]) == [
        0,
        "/run:\nauthz-node\n\n/run/authz-node:\nbin\n",
        "",
    ]
    assert node.run(cases.run, pod=pod, argv=["sh", "-c", "ls -A /tmp"]) == [0, "", ""]


def test_mounts_appear_where_they_are_asked_for(node: Node, pod: str) -> None:
    mounts = [
        {"source": "/etc/passwd", "target": "/etc/hosts"},
        {"source": "/etc/passwd", "target": "/etc/made/up"},
        {"source": "/usr/share", "target": "/made/up/share"},
        {"source": None, "target": "/var/run/secrets/scratch", "read_only": False},
        {"source": "/etc/passwd", "target": "/var/run/secrets/scratch/inner"},
    ]
    script = (
        "cmp /etc/passwd /etc/hosts && cmp /etc/passwd /etc/made/up && cmp /etc/passwd"
        " /var/run/secrets/scratch/inner && test -d /made/up/share/doc && echo x >/var/run/secrets/scratch/x"
        " && ! touch /etc/made/x 2>/dev/null && ! touch /made/x 2>/dev/null && test -e /etc/group && echo all"
    )
    assert node.run(cases.run, pod=pod, argv=["sh", "-c", script], mounts=mounts) == [0, "all\n", ""]


def test_other_containers_processes_are_invisible(node: Node, pod: str) -> None:
    assert node.run(cases.two_containers, pod=pod) == "sh\n"


MARK = "import socket; s = socket.socket(); s.setsockopt(1, 36, 7); print(s.getsockopt(1, 36))"


def test_only_net_raw_lets_a_container_mark_its_sockets(node: Node, pod: str) -> None:
    argv = [PYTHON, "-I", "-S", "-c", MARK]
    assert node.run(cases.run, pod=pod, argv=argv, capabilities=["NET_RAW"])[:2] == [0, "7\n"]
    refused = node.run(cases.run, pod=pod, argv=argv)
    assert refused[0] == 1
    assert "Operation not permitted" in refused[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's node maps a single user")
def test_another_user_keeps_its_capabilities_through_exec(node: Node, pod: str) -> None:
    if node.run(cases.run, pod=pod, argv=["id", "-u"], uid=1337)[1] != "1337\n":
        pytest.skip("this node maps a single user")
    argv = [PYTHON, "-I", "-S", "-c", MARK]
    assert node.run(cases.run, pod=pod, argv=argv, uid=1337, capabilities=["NET_RAW"])[:2] == [0, "7\n"]
