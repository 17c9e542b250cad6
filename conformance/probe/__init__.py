"""The prober: a small client inside the workload, one open stream to it, and rounds until they agree."""
