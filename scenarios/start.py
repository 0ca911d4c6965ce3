"""The command line from its first moment: Ctrl-C counts before anything else is loaded."""

from scenarios.interrupting import interruptible

__all__ = ["main"]


def main() -> None:
    """Run the command line; an interrupt at whatever moment ends it with exit status 130."""
    with interruptible():
        from scenarios.cli import app  # noqa: PLC0415 - a tenth of a second

        app()
