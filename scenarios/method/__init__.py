"""The method on one's own LLMs: answers collected, methods compared under budgets."""
