"""What recovery makes of answers that are in no log: of logs that do not tell, and of answers of others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conformance.evidence import Kind, Observation, Outcome, Waited
from conformance.logbook import LogBook
from conformance.notes import Notes
from conformance.open_paths import recover
from conformance.profile import find_profile, load_profile
from conformance.scenario import Expectation
from conformance.step_result import Made
from conformance.sweep import Lane, Probed, lanes
from conformance.topology import Ref
from conformance.verdict import Failure, Status, Verdict, worst

ECHO = Ref(name="tcp-echo", namespace="foo")
SLEEP = Ref(name="sleep", namespace="foo")
NONCE = "n0123456789abcdef"
SEEN = Verdict(status=Status.FAILED, failure=Failure.EXPOSURE, reason="it got through")
LANE: Lane = lanes([Expectation(source=SLEEP, target=ECHO, ports=(9000,), outcome=Outcome.SUCCEEDED)])[0].lane


@pytest.mark.parametrize(
    ("heard", "mute", "status"),
    [
        ("tcp-echo.foo", "", Status.FAILED),
        ("", "the marker was not found in the log of tcp-echo.foo", Status.FAILED),
        ("", "", Status.INCONCLUSIVE),
        ("tcp-echo.bar", "", Status.INCONCLUSIVE),
    ],
    ids=["told", "mute logs", "nobody of ours answered", "another one answered"],
)
def test_a_log_that_does_not_tell_hides_no_breach(
    heard: str, mute: str, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    logbook = LogBook()
    if heard:
        logbook.reader(heard)({"log": "connection", "port": 9000, "text": NONCE, "bytes": 17})
    rig: Any = SimpleNamespace(
        profile=load_profile(find_profile("bundled")),
        logbook=logbook,
        watched=[],
        silent_backends=list,
        await_log=lambda *_, **__: set() if heard else {str(ECHO)},
    )
    answered = Probed(lane=LANE, nonce=NONCE, line=NONCE, seen=Observation(kind=Kind.ANSWERED))
    landed = Waited(strategy="played", landed=True, seconds=0.0, detail="")
    monkeypatch.setattr("conformance.open_paths.sweep", lambda *_: [answered])
    monkeypatch.setattr("conformance.open_paths.await_landing", lambda *_: landed)
    monkeypatch.setattr("conformance.open_paths.markers", lambda *_: (mute, {}, []), raising=False)
    notes = Notes(begun=0.0, verdicts=[SEEN], steps=[{}])
    recover(rig, [LANE], Made(), notes)
    assert worst(notes.verdicts).status is status
    assert any(mute in verdict.reason for verdict in notes.verdicts)
