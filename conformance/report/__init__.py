"""Reports: pure functions of the record's lines."""
