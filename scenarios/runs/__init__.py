"""Running a scenario: what it is made of, its replications, and what is written."""
