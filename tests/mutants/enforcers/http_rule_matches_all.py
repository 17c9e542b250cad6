"""An ALLOW rule with an HTTP-only field loses the field instead of being ignored, so it matches more."""

from enforcer import rbac
from enforcer.policy import Action, Rule
from tests.mutants.enforcers import run

if __name__ == "__main__":
    narrowed = rbac.without_http

    def widened(rule: Rule, action: Action) -> Rule | None:
        return narrowed(rule, Action.DENY if action is Action.ALLOW else action)

    rbac.without_http = widened
    run()
