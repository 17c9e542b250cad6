"""notPorts is read as if it said ports."""

from dataclasses import replace

from enforcer.policy import Clause, Policy, Rule
from tests.mutants.enforcers import compile_as, run


def positive(clause: Clause) -> Clause:
    return tuple(
        replace(condition, values=condition.values + condition.not_values, not_values=())
        if condition.key == "destination.port"
        else condition
        for condition in clause
    )


def misread(policy: Policy) -> Policy:
    def rule(written: Rule) -> Rule:
        return replace(written, operations=tuple(map(positive, written.operations)))

    return replace(policy, rules=tuple(map(rule, policy.rules)))


if __name__ == "__main__":
    compile_as(lambda policies: [misread(policy) for policy in policies])
    run()
