"""Tell a person what a long command does: sentences and progress.

Both go to stderr.
"""

import sys

from ecan_core.command_line.console import Progress, one_line


class Narrator:
    """Tell a person what is going on.

    Args:
        quiet: say nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def say(self, sentence: str) -> None:
        """Write one sentence."""
        if not self._quiet:
            print(one_line(sentence), file=sys.stderr, flush=True)

    def progress(self, title: str) -> Progress:
        """Return a context manager for progress.

        Call it with what is done and what there is to do.
        """
        return Progress(title, quiet=self._quiet)
