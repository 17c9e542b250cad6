"""The controllers of the embedded cluster: clients of its API, one room each."""
