"""The API server of the embedded cluster: the only part that touches the storage."""
