"""Runtimes: what generates tokens and can be timed, a streaming endpoint or a model in this process."""
