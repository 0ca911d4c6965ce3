"""The command line from its first moment: Ctrl-C counts before anything else is loaded."""

import gc

from scenarios.interrupting import interruptible

__all__ = ["main"]

GARBAGE_AT = 300_000  # objects more than before: beyond what loading makes, none of which is garbage


def main() -> None:
    """Run the command line; an interrupt at whatever moment ends it with exit status 130."""
    gc.set_threshold(GARBAGE_AT)
    with interruptible():
        from scenarios.cli import app  # noqa: PLC0415 - a tenth of a second

        try:
            app()
        finally:
            gc.freeze()  # the interpreter, when it ends, need not look through all that is loaded
