"""What sidecars are told: snapshots (pure) and the service that delivers them."""
