"""Parts broken on purpose: the suite must turn red on each, and name the requirement that it breaks."""
