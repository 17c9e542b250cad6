"""The shell that types the walkthrough, and the judgement of what it printed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import test_walkthrough as walkthrough
from conformance.shell import Shell, ShellError
from conformance.walkthrough import Step

DEADLINE = 60.0


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with Shell(environment=os.environ, directory=tmp_path) as shell:
        yield shell


def step(command: str, expected: str | None) -> Step:
    return Step(heading="Here", line=7, command=command, expected=expected, bundled_only=False, repeat=False)


def test_variables_and_functions_last_from_block_to_block(shell: Shell) -> None:
    shell.type('greet() { echo "hello $1"; }\nname=world', deadline=DEADLINE)
    assert shell.type('greet "$name"', deadline=DEADLINE) == ("hello world\n", 0)


def test_errors_are_printed_where_they_happen(shell: Shell) -> None:
    printed, code = shell.type("echo one; echo two >&2; echo three", deadline=DEADLINE)
    assert (printed, code) == ("one\ntwo\nthree\n", 0)


def test_a_failing_line_in_the_middle_is_not_lost(shell: Shell) -> None:
    assert shell.type("true\n(exit 3)\ntrue\n", deadline=DEADLINE) == ("", 3)


def test_a_failure_inside_a_condition_is_none(shell: Shell) -> None:
    printed, code = shell.type("echo no | grep hello && echo succeeded || echo rejected", deadline=DEADLINE)
    assert (printed, code) == ("rejected\n", 0)


def test_commands_do_not_read_the_blocks_that_follow(shell: Shell) -> None:
    assert shell.type("cat", deadline=DEADLINE) == ("", 0)


def test_here_documents_work(shell: Shell) -> None:
    assert shell.type("cat <<'EOF'\na: $b\nEOF\n", deadline=DEADLINE) == ("a: $b\n", 0)


def test_a_block_that_never_ends_is_an_error_that_shows_it(shell: Shell) -> None:
    with pytest.raises(ShellError, match=r"no end within 0.2 s\n.*read(?s:.*)begun"):
        shell.type("echo begun; read line <> <(:)", deadline=0.2)


def test_a_block_that_ends_the_shell_is_an_error(shell: Shell) -> None:
    with pytest.raises(ShellError, match="the shell ended"):
        shell.type("exit 0", deadline=DEADLINE)


def test_the_judgement_is_to_the_letter_and_shows_the_difference() -> None:
    expected = step("pipeline\n", "hello port 9000\nconnection succeeded\n")
    assert walkthrough.judge(expected, "hello port 9000\nconnection succeeded\n", 0) is None
    complaint = walkthrough.judge(expected, "connection rejected\n", 0)
    assert complaint is not None
    assert complaint.startswith("docs/walkthrough.md:7 (Here)\npipeline\n")
    assert "-connection succeeded" in complaint
    assert "+connection rejected" in complaint


def test_without_an_output_only_the_exit_code_counts() -> None:
    assert walkthrough.judge(step("apply\n", None), "created\n", 0) is None
    assert walkthrough.judge(step("apply\n", None), "refused\n", 1) is not None


def test_a_step_is_repeated_until_it_holds(shell: Shell) -> None:
    """Each attempt counts one further; without repeating, the first one is judged."""
    shell.type("count=0", deadline=DEADLINE)
    counting = step("count=$((count + 1)); echo $count\n", "3\n")
    assert walkthrough.type_step(shell, counting, repeat=False) is not None
    assert walkthrough.type_step(shell, counting, repeat=True) is None
