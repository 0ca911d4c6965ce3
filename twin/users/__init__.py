"""Users and what they send: arrivals, prompts, traces, and where they are."""
