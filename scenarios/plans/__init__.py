"""Questions that planners ask: what to deploy, for how many users, and what breaks first."""
