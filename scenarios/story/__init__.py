"""The story of a run in plain tables and words, before anything is drawn."""
