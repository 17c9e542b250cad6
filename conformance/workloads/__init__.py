"""The programs that run in the workloads: standard library only, each file complete in itself."""
