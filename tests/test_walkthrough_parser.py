"""The walkthrough's parser: what becomes a step, and what is refused rather than passed over."""

from __future__ import annotations

import pytest

from conformance.walkthrough import WALKTHROUGH, WalkthroughError, in_namespace, read_walkthrough

DOCUMENT = """\
# Title

## First

```bash
kubectl apply -f - <<'EOF'
kind: Thing
EOF
```

Some words.

<!-- bundled only, repeat -->
```bash
echo 'port 9000'
```

```text
port 9000
```

## Second

```yaml
not: typed
```

```bash
true
```
"""


def test_bash_blocks_become_steps_with_their_heading_and_line() -> None:
    steps = read_walkthrough(DOCUMENT)
    assert [(step.heading, step.line) for step in steps] == [("First", 5), ("First", 14), ("Second", 28)]
    assert steps[0].command == "kubectl apply -f - <<'EOF'\nkind: Thing\nEOF\n"


def test_a_text_block_after_a_bash_block_is_its_output() -> None:
    assert [step.expected for step in read_walkthrough(DOCUMENT)] == [None, "port 9000\n", None]


def test_a_comment_marks_the_block_below_it_and_no_other() -> None:
    marks = [(step.bundled_only, step.repeat) for step in read_walkthrough(DOCUMENT)]
    assert marks == [(False, False), (True, True), (False, False)]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("```bash\ntrue\n", "1: this block is never closed"),
        ("```text\nhello\n```\n", "1: this output follows no command"),
        ("```bash\ntrue\n```\nwords\n```text\nhello\n```\n", "5: this output follows no command"),
        ("```bash\ntrue\n```\n```text\na\n```\n```text\nb\n```\n", "7: this output follows no command"),
        ("<!-- bundled -->\n```bash\ntrue\n```\n", "1: unknown mark 'bundled'"),
        ("<!-- repeat -->\nwords\n```bash\ntrue\n```\n", "1: nothing to mark"),
        ("<!-- repeat -->\n", "1: nothing to mark"),
    ],
)
def test_what_would_be_passed_over_silently_is_refused(document: str, message: str) -> None:
    with pytest.raises(WalkthroughError, match=f"^{message}"):
        read_walkthrough(document)


def test_the_namespace_is_replaced_where_it_is_a_word() -> None:
    document = (
        "```bash\nkubectl get pods -n foo food foo-x namespace/foo tcp-echo.foo\n```\n```text\nfoo\n```\n"
    )
    (step,) = in_namespace(read_walkthrough(document), "walk-1")
    assert step.command == "kubectl get pods -n walk-1 food foo-x namespace/walk-1 tcp-echo.walk-1\n"
    assert step.expected == "walk-1\n"


def test_our_walkthrough_shows_every_outcome_of_both_ports() -> None:
    steps = read_walkthrough(WALKTHROUGH.read_text())
    probes = [
        (step.command.split("nc tcp-echo ")[1][:4], step.expected)
        for step in steps
        if "connection succeeded" in step.command
    ]
    for port in ("9000", "9001"):
        assert (port, f"hello port {port}\nconnection succeeded\n") in probes
        assert (port, "connection rejected\n") in probes


def test_our_walkthrough_waits_for_each_policy_it_applies() -> None:
    commands = [step.command for step in read_walkthrough(WALKTHROUGH.read_text())]
    applied = [number for number, command in enumerate(commands) if "AuthorizationPolicy" in command]
    assert len(applied) == 3
    assert all("--for=condition=Enforced" in commands[number + 1] for number in applied)
