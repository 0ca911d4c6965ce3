"""Scenario files: their schema, and how they are found, extended, changed and checked."""
