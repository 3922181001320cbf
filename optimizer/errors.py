"""The errors of barsweep, as subclasses of the built-in errors that a caller would expect.

Each message is one line that names the file, the place in it and the fix. The command line prints it
and exits with 2.
"""

from __future__ import annotations


class BarsweepError(Exception):
    """Base of every error that barsweep raises on purpose.

    Characters that cannot be printed, such as a line break from a file, are escaped.
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


class UntrustedCodeError(StrategyError):
    """Code or a cluster that recorded data names, and that the user has neither used nor approved."""


class SignalError(StrategyError):
    """A user's signal raised while it ran."""


class StudyError(BarsweepError, RuntimeError):
    """A study that cannot start, continue or be read: names its folder."""


class ExportError(BarsweepError, ValueError):
    """An exported parameter set that cannot be read, or a folder with nothing to export."""
