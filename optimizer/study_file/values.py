"""Read plain values of a study file, and say why one is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from optimizer.text import name_problem, path_problem, quoted, suggest

Number = int | float
Place = tuple[str | int, ...]
Problem = tuple[Place, str]
"""Where in a study file, and what is wrong there."""


def table_label(name: str, index: int = 0, count: int = 1) -> str:
    """What messages call a table: ``[classifier]``, or ``[[classifier]] #2`` where there are several.

    Args:
        name: the name of the table.
        index: which of them, from 0.
        count: how many the study file has.
    """
    return f"[{name}]" if count < 2 else f"[[{name}]] #{index + 1}"


def refusal(message: str) -> PydanticCustomError:
    """The error that a reader of one value raises; pydantic adds the place.

    Args:
        message: what was given, and what is expected.
    """
    # The message is passed as data: as the template itself, braces in it would be substituted.
    return PydanticCustomError("study_file", "{text}", {"text": message})


def refuse_all(problems: Iterable[Problem]) -> None:
    """Raise all ``problems`` as one error; pydantic puts the place of the table before theirs.

    Args:
        problems: places within the table, and messages.

    Raises:
        ValidationError: there is a problem.
    """
    lines = [
        InitErrorDetails(type=refusal(message), loc=place, input=None)
        for place, message in problems
    ]
    if lines:
        raise ValidationError.from_exception_data("study", lines)


def bounded(
    value: object,
    kind: type[int] | type[float],
    low: float,
    high: float,
    *,
    below: bool = False,
) -> Number:
    """Read a finite number.

    Args:
        value: the value that the study file gives.
        kind: int or float.
        low, high: bounds, both allowed.
        below: whether ``high`` is not allowed.

    Returns:
        The number, as ``kind``.

    Raises:
        PydanticCustomError: ``value`` is something else.
    """
    wanted = "a whole number" if kind is int else "a number"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise refusal(f"got {quoted(value)}; expected {wanted}")
    if kind is int:
        if not isinstance(value, Integral):
            raise refusal(f"got {quoted(value)}; expected {wanted}")
        number: Number = int(value)
    else:
        try:
            number = float(value) + 0.0  # -0.0 and 0.0 are one value
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise refusal(f"got {quoted(value)}; expected a finite number")
    if not (low <= number < high if below else low <= number <= high):
        ends = f"{low:.12g} to {high:.12g}"
        bounds = f"at least {low:.12g} and below {high:.12g}" if below else ends
        raise refusal(f"got {quoted(value)}; expected {wanted}, {bounds}")
    return number


def one_of(value: object, valid: Sequence[str]) -> str:
    """Read one of the ``valid`` names.

    Args:
        value: the value that the study file gives.
        valid: every valid name.

    Returns:
        The name.

    Raises:
        PydanticCustomError: it is something else.
    """
    if not isinstance(value, str) or value not in valid:
        raise refusal(f"got {quoted(value)}; {suggest(str(value), valid)}")
    return value


def filled_text(value: object) -> str:
    """Read a text that is not blank.

    Args:
        value: the value that the study file gives.

    Returns:
        The text.

    Raises:
        PydanticCustomError: it is something else.
    """
    if not isinstance(value, str) or not value.strip():
        raise refusal(f"got {quoted(value)}; expected a text, not empty")
    problem = path_problem(value)
    if problem:
        raise refusal(f"got {quoted(value)}; it {problem}")
    return value


def named(value: object) -> str:
    """Read a name by the rule of ``name_problem``.

    Args:
        value: the value that the study file gives.

    Returns:
        The name.

    Raises:
        PydanticCustomError: it is something else.
    """
    name = filled_text(value)
    problem = name_problem(name)
    if problem:
        raise refusal(f"got {quoted(name)}; it {problem}")
    return name


def listed(value: object) -> list[Any]:
    """Read a list that is not empty.

    Args:
        value: the value that the study file gives.

    Returns:
        The list.

    Raises:
        PydanticCustomError: it is something else.
    """
    if not isinstance(value, (list, tuple)):
        parts = re.split(r"[\s,;]+", value.strip()) if isinstance(value, str) else [value]
        raise refusal(f"got {quoted(value)}; expected a list, such as {quoted(parts)}")
    if not value:
        raise refusal("an empty list; give at least one value")
    return list(value)


def expect_table(raw: object) -> Mapping[str, object]:
    """Read a table.

    Args:
        raw: the value that the study file gives.

    Returns:
        The table.

    Raises:
        PydanticCustomError: it is something else.
    """
    if not isinstance(raw, Mapping):
        raise refusal(f"got {quoted(raw)}; expected a table")
    return raw


def distinct(values: Sequence[object], message: str = "give each value once") -> None:
    """Refuse values that occur twice.

    Args:
        values: hashable.
        message: the fix.

    Raises:
        PydanticCustomError: one does.
    """
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise refusal(f"{quoted(value)} is listed twice; {message}")
        seen.add(value)


def only_keys(raw: Mapping[str, object], valid: Sequence[str]) -> None:
    """Refuse keys that are not ``valid``.

    Args:
        raw: a table of the study file.
        valid: every valid key.

    Raises:
        PydanticCustomError: a key is not.
    """
    for key in raw:
        if key not in valid:
            raise refusal(f"unknown key {key} in {quoted(raw)}; {suggest(str(key), valid)}")
