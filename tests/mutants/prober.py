"""Mutants of the prober. It travels as text, so its text is what they change.

A prober is the one witness of what its client saw. Where it lies about a connection of which nobody else
knows better (FIN called RST, a time-out called an end), no run can tell; tests/probe holds it to the truth.
"""

from __future__ import annotations

from collections.abc import Callable

from conformance.probe import session
from tests.mutants.seams import MUTANTS

ENDED = 'self.end("banner" if self.received else "closed", ended_by="fin")'
ANSWERED = 'self.end("answered", ended_by="us")'
BASELINE = 4  # connections of one client to other pods

FALSIFIED = {
    # A connection that ended is reported as an answered one.
    "answers_invented": (ENDED, 'self.end("answered", ended_by="fin")'),
    # After the baseline an answered connection is reported as one that ended.
    "answers_lost": (
        ANSWERED,
        'Probe.told = getattr(Probe, "told", 0) + (not self.address.startswith("127."))\n'
        f"            lost = Probe.told > {BASELINE}\n"
        '            self.end("closed" if lost else "answered", ended_by="fin" if lost else "us")',
    ),
    # The end of a connection is reported as a refusal of it.
    "ends_called_refusals": (ENDED, 'self.end("refused", ended_by="rst")'),
}


def falsified(old: str, new: str) -> Callable[[], None]:
    def patch() -> None:
        source = session._SOURCE
        if source.count(old) != 1:
            raise ValueError(f"{old!r} stands {source.count(old)} times in the prober")
        changed = source.replace(old, new)
        session._SOURCE = changed
        reader = session.CLIENT_COMMAND[-1].replace(str(len(source)), str(len(changed)))
        session.CLIENT_COMMAND = (*session.CLIENT_COMMAND[:-1], reader)

    return patch


MUTANTS.update({name: falsified(*change) for name, change in FALSIFIED.items()})
