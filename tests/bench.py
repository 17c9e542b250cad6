"""`make bench`: the suite's own speed. Medians of several runs; nothing here passes or fails.

Set-up is measured part by part over several clusters; scenarios and time to enforce come from the record of
one whole run, peak memory from watching all of its processes.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from conformance.campaign_options import new_run_id
from conformance.cluster.embedded.cluster import start_embedded
from conformance.cluster.kube import Kube
from conformance.profile import find_profile, load_profile
from conformance.report.figures import exposure, recover_times
from conformance.stage import open_rig, prepare
from conformance.topology import Names
from tests.processes import descendants

PROJECT = Path(__file__).parent.parent
SET_UPS = 5
SAMPLE_SECONDS = 0.2


def main() -> None:
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    set_ups = [set_up() for _ in range(SET_UPS)]
    print(f"\nembedded cluster, {SET_UPS} times: median (min .. max), seconds")
    for part in set_ups[0]:
        values = [measured[part] for measured in set_ups]
        print(f"  {part:<34} {statistics.median(values):6.2f} ({min(values):.2f} .. {max(values):.2f})")
    totals = [sum(measured.values()) for measured in set_ups]
    print(f"  {'ready for the first scenario':<34} {statistics.median(totals):6.2f}"
          f" ({min(totals):.2f} .. {max(totals):.2f})")  # fmt: skip
    whole_run()


def set_up() -> dict[str, float]:
    """One cluster from nothing to ready; seconds for each part."""
    profile = load_profile(find_profile("bundled"))
    quiet: Callable[[str], None] = lambda _text: None  # noqa: E731 - a sink, not a function of ours
    moments = [time.perf_counter()]
    with start_embedded() as cluster:
        moments.append(time.perf_counter())
        kube = Kube(cluster.kubeconfig)
        prepare(kube, profile, quiet)
        moments.append(time.perf_counter())
        names = Names(run=new_run_id(), worker="", root=profile.root_namespace)
        rig = open_rig(kube, profile, names, quiet)
        moments.append(time.perf_counter())
        rig.close()
        kube.close()
    parts = ("cluster answers", "enforcer ready", "workloads, sidecars, streams ready")
    return {part: end - begin for part, begin, end in zip(parts, moments, moments[1:], strict=False)}


def whole_run() -> None:
    """All scenarios once, in a process of their own."""
    with tempfile.TemporaryDirectory(prefix="authz-bench-") as reports:
        command = [sys.executable, "-m", "conformance", "run", "--cluster=embedded", "--report-dir", reports]
        begun = time.perf_counter()
        with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL) as process:
            peak = Peak(process.pid)
            code = process.wait()
            peak.stop()
        seconds = time.perf_counter() - begun
        lines = [
            json.loads(line) for line in (Path(reports) / "latest" / "record.jsonl").read_text().splitlines()
        ]
    cases = [line for line in lines if line["line"] == "case"]
    enforced = [case["time_to_enforce_ms"] for case in cases if case["time_to_enforce_ms"] is not None]
    print(
        f"\none run of {len(cases)} scenarios and the walkthrough: exit code {code}, {seconds:.1f} s in all"
    )
    print(f"  time per scenario, ms              {spread([case['duration_ms'] for case in cases])}")
    print(f"  time to enforce, ms                {spread(enforced)}")
    print(f"  time to recover, ms                {spread(recover_times(cases))}")
    print(f"  probes of the exposure watch       {exposure(cases)['probes']:6}")
    print(f"  peak memory of all processes, MB   {peak.megabytes:6.0f} (proportional set size)")


def spread(values: Sequence[float]) -> str:
    """Median and 95th percentile."""
    cuts = statistics.quantiles(values, n=20)
    return f"p50 {statistics.median(values):.0f}, p95 {cuts[18]:.0f}, max {max(values):.0f}"


class Peak:
    """Samples the memory of a process and all below it until stopped."""

    def __init__(self, pid: int) -> None:
        self.megabytes = 0.0
        self._pid = pid
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            kilobytes = sum(proportional_set_size(process.pid) for process in descendants(self._pid))
            self.megabytes = max(self.megabytes, kilobytes / 1024)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


def proportional_set_size(pid: int) -> int:
    """Kilobytes, shared pages counted by share; 0 for a process that is gone or not ours to look at."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
