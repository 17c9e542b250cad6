"""A policy with a selector governs every workload of its namespace."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from enforcer import select
from enforcer.policy import Policy
from tests.mutants.enforcers import run

if __name__ == "__main__":
    governing = select.govern

    def govern(
        policies: Iterable[Policy], *, namespace: str, labels: Mapping[str, str], root_namespace: str
    ) -> tuple[Policy, ...]:
        unselective = [replace(policy, selector=None) for policy in policies]
        return governing(unselective, namespace=namespace, labels=labels, root_namespace=root_namespace)

    select.govern = govern
    run()
