"""What a run leaves behind: outcomes, tables, and the metrics on them."""
