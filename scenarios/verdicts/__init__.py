"""Budgets judged on the tables of runs."""
