"""Constraints of a study: comparisons of metrics, parameters and numbers, read without ``eval``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optimizer.catalogue import METRICS
from optimizer.study_file.values import refusal
from optimizer.text import quoted

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
    "!=": lambda left, right: (left < right) | (left > right),  # NaN never holds
}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_OPERAND = rf"({_NUMBER}|[A-Za-z_]\w*)"
_CONSTRAINT = re.compile(rf"\s*{_OPERAND}\s*(<=|<|>=|>|==|!=)\s*{_OPERAND}\s*", re.ASCII)
_QUOTED = re.compile(r"""(["'])([A-Za-z_]\w*)\1""", re.ASCII)
_AND = re.compile(r"\s+and\s+", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Constraint:
    """A comparison of two operands, each a metric, a parameter column or a number.

    A comparison of parameters only is checked before simulation and drops parameter sets. One with a
    metric is checked on the in-sample result.

    Attributes:
        left, right: the operands; a name is a text.
        operator: such as ``<=``.
    """

    left: str | float
    operator: str
    right: str | float

    @property
    def names(self) -> tuple[str, ...]:
        """The operands that are names."""
        return tuple(side for side in (self.left, self.right) if isinstance(side, str))

    @property
    def on_result(self) -> bool:
        """Whether an operand is a metric, so that only a simulation can tell."""
        return any(name in METRICS for name in self.names)

    def holds(self, values: Mapping[str, Any]) -> Any:
        """Compare; a NaN never satisfies a comparison.

        Args:
            values: number or array of each of ``names``.

        Returns:
            A bool, or an array of bools if ``values`` has arrays.
        """
        left, right = (
            values[side] if isinstance(side, str) else side for side in (self.left, self.right)
        )
        return _OPERATORS[self.operator](left, right)

    def __str__(self) -> str:
        """The comparison as a study file states it."""
        left, right = (
            side if isinstance(side, str) else repr(int(side) if side == int(side) else side)
            for side in (self.left, self.right)
        )
        return f"{left} {self.operator} {right}"


def read_constraint(raw: object) -> Constraint:
    """Parse ``<operand> <operator> <operand>``.

    Args:
        raw: a text, or a constraint, which is returned as it is.

    Returns:
        The comparison and its two operands.

    Raises:
        PydanticCustomError: ``raw`` does not have that form, or compares two numbers.
    """
    if isinstance(raw, Constraint):
        return raw
    match = _CONSTRAINT.fullmatch(raw) if isinstance(raw, str) else None
    if match is None:
        raise refusal(
            f"got {quoted(raw)}; expected two operands and one of {', '.join(_OPERATORS)}, "
            'such as "max_drawdown <= 0.25"'
        )
    left, sign, right = match.groups()
    sides = [side if side[0].isalpha() or side[0] == "_" else float(side) for side in (left, right)]
    for side in sides:
        if isinstance(side, float) and not math.isfinite(side):
            raise refusal(f"got {quoted(raw)}; expected finite numbers")
    if not any(isinstance(side, str) for side in sides):
        raise refusal(f"{quoted(raw)} compares two numbers; name a metric or a parameter")
    return Constraint(sides[0], sign, sides[1])


def read_condition(text: str) -> tuple[Constraint, ...]:
    """Parse comparisons joined by ``and``, such as ``n_trades >= 50 and max_drawdown < 0.2``.

    A name may be in quotes, as in ``classifier == 'hmm'``.

    Args:
        text: a text of at least one comparison.

    Returns:
        Comparisons that must all hold.

    Raises:
        PydanticCustomError: a part is not a comparison.
    """
    return tuple(read_constraint(_QUOTED.sub(r"\2", part)) for part in _AND.split(text.strip()))
