"""What a study file gives to one parameter: one value, a range, choices or a sweep.

Also the reading of plain values, and how a refusal is worded.
"""

from __future__ import annotations

import difflib
import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from optimizer.catalogue import Parameter

Number = int | float
Place = tuple[str | int, ...]
Problem = tuple[Place, str]
"""Where in a study file, and what is wrong there."""

MAX_SWEEP = 1_000_000
"""Values of one swept parameter. A tile holds every one of them in memory."""


def refusal(message: str) -> PydanticCustomError:
    """The error that a reader of one value raises; pydantic adds the place."""
    # The message is passed as data: as the template itself, braces in it would be substituted.
    return PydanticCustomError("study_file", "{text}", {"text": message})


def show(value: object, limit: int = 60) -> str:
    """``value`` as it would stand in a study file, cut to ``limit`` characters."""
    text = _written(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _written(value: object) -> str:
    if isinstance(value, (bool, str)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_written, value)) + "]"
    try:
        return str(value)
    except ValueError:  # an integer of thousands of digits
        return "a number too long to print"


def mend(name: str, valid: Sequence[str]) -> str:
    """The nearest valid name, if one is near, and the list of all."""
    near = difflib.get_close_matches(name.lower(), valid, n=1)
    hint = f'did you mean "{near[0]}"? ' if near else ""
    return f"{hint}valid: {', '.join(valid)}"


def refuse_all(problems: Iterable[Problem]) -> None:
    """Raise all ``problems`` at once; pydantic puts its own place before theirs."""
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
    """``value`` as a finite ``kind`` from ``low`` to ``high``; ``below`` excludes ``high``."""
    wanted = "a whole number" if kind is int else "a number"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise refusal(f"got {show(value)}; expected {wanted}")
    if kind is int:
        if not isinstance(value, Integral):
            raise refusal(f"got {show(value)}; expected {wanted}")
        number: Number = int(value)
    else:
        try:
            number = float(value) + 0.0  # -0.0 and 0.0 are one value
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise refusal(f"got {show(value)}; expected a finite number")
    if not (low <= number < high if below else low <= number <= high):
        ends = f"{low:.12g} to {high:.12g}"
        bounds = f"at least {low:.12g} and below {high:.12g}" if below else ends
        raise refusal(f"got {show(value)}; expected {wanted}, {bounds}")
    return number


def one_of(value: object, valid: Sequence[str]) -> str:
    """``value`` where it is one of the ``valid`` names."""
    if not isinstance(value, str) or value not in valid:
        raise refusal(f"got {show(value)}; {mend(str(value), valid)}")
    return value


def filled_text(value: object) -> str:
    """``value`` where it is a text and not blank."""
    if not isinstance(value, str) or not value.strip():
        raise refusal(f"got {show(value)}; expected a text, not empty")
    return value


def listed(value: object) -> list[Any]:
    """``value`` where it is a list and not empty."""
    if not isinstance(value, (list, tuple)):
        raise refusal(f"got {show(value)}; expected a list")
    if not value:
        raise refusal("an empty list; give at least one value")
    return list(value)


def distinct(values: Sequence[object], message: str = "give each value once") -> None:
    """Refuse ``values`` that repeat one."""
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise refusal(f"{show(value)} stands twice; {message}")
        seen.add(value)


def _exact(number: Number) -> Fraction:
    """What the shortest decimal digits of ``number`` say: 1/10 for 0.1."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(float(number)))


@functools.lru_cache(maxsize=256)
def _common_denominator(low: Number, step: Number) -> tuple[int, int, int]:
    first, increment = _exact(low), _exact(step)
    denominator = math.lcm(first.denominator, increment.denominator)
    return (
        first.numerator * (denominator // first.denominator),
        increment.numerator * (denominator // increment.denominator),
        denominator,
    )


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included, in steps of ``step``.

    The numbers are those that the decimal digits of ``low`` and ``step`` say, each rounded once to
    the nearest float: ``Range(0.0, 0.3, 0.1)`` holds 0.3 and not 0.30000000000000004.

    Attributes:
        low, high: of one type, int or float.
        step: None where the range is continuous (floats alone).
        log: whether a sampler draws from it in the logarithm.
    """

    low: Number
    high: Number
    step: Number | None = None
    log: bool = False

    @property
    def n_values(self) -> int | None:
        """How many numbers it holds; None where it is continuous."""
        if self.step is None:
            return 1 if self.low == self.high else None
        return self.nearest_index(self.high) + 1

    def value(self, index: int) -> Number:
        """Number ``index``, from 0."""
        if self.step is None:
            return self.low
        if isinstance(self.low, int) and isinstance(self.step, int):
            return self.low + index * self.step
        low, step, denominator = _common_denominator(self.low, self.step)
        return (low + index * step) / denominator

    def values(self) -> tuple[Number, ...]:
        """All its numbers, ascending; of a continuous range the low end alone."""
        return tuple(self.value(index) for index in range(self.n_values or 1))

    def nearest_index(self, number: Number) -> int:
        """The index whose number is nearest to ``number``; of a continuous range 0."""
        return 0 if self.step is None else round(self.steps_to(number))

    def steps_to(self, number: Number) -> Fraction:
        """Steps from ``low`` to ``number``, exact."""
        return (_exact(number) - _exact(self.low)) / _exact(self.step or 1)


@dataclass(frozen=True)
class Choices:
    """Numbers of which each trial takes one, in the order of the study file."""

    choices: tuple[Number, ...]


@dataclass(frozen=True)
class Sweep:
    """Numbers that every trial tries, all of them, ascending.

    Attributes:
        sweep: a list, or a range with a step.
    """

    sweep: tuple[Number, ...] | Range

    @property
    def values(self) -> tuple[Number, ...]:
        """The swept numbers."""
        return self.sweep.values() if isinstance(self.sweep, Range) else self.sweep


Setting = int | float | Range | Choices | Sweep
"""What a study file gives to one parameter: one value, searched, or swept."""

_FORMS = "a number, {low, high, step, log}, {choices = [...]} or {sweep = [...]}"


def only_keys(raw: Mapping[str, object], valid: Sequence[str]) -> None:
    """Refuse a key that is not ``valid``."""
    for key in raw:
        if key not in valid:
            raise refusal(f"unknown key {key} in {show(raw)}; {mend(str(key), valid)}")


def _read_range(parameter: Parameter, raw: Mapping[str, object], *, swept: bool) -> Range:
    kind = parameter.kind
    only_keys(raw, ("low", "high", "step", "log"))
    for key in ("low", "high"):
        if key not in raw:
            raise refusal(f"no {key} in {show(raw)}; a range needs low and high")
    low = bounded(raw["low"], kind, parameter.low, parameter.high)
    high = bounded(raw["high"], kind, parameter.low, parameter.high)
    if low > high:
        raise refusal(f"low = {show(low)} is above high = {show(high)}; exchange them")
    log = raw.get("log", False)
    if not isinstance(log, bool):
        raise refusal(f"log = {show(log)}; expected true or false")
    if log and swept:
        raise refusal("log in a sweep; leave it out, or list the values: {sweep = [...]}")
    if log and "step" in raw:
        raise refusal("log and step together; leave one out")
    if log and low <= 0:
        raise refusal(f"log needs a low above 0, got low = {show(low)}")
    if "step" not in raw:
        if kind is float and swept:
            raise refusal(f"no step in {show(raw)}; a sweep needs one, such as step = 0.05")
        return Range(low, high, 1 if kind is int else None, log)
    step = bounded(raw["step"], kind, -math.inf, math.inf)
    if step <= 0:
        raise refusal(f"step = {show(step)}; expected a step above 0")
    return _whole_steps(parameter, Range(low, high, step))


def _whole_steps(parameter: Parameter, given: Range) -> Range:
    """``given`` with its high end on the grid, or a refusal that names the nearest high ends."""
    steps = given.steps_to(given.high)
    end = given.value(round(steps))
    # A high end computed in floats (3 * 0.1) misses the grid by a rounding error only.
    if math.isclose(end, given.high, rel_tol=1e-12) and end <= parameter.high:
        return Range(given.low, end, given.step)
    nearest = [given.value(math.floor(steps)), given.value(math.ceil(steps))]
    ends = " or ".join(show(high) for high in nearest if high <= parameter.high)
    raise refusal(
        f"high = {show(given.high)} is no whole number of steps of {show(given.step)} from "
        f"low = {show(given.low)}; use high = {ends}"
    )


def _read_values(parameter: Parameter, raw: object) -> tuple[Number, ...]:
    values = tuple(
        bounded(value, parameter.kind, parameter.low, parameter.high) for value in listed(raw)
    )
    distinct(values)
    return values


def _read_sweep(parameter: Parameter, raw: object) -> Sweep:
    if isinstance(raw, Mapping):
        swept = _read_range(parameter, raw, swept=True)
        n_values = swept.n_values or 1
        if n_values > MAX_SWEEP:
            raise refusal(f"{n_values} swept values; at most {MAX_SWEEP}: take a larger step")
        return Sweep(swept)
    # Sorted, so that neighbours in the list are neighbours in the parameter.
    return Sweep(tuple(sorted(_read_values(parameter, raw))))


def read_setting(parameter: Parameter, raw: object) -> Setting:
    """The setting that a study file gives to ``parameter``.

    Raises:
        PydanticCustomError: it is of no known form, or leaves the parameter's type or bounds.
    """
    if isinstance(raw, (Mapping, list, tuple)) and parameter.role == "fixed":
        raise refusal(f"got {show(raw)}; one value holds for the whole study: write a number")
    if isinstance(raw, Mapping):
        if "sweep" in raw:
            only_keys(raw, ("sweep",))
            return _read_sweep(parameter, raw["sweep"])
        if "choices" in raw:
            only_keys(raw, ("choices",))
            return Choices(_read_values(parameter, raw["choices"]))
        only_keys(raw, ("low", "high", "step", "log", "choices", "sweep"))
        return _read_range(parameter, raw, swept=False)
    if isinstance(raw, (list, tuple)):
        raise refusal(
            f"got the list {show(raw)}; write {{choices = {show(raw)}}} to search it or "
            f"{{sweep = {show(raw)}}} to sweep it"
        )
    if not isinstance(raw, Real):
        raise refusal(f"got {show(raw)}; expected {_FORMS}")
    return bounded(raw, parameter.kind, parameter.low, parameter.high)


def setting_to_dict(setting: Setting) -> object:
    """``setting`` as it stands in a study file."""
    if isinstance(setting, Range):
        written: dict[str, object] = {"low": setting.low, "high": setting.high}
        if setting.log:
            return {**written, "log": True}
        return written if setting.step is None else {**written, "step": setting.step}
    if isinstance(setting, Choices):
        return {"choices": list(setting.choices)}
    if isinstance(setting, Sweep):
        swept = setting.sweep
        return {"sweep": setting_to_dict(swept) if isinstance(swept, Range) else list(swept)}
    return setting
