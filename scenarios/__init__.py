"""What-if questions: scenario files, replications, verdicts, reports and the command line."""
