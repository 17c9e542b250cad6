"""The condition Enforced: what it says, when it is written."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest

from enforcer.conditions import Condition, Reach, Writer, judge, says, status_patch
from enforcer.kube import KubeError
from enforcer.watch import Key

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
POLICY_STATUS = "/apis/security.istio.io/v1/namespaces/foo/authorizationpolicies/p/status"


def condition(**changes: Any) -> Condition:
    facts: dict[str, Any] = {
        "generation": 3,
        "problem": None,
        "malformed": False,
        "dry_run": False,
        "reaches": [Reach(node="foo/x", in_sync=True, nack=None)],
    }
    return judge(**(facts | changes))


@pytest.mark.parametrize(
    ("changes", "enforced", "reason"),
    [
        ({}, True, "Acknowledged"),
        ({"reaches": []}, True, "NoWorkloads"),
        ({"dry_run": True}, True, "DryRun"),
        ({"reaches": [Reach(node="foo/x", in_sync=False, nack=None)]}, False, "Pending"),
        ({"reaches": [Reach(node="foo/x", in_sync=False, nack="no")]}, False, "Nacked"),
        ({"problem": "needs mutual TLS"}, False, "Unsupported"),
        ({"problem": "bad port", "malformed": True}, False, "Rejected"),
    ],
)
def test_what_the_condition_says(changes: dict[str, Any], enforced: bool, reason: str) -> None:
    judged = condition(**changes)
    assert (judged.enforced, judged.reason, judged.generation) == (enforced, reason, 3)


def test_one_sidecar_behind_is_enough_for_pending() -> None:
    reaches = [Reach(node="foo/x", in_sync=True, nack=None), Reach(node="foo/y", in_sync=False, nack=None)]
    assert condition(reaches=reaches).enforced is False


def test_a_patch_keeps_what_others_wrote_and_the_time_of_the_last_change() -> None:
    other = {"type": "Ready", "status": "True"}
    held = {"type": "Enforced", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    patch = status_patch({"status": {"conditions": [other, held]}}, condition(), now=NOW)
    assert patch["status"]["conditions"][0] == other
    assert patch["status"]["conditions"][1]["lastTransitionTime"] == "2020-01-01T00:00:00Z"
    turned = status_patch({"status": {"conditions": [held]}}, condition(problem="x"), now=NOW)
    assert turned["status"]["conditions"][0]["lastTransitionTime"] == "2026-01-02T03:04:05Z"


def test_what_was_written_is_recognised() -> None:
    written = status_patch({}, condition(), now=NOW)
    assert says(written, condition())
    assert not says(written, condition(generation=4))
    assert not says({}, condition())


class Paper:
    """Takes status writes; fails while told to."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {"metadata": {"resourceVersion": "1"}}
        self.wanted: Condition = condition()
        self.patches: list[Any] = []
        self.failures = 0

    def patch(self, path: str, body: Any, *, content_type: str = "") -> dict[str, Any]:
        del content_type
        assert path == POLICY_STATUS
        self.patches.append(body)
        if self.failures:
            self.failures -= 1
            raise KubeError(status=500, message="not now")
        return {"metadata": {"resourceVersion": "2"}, **body}

    def read(self) -> dict[Key, tuple[dict[str, Any], Condition]]:
        return {Key(kind="AuthorizationPolicy", namespace="foo", name="p"): (self.document, self.wanted)}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sidecars may be slow here: that one was awaited is written only by a test that asks for it."""
    monkeypatch.setattr("enforcer.conditions.SETTLE_SECONDS", 600.0)


async def written(paper: Paper, count: int) -> None:
    """Waits for that many writes, then looks once more for a superfluous one."""
    async with asyncio.timeout(60):
        while len(paper.patches) < count:
            await asyncio.sleep(0.005)


def with_writer(paper: Paper, play: Callable[[Writer], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        writer = Writer(paper, paper.read)
        task = asyncio.create_task(writer.run())
        writer.notify()
        try:
            await play(writer)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(main())


def test_a_condition_is_written_once_until_the_watch_brings_it() -> None:
    paper = Paper()

    async def play(writer: Writer) -> None:
        await written(paper, 1)
        writer.notify()
        await asyncio.to_thread(int)
        paper.document = {"metadata": {"resourceVersion": "2"}, **paper.patches[0]}
        writer.notify()
        paper.wanted = condition(problem="x")
        writer.notify()
        await written(paper, 2)

    with_writer(paper, play)
    assert [patch["status"]["conditions"][0]["status"] for patch in paper.patches] == ["True", "False"]


def test_what_somebody_overwrote_is_written_again() -> None:
    paper = Paper()

    async def play(writer: Writer) -> None:
        await written(paper, 1)
        paper.document = {"metadata": {"resourceVersion": "3"}, "status": {}}
        writer.notify()
        await written(paper, 2)

    with_writer(paper, play)


def test_of_many_conditions_at_once_only_so_many_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enforcer.conditions.WRITES_AT_ONCE", 2)
    monkeypatch.setattr("enforcer.conditions.WRITES_A_SECOND", 1e-6)
    keys = [Key(kind="AuthorizationPolicy", namespace="foo", name=name) for name in "abc"]
    paths: list[str] = []

    class Papers(Paper):
        def patch(self, path: str, body: Any, *, content_type: str = "") -> dict[str, Any]:
            paths.append(path)
            return {"metadata": {"resourceVersion": "2"}, **body}

    papers = Papers()

    async def play() -> None:
        writer = Writer(papers, lambda: dict.fromkeys(keys, (papers.document, papers.wanted)))
        task = asyncio.create_task(writer.run())
        writer.notify()
        async with asyncio.timeout(60):
            while len(paths) < 2:
                await asyncio.sleep(0.005)
        for _ in range(5):
            writer.notify()
            await asyncio.to_thread(int)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(play())
    assert [path.split("/")[-2] for path in paths] == ["a", "b"]


def test_a_failed_write_is_tried_again() -> None:
    paper = Paper()
    paper.failures = 2
    with_writer(paper, lambda _: written(paper, 3))


def test_a_short_wait_for_sidecars_is_not_written() -> None:
    paper = Paper()
    paper.wanted = condition(reaches=[Reach(node="foo/x", in_sync=False, nack=None)])

    async def play(writer: Writer) -> None:
        await asyncio.to_thread(int)
        assert paper.patches == []
        paper.wanted = condition()
        writer.notify()
        await written(paper, 1)

    with_writer(paper, play)
    assert paper.patches[0]["status"]["conditions"][0]["reason"] == "Acknowledged"
