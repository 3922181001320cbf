"""Objectives of a study: a metric, or an expression over metrics, read without ``eval``."""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from pydantic_core import PydanticCustomError

from kernels.elementary import logarithms, powers
from optimizer.catalogue import METRIC_DIRECTIONS, METRICS, Direction
from optimizer.study_file.values import one_of, refusal
from optimizer.text import quoted, suggest
from optimizer.types import FloatArray

LONGEST = 300
"""Characters of an expression."""


def _power(base: FloatArray, exponent: FloatArray) -> FloatArray:
    bases, exponents = np.broadcast_arrays(np.atleast_1d(base), exponent)
    return powers(np.array(bases), np.array(exponents))


_OPERATIONS: dict[type[ast.operator], Callable[[FloatArray, FloatArray], FloatArray]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: _power,
}
_OF_ONE: dict[str, Callable[[FloatArray], FloatArray]] = {
    "abs": np.abs,
    "sqrt": np.sqrt,
    "log": lambda values: logarithms(np.array(np.atleast_1d(values))),
}
_OF_SEVERAL: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "min": np.minimum,
    "max": np.maximum,
}
_FORM = (
    "expected a metric, or an expression of metrics, numbers, + - * / **, min, max, abs, sqrt and log,"
    ' such as "sharpe - 2 * max_drawdown"'
)


def read_objective(raw: object) -> str:
    """Read an objective.

    Args:
        raw: the value that the study file gives.

    Returns:
        The name of a metric, or the expression in one way of writing.

    Raises:
        PydanticCustomError: it is no such expression, or names something else than metrics.
    """
    if not isinstance(raw, str) or raw.isidentifier() or not raw.strip():
        return one_of(raw, METRICS)
    if len(raw) > LONGEST:
        raise refusal(f"got {len(raw):,} characters; an expression has at most {LONGEST}")
    try:
        tree = ast.parse(raw.strip(), mode="eval").body
        _check(tree, raw)
        written = ast.unparse(tree)
    except PydanticCustomError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise refusal(f"got {quoted(raw)}; {_FORM}") from None
    if not metrics_named(written):
        raise refusal(f"{quoted(raw)} names no metric; {_FORM}")
    return written


def _check(node: ast.expr, raw: str) -> None:
    """Refuse whatever is no part of an expression."""
    parts: list[ast.expr] = []
    match node:
        case ast.Name(id=name):
            if name not in METRICS:
                raise refusal(f'unknown "{name}" in {quoted(raw)}; {suggest(name, METRICS)}')
        case ast.Constant(value=bool()):
            raise refusal(f"got {quoted(raw)}; {_FORM}")
        case ast.Constant(value=int() | float() as value):
            if not abs(value) <= 1e300:
                raise refusal(f"got {quoted(raw)}; expected finite numbers")
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            parts = [operand]
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATIONS:
            parts = [left, right]
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]) if name in (
            *_OF_ONE,
            *_OF_SEVERAL,
        ):
            if name in _OF_ONE and len(parts) != 1:
                raise refusal(f"got {quoted(raw)}; {name} takes one value")
            if name in _OF_SEVERAL and len(parts) < 2:
                raise refusal(f"got {quoted(raw)}; {name} takes two values or more")
        case _:
            raise refusal(f"got {quoted(raw)}; {_FORM}")
    for part in parts:
        _check(part, raw)


@functools.lru_cache(maxsize=64)
def _parsed(objective: str) -> ast.expr:
    return ast.parse(objective, mode="eval").body


def metrics_named(objective: str) -> tuple[str, ...]:
    """The metrics that an objective names, each once.

    Args:
        objective: the objective as ``read_objective`` gives it.
    """
    names = (node.id for node in ast.walk(_parsed(objective)) if isinstance(node, ast.Name))
    return tuple(dict.fromkeys(name for name in names if name in METRICS))


def is_expression(objective: str) -> bool:
    """Whether an objective is an expression, so that results have no column of their own for it.

    Args:
        objective: the objective as ``read_objective`` gives it.
    """
    return objective not in METRICS


def direction_of(objective: str) -> Direction:
    """The direction in which an objective is better unless a study says otherwise.

    Args:
        objective: the objective as ``read_objective`` gives it.
    """
    return METRIC_DIRECTIONS.get(objective, "maximize")


def objective_values(objective: str, metrics: Mapping[str, Any]) -> FloatArray:
    """Evaluate an objective.

    Args:
        objective: the objective as ``read_objective`` gives it.
        metrics: a number, None where undefined, or an array of shape (n_sets,) for each metric.

    Returns:
        Shape (n_sets,), or (1,) for numbers; NaN or infinite where it is undefined.
    """
    values = {
        name: np.atleast_1d(np.asarray(metrics[name], dtype=np.float64))
        for name in metrics_named(objective)
    }
    with np.errstate(all="ignore"):
        return _evaluated(_parsed(objective), values)


def objective_of(objective: str, metrics: Mapping[str, Any]) -> float | None:
    """The value of an objective for one set; None where a metric is missing, or it is undefined.

    Args:
        objective: the objective as ``read_objective`` gives it.
        metrics: metrics by name, None where undefined.
    """
    if any(metrics.get(name) is None for name in metrics_named(objective)):
        return None
    value = float(objective_values(objective, metrics)[0])
    return None if math.isnan(value) else value


def _evaluated(node: ast.expr, values: Mapping[str, FloatArray]) -> FloatArray:
    match node:
        case ast.Name(id=name):
            return values[name]
        case ast.Constant(value=int() | float() as value):
            return np.asarray(float(value))
        case ast.UnaryOp(op=sign, operand=operand):
            found = _evaluated(operand, values)
            return -found if isinstance(sign, ast.USub) else found
        case ast.BinOp(left=left, op=sign, right=right):
            return _OPERATIONS[type(sign)](_evaluated(left, values), _evaluated(right, values))
        case ast.Call(func=ast.Name(id=name), args=parts):
            operands = [_evaluated(part, values) for part in parts]
            if name in _OF_ONE:
                return _OF_ONE[name](operands[0])
            return functools.reduce(_OF_SEVERAL[name], operands)
    raise AssertionError(ast.dump(node))  # read_objective lets nothing else through
