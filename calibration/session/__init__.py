"""A calibration session: what to measure, under which conditions, and its append-only recording."""
