"""The errors of barsweep, as subclasses of the built-in errors that a caller would expect.

Each message is one line that names the file, the place in it and the fix. The command line prints it
and exits with 2.
"""

from __future__ import annotations


def escaped(text: str) -> str:
    r"""A text that a terminal shows as it is: what could act on the terminal is spelled out.

    Control characters, line breaks, marks that reverse the direction of writing, and half surrogates
    become such as ``\x1b``. Every error and every line and cell that a command prints goes through this.

    Args:
        text: a text from a file, or from anybody.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


class BarsweepError(Exception):
    """Base of every error that barsweep raises on purpose; its message is ``escaped``.

    Args:
        message: one line that names the file, the place in it and the fix.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(escaped(message))


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


class FlowError(BarsweepError, ValueError):
    """What a part of the event flow was given and cannot take, such as another portfolio's fill."""


class StudyError(BarsweepError, RuntimeError):
    """A study that cannot start, continue or be read: names its folder."""


class ExportError(BarsweepError, ValueError):
    """An exported parameter set that cannot be read, or a folder with nothing to export."""


class BrokerError(BarsweepError, RuntimeError):
    """A broker that cannot be used, or a trading session that cannot go on: names what to do."""
