"""What can go wrong, as subclasses of the built-in that a caller would catch anyway.

Each message stands on one line and names the file, the place in it and the mend. The command line
prints it and exits with 2.
"""

from __future__ import annotations


class BarsweepError(Exception):
    """Base of every error that barsweep raises on purpose.

    What cannot be printed, as a line break out of a file, is escaped: a message is one line.
    """

    def __init__(self, message: str = "") -> None:
        escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        super().__init__("".join(escaped))


class DataError(BarsweepError, ValueError):
    """Bars that cannot be used: names the file, symbol, row or timestamp, and column."""


class StudyFileError(BarsweepError, ValueError):
    """A study file that cannot be used: names the file and the key."""


class StrategyError(BarsweepError, ValueError):
    """A user's strategy that cannot be loaded, compiled or evaluated."""


class SignalError(StrategyError):
    """A user's signal raised while it ran."""


class StudyError(BarsweepError, RuntimeError):
    """A study that cannot start, go on or be read: names its folder."""


class ExportError(BarsweepError, ValueError):
    """An exported parameter set that cannot be read, or a folder with nothing to export."""
