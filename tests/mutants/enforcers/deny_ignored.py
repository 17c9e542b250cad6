"""DENY policies are accepted and never enforced."""

from enforcer.policy import Action
from tests.mutants.enforcers import compile_as, run

if __name__ == "__main__":
    compile_as(lambda policies: [policy for policy in policies if policy.action is not Action.DENY])
    run()
