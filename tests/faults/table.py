"""Faults as data: how each is brought about and when, what a case may say then, the words of the cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from tests.faults import injections as inject
from tests.faults.api_proxy import Reply
from tests.faults.injections import CLIENT, ECHO, EXEC, LOG, PLAIN, READ, WRITE
from tests.faults.stand import Inject, When

INCONCLUSIVE = ("inconclusive",)
PASSED = ("passed",)
EITHER = ("passed", "inconclusive")  # where it depends on who is faster
# Of a fault that a case must run into; a busy machine may take longer for everything else.
SHORT: Mapping[str, float] = MappingProxyType(
    {"probe": 1.0, "converge": 0.5, "recovery": 0.5, "testimony": 1.0, "attribution": 0.5}
)
SWIFT: Mapping[str, float] = MappingProxyType({"converge": 0.5, "recovery": 0.5, "attribution": 0.5})
# Where connections are lost that no access log will ever tell of.
UNTOLD: Mapping[str, float] = MappingProxyType({"attribution": 0.5})
PORTS = ("9000", "9001")
MEANWHILE = "restarted or replaced while the probes ran: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`words`: one of them stands in the reason of whatever is inconclusive. `deadlines` instead of the
    profile's. `quick`: struck by `make test` too, the others by `make faults` alone."""

    name: str
    when: When
    inject: Inject
    allowed: tuple[str, ...] = INCONCLUSIVE
    words: tuple[str, ...] = ()
    deadlines: Mapping[str, float] = field(default_factory=dict)
    quick: bool = False


FAULTS = (
    Fault(
        name="backend killed",
        when=When.SWEEP,
        inject=inject.killed(ECHO, "tcp-echo"),
        words=(
            f"{MEANWHILE}tcp-echo of tcp-echo.foo",
            "the log of tcp-echo.foo ended",
            "the backend does not answer inside its own pod: unknown: prober in tcp-echo.foo",
        ),
        deadlines=UNTOLD,
        quick=True,
    ),
    Fault(
        name="backend accepts and never answers",
        when=When.LANDED,
        inject=inject.stopped(ECHO, "tcp-echo"),
        words=("timed out: connected, but neither an answer nor an end",),
        deadlines=SHORT,
    ),
    Fault(
        name="the name leads to another backend",
        when=When.LANDED,
        inject=inject.name_is(CLIENT, ECHO, of="tcp-echo.bar"),
        words=("the name of tcp-echo.foo resolved to",),
        deadlines=SWIFT,
    ),
    Fault(
        name="another backend answers",
        when=When.LANDED,
        inject=inject.diverted(PLAIN, *PORTS, to="tcp-echo.bar"),
        words=("its bytes are in the log of tcp-echo.bar",),
        deadlines={**SWIFT, "testimony": 1.0},
    ),
    Fault(
        name="another backend answers from the beginning",
        when=When.BEGINNING,
        inject=inject.diverted(PLAIN, *PORTS, to="tcp-echo.bar"),
        words=("its bytes are in the log of tcp-echo.bar",),
        deadlines={**UNTOLD, "testimony": 1.0},
    ),
    Fault(
        name="DNS entry gone",
        when=When.LANDED,
        inject=inject.name_is(CLIENT, ECHO, of=None),
        words=("does not resolve",),
        deadlines=SWIFT,
    ),
    Fault(
        name="client pod restarted",
        when=When.SWEEP,
        inject=inject.pod_deleted(CLIENT),
        words=("prober in sleep.foo", "read pod foo-"),
        deadlines=SWIFT,
    ),
    Fault(
        name="exec streams cut",
        when=When.SWEEP,
        inject=inject.cut("/exec"),
        allowed=EITHER,
        words=("the exec stream broke",),
        quick=True,
    ),
    Fault(
        name="log streams cut",
        when=When.SWEEP,
        inject=inject.cut("/log"),
        words=("the log of tcp-echo.foo ended", "the access log of tcp-echo.foo ended"),
        deadlines=UNTOLD,
    ),
    Fault(
        name="sidecar of the backend killed",
        when=When.SWEEP,
        inject=inject.killed(ECHO, "sidecar"),
        words=(f"{MEANWHILE}istio-proxy of tcp-echo.foo", "the access log of tcp-echo.foo ended"),
        deadlines=UNTOLD,
    ),
    Fault(
        name="sidecar of the backend stopped",
        when=When.LANDED,
        inject=inject.stopped(ECHO, "sidecar"),
        words=("timed out: connected, but neither an answer nor an end",),
        deadlines=SHORT,
    ),
    Fault(
        name="sidecar of the client killed",
        when=When.SWEEP,
        inject=inject.killed(CLIENT, "sidecar"),
        words=(f"{MEANWHILE}istio-proxy of sleep.foo",),
        allowed=EITHER,
        deadlines=UNTOLD,
    ),
    Fault(
        name="control plane killed",
        when=When.CHANGE,
        inject=inject.enforcer_killed,
        words=("failed calling webhook", "enforcer status: the command ended"),
        allowed=EITHER,
    ),
    Fault(
        name="control plane killed",
        when=When.LANDED,
        inject=inject.enforcer_killed,
        words=("failed calling webhook", "enforcer status: the command ended"),
    ),
    Fault(
        name="control plane stopped",
        when=When.LANDED,
        inject=inject.enforcer_stopped,
        words=("no answer from the Kubernetes API", "still in force, as far as the control plane tells"),
        deadlines={"barrier": 1.0, "recovery": 0.5},
    ),
    Fault(
        name="control plane restarted",
        when=When.SWEEP,
        inject=inject.enforcer_restarted,
        words=("failed calling webhook", "enforcer status: the command ended"),
    ),
    Fault(
        name="API answers 500 to every write",
        when=When.CHANGE,
        inject=inject.api_says(Reply(code=500, reason="InternalError"), methods=WRITE),
        words=("500 InternalError",),
    ),
    Fault(
        name="API answers 500 with Retry-After, once",
        when=When.CHANGE,
        inject=inject.api_says(
            Reply(code=500, reason="ServerTimeout", retry_after=0), methods=WRITE, times=1
        ),
        allowed=PASSED,
    ),
    Fault(
        name="API answers 429 with Retry-After, twice",
        when=When.CHANGE,
        inject=inject.api_says(
            Reply(code=429, reason="TooManyRequests", retry_after=0), methods=WRITE, times=2
        ),
        allowed=PASSED,
    ),
    Fault(
        name="API answers 429 to every write",
        when=When.CHANGE,
        inject=inject.api_says(
            Reply(code=429, reason="TooManyRequests", retry_after=1), methods=WRITE, path="/p"
        ),
        words=("429 TooManyRequests",),
    ),
    Fault(
        name="API answers 409 to every write",
        when=When.CHANGE,
        inject=inject.api_says(Reply(code=409, reason="Conflict"), methods=WRITE),
        words=("409 Conflict",),
    ),
    Fault(
        name="API says that what is not there exists",
        when=When.CHANGE,
        inject=inject.api_says(Reply(code=409, reason="AlreadyExists"), methods=("POST",)),
        words=("404 NotFound",),
    ),
    Fault(
        name="API is slow",
        when=When.CHANGE,
        inject=inject.api_says(Reply(delay=0.1), methods=READ + WRITE),
        allowed=PASSED,
    ),
    Fault(
        name="API never answers a write",
        when=When.CHANGE,
        inject=inject.api_says(Reply(silent=True), methods=WRITE),
        words=("no answer from the Kubernetes API",),
    ),
    Fault(
        name="API never answers a new exec stream",
        when=When.SWEEP,
        inject=inject.new_streams(EXEC, Reply(silent=True)),
        words=("did not answer the exec request", "the exec stream broke"),
        deadlines=SWIFT,
    ),
    Fault(
        name="API accepts a new exec stream and is silent",
        when=When.SWEEP,
        inject=inject.new_streams(EXEC, Reply(mute=True)),
        words=("no line within its deadline", "the exec stream broke"),
        deadlines={**SWIFT, "ready": 3.0},
    ),
    Fault(
        name="API never answers a new log stream",
        when=When.BEGINNING,
        inject=inject.new_streams(LOG, Reply(silent=True)),
        words=("no answer from the Kubernetes API",),
    ),
    Fault(
        name="API accepts a new log stream and is silent",
        when=When.BEGINNING,
        inject=inject.new_streams(LOG, Reply(mute=True)),
        words=("is open and silent",),
        deadlines={**SWIFT, "testimony": 1.0},
    ),
    Fault(
        name="watch connections of the control plane cut",
        when=When.CHANGE,
        inject=inject.enforcer_cut,
        allowed=PASSED,
    ),
    Fault(
        name="policy changed by someone else",
        when=When.LANDED,
        inject=inject.policy_patched({"spec": {"action": "DENY"}}),
        words=("somebody else changed what this case had applied: AuthorizationPolicy/",),
        deadlines=SWIFT,
        quick=True,
    ),
    Fault(
        name="policy made a trial by someone else",
        when=When.LANDED,
        inject=inject.policy_patched({"metadata": {"annotations": {"istio.io/dry-run": "true"}}}),
        words=("somebody else changed what this case had applied: AuthorizationPolicy/",),
        deadlines=SWIFT,
    ),
    Fault(
        name="policy deleted by someone else",
        when=When.LANDED,
        inject=inject.policy_deleted,
        words=("somebody else changed what this case had applied: AuthorizationPolicy/",),
        deadlines=SWIFT,
    ),
    Fault(
        name="packets delayed by 50 ms",
        when=When.LANDED,
        inject=inject.packets(PLAIN, "delay", "0.05", *PORTS),
        allowed=PASSED,
    ),
    Fault(
        name="packets delayed beyond the deadline",
        when=When.LANDED,
        inject=inject.packets(PLAIN, "delay", "1.5", *PORTS),
        words=("timed out",),
        deadlines=SHORT,
    ),
    Fault(
        name="packets dropped",
        when=When.LANDED,
        inject=inject.packets(PLAIN, "drop", *PORTS),
        words=("timed out: no answer to the connect",),
        deadlines=SHORT,
    ),
    Fault(
        name="clock jumps ahead by a day",
        when=When.SWEEP,
        inject=inject.clock_jumps(86400),
        allowed=PASSED,
    ),
    Fault(
        name="clock jumps back by a day",
        when=When.SWEEP,
        inject=inject.clock_jumps(-86400),
        allowed=PASSED,
    ),
)
