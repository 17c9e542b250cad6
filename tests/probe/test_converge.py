"""Agreement N times in a row, exposure never hidden, on a clock of our own."""

from __future__ import annotations

from conformance.probe.converge import Convergence, converge


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def play(answers: str, *, rounds: int = 3, timeout: float = 10.0) -> Convergence[str]:
    """Each letter is a round: y agrees, n does not, X is a breach; the last one repeats."""
    clock = Clock()
    left = list(answers)

    def sweep() -> str:
        clock.now += 0.01
        return left.pop(0) if len(left) > 1 else left[0]

    return converge(
        sweep,
        agrees=lambda answer: answer == "y",
        breaches=lambda answer: answer == "X",
        rounds=rounds,
        timeout=timeout,
        clock=clock,
        pause=clock.pause,
    )


def test_agreement_at_once() -> None:
    result = play("yyy")
    assert (result.first_stable, len(result.rounds)) == (0, 3)


def test_a_miss_starts_the_count_again() -> None:
    result = play("nyynyyy")
    assert (result.first_stable, "".join(result.rounds)) == (4, "nyynyyy")


def test_a_breach_ends_it_and_is_kept() -> None:
    result = play("yyXyyy")
    assert ("".join(result.rounds), result.breached, result.first_stable) == ("yyX", True, None)


def test_the_deadline_ends_it_without_agreement() -> None:
    result = play("n", timeout=1.0)
    assert (result.first_stable, result.breached) == (None, False)
    assert result.finished[-1] <= 1.0 + 0.02
    assert len(result.rounds) < 20  # pauses grow


def test_flapping_never_becomes_stable() -> None:
    assert play("yn" * 400, timeout=3.0).first_stable is None


def test_there_is_one_round_even_without_time() -> None:
    assert len(play("n", timeout=0.0).rounds) == 1
    assert play("y", rounds=1, timeout=0.0).first_stable == 0
