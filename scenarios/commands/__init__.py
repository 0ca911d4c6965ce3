"""The commands of `moe2`, by topic, and what they print."""
