"""Values that a study file gives for each symbol: ``{SPY = 1.0, default = 2.0}``."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

from pydantic_core import PydanticCustomError

from optimizer.study_file.settings import SETTING_KEYS
from optimizer.study_file.values import Problem, bounded, named, refusal, refuse_all
from optimizer.text import quoted

DEFAULT = "default"
"""Key of the value of every symbol that the table does not name."""


def is_per_symbol(raw: object) -> bool:
    """Whether a value is a table of symbols and not one that searches or sweeps.

    Args:
        raw: the value that the study file gives.
    """
    return isinstance(raw, Mapping) and bool(raw) and not raw.keys() & set(SETTING_KEYS)


def read_per_symbol(
    raw: Mapping[str, object], default: float, low: float, high: float, otherwise: str = ""
) -> dict[str, float]:
    """The numbers by symbol, and under ``default`` that of all other symbols.

    Args:
        raw: the value that the study file gives.
        default: the value where ``raw`` has none.
        low, high: bounds, both allowed.
        otherwise: what else the key may hold, for messages.

    Raises:
        ValidationError: has a line for each value that cannot be used.
    """
    values = {DEFAULT: default}
    problems: list[Problem] = []
    for symbol, value in raw.items():
        try:
            if isinstance(value, bool) or not isinstance(value, Real):
                message = f"got {quoted(value)}; expected a number for the symbol {quoted(symbol)}"
                raise refusal(message + otherwise)
            values[named(symbol)] = float(bounded(value, float, low, high))
        except PydanticCustomError as error:
            problems.append(((symbol,), error.message()))
    refuse_all(problems)
    return values


def per_symbol_to_dict(values: Mapping[str, float]) -> object:
    """The values as a study file states them: one number where no symbol has its own.

    Args:
        values: the values by symbol, ``default`` among them.
    """
    return values[DEFAULT] if len(values) == 1 else dict(values)
