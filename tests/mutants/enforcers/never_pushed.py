"""Every policy is processed and reported as acknowledged, and no sidecar ever gets one."""

from tests.mutants.enforcers import compile_as, run

if __name__ == "__main__":
    compile_as(lambda _policies: [])
    run()
