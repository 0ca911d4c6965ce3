"""The report of a scenario: one self-contained HTML page."""

from scenarios.report.run_page import write_report

__all__ = ["write_report"]
