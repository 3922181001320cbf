"""What a study file gives to one parameter: a value, a range, choices or a sweep."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real

from pydantic_core import PydanticCustomError

from optimizer.catalogue import Parameter
from optimizer.study_file.values import (
    Number,
    Problem,
    bounded,
    distinct,
    listed,
    only_keys,
    refusal,
    refuse_all,
)
from optimizer.text import quoted, suggest

MAX_SWEEP = 1_000_000
"""Most values of one swept parameter. A tile holds all of them in memory."""


def _exact(number: Number) -> Fraction:
    """The fraction that the shortest decimal digits of ``number`` state: 1/10 for 0.1."""
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

    The numbers are those that the decimal digits of ``low`` and ``step`` state, each rounded once to
    the nearest float: ``Range(0.0, 0.3, 0.1)`` holds 0.3 and not 0.30000000000000004.

    Attributes:
        low, high: the ends of the range, of one type, int or float.
        step: None if the range is continuous (floats only).
        log: whether a sampler draws its logarithm.
    """

    low: Number
    high: Number
    step: Number | None = None
    log: bool = False

    @property
    def n_values(self) -> int | None:
        """Number of values; None if the range is continuous."""
        if self.step is None:
            return 1 if self.low == self.high else None
        return self.nearest_index(self.high) + 1

    def value(self, index: int) -> Number:
        """The number at ``index``, from 0; the low end of a continuous range.

        Args:
            index: below ``n_values``.
        """
        if self.step is None:
            return self.low
        if isinstance(self.low, int) and isinstance(self.step, int):
            return self.low + index * self.step
        low, step, denominator = _common_denominator(self.low, self.step)
        return (low + index * step) / denominator

    def values(self) -> tuple[Number, ...]:
        """All its numbers, ascending; only the low end of a continuous range."""
        return tuple(self.value(index) for index in range(self.n_values or 1))

    def nearest_index(self, number: Number) -> int:
        """The index whose number is nearest to ``number``; 0 in a continuous range.

        Args:
            number: finite.
        """
        return 0 if self.step is None else round(self.steps_to(number))

    def steps_to(self, number: Number) -> Fraction:
        """The number of steps from ``low`` to ``number``, exact.

        Args:
            number: finite.
        """
        return (_exact(number) - _exact(self.low)) / _exact(self.step or 1)


@dataclass(frozen=True)
class Choices:
    """Numbers from which each trial takes one, in the order of the study file."""

    choices: tuple[Number, ...]


@dataclass(frozen=True)
class Sweep:
    """Numbers that every trial tries, ascending.

    Attributes:
        sweep: a list, or a range with a step.
    """

    sweep: tuple[Number, ...] | Range

    @property
    def values(self) -> tuple[Number, ...]:
        """The swept numbers."""
        return self.sweep.values() if isinstance(self.sweep, Range) else self.sweep


@dataclass(frozen=True)
class Span:
    """A length of time that stands for as many bars as it holds.

    Attributes:
        number: how many of ``unit``.
        unit: ``d``, days on which there are bars; ``w``, ``mo`` or ``y``.
    """

    number: int
    unit: str

    def __str__(self) -> str:
        return f"{self.number}{self.unit}"


SPAN_UNITS = ("d", "w", "mo", "y")

Setting = int | float | Span | Range | Choices | Sweep
"""A parameter with one value, searched, or swept."""

SETTING_KEYS = ("low", "high", "step", "log", "choices", "sweep")
"""Keys of the tables that search or sweep a parameter."""

_FORMS = "a number, {low, high, step, log}, {choices = [...]} or {sweep = [...]}"


def _read_range(parameter: Parameter, raw: Mapping[str, object], *, swept: bool) -> Range:
    kind = parameter.kind
    only_keys(raw, ("low", "high", "step", "log"))
    for key in ("low", "high"):
        if key not in raw:
            raise refusal(f"no {key} in {quoted(raw)}; a range needs low and high")
    low = bounded(raw["low"], kind, parameter.low, parameter.high)
    high = bounded(raw["high"], kind, parameter.low, parameter.high)
    if low > high:
        raise refusal(f"low = {quoted(low)} is above high = {quoted(high)}; swap them")
    log = raw.get("log", False)
    if not isinstance(log, bool):
        raise refusal(f"log = {quoted(log)}; expected true or false")
    if log and swept:
        raise refusal("log in a sweep; leave it out, or list the values: {sweep = [...]}")
    if log and "step" in raw:
        raise refusal("log and step together; leave one out")
    if log and low <= 0:
        raise refusal(f"log needs a low above 0, got low = {quoted(low)}")
    if "step" not in raw:
        if kind is float and swept:
            raise refusal(f"no step in {quoted(raw)}; a sweep needs one, such as step = 0.05")
        return Range(low, high, 1 if kind is int else None, log)
    step = bounded(raw["step"], kind, -math.inf, math.inf)
    if step <= 0:
        raise refusal(f"step = {quoted(step)}; expected a step above 0")
    return _whole_steps(parameter, Range(low, high, step))


def _whole_steps(parameter: Parameter, given: Range) -> Range:
    """``given`` with its high end on the grid, or a refusal that names the nearest high ends."""
    steps = given.steps_to(given.high)
    end = given.value(round(steps))
    # A high end computed in floats (3 * 0.1) misses the grid by a rounding error only.
    if math.isclose(end, given.high, rel_tol=1e-12) and end <= parameter.high:
        return Range(given.low, end, given.step)
    nearest = [given.value(math.floor(steps)), given.value(math.ceil(steps))]
    ends = " or ".join(quoted(high) for high in nearest if high <= parameter.high)
    raise refusal(
        f"high = {quoted(given.high)} is not a whole number of steps of {quoted(given.step)} from "
        f"low = {quoted(given.low)}; use high = {ends}"
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


def _read_span(raw: str) -> Span:
    match = re.fullmatch(r"([1-9][0-9]{0,5})([a-z]+)", raw.strip())
    if match is None or match[2] not in SPAN_UNITS:
        raise refusal(
            f'got {quoted(raw)}; expected a number of bars, or a length of time such as "30d", "2w",'
            ' "6mo" or "2y"'
        )
    return Span(int(match[1]), match[2])


def read_setting(parameter: Parameter, raw: object) -> Setting:
    """The setting that a study file gives to a parameter.

    Args:
        parameter: the parameter of the catalogue, or of a user's strategy.
        raw: value of its key in the study file.

    Raises:
        PydanticCustomError: the form is unknown, or a value does not have the parameter's type or
            exceeds its bounds.
    """
    if isinstance(raw, (Mapping, list, tuple)) and parameter.role == "fixed":
        raise refusal(f"got {quoted(raw)}; one value holds for the whole study: write a number")
    if isinstance(raw, Mapping):
        if "sweep" in raw:
            only_keys(raw, ("sweep",))
            return _read_sweep(parameter, raw["sweep"])
        if "choices" in raw:
            only_keys(raw, ("choices",))
            return Choices(_read_values(parameter, raw["choices"]))
        only_keys(raw, SETTING_KEYS)
        return _read_range(parameter, raw, swept=False)
    if isinstance(raw, (list, tuple)):
        raise refusal(
            f"got the list {quoted(raw)}; write {{choices = {quoted(raw)}}} to search it or "
            f"{{sweep = {quoted(raw)}}} to sweep it"
        )
    if isinstance(raw, str) and parameter.span:
        return _read_span(raw)
    if not isinstance(raw, Real):
        raise refusal(f"got {quoted(raw)}; expected {_FORMS}")
    return bounded(raw, parameter.kind, parameter.low, parameter.high)


def read_settings(
    raw: Mapping[str, object], parameters: Sequence[Parameter], others: Sequence[str]
) -> dict[str, Setting]:
    """The settings of all ``parameters``; a missing one takes its default.

    Args:
        raw: a table of the study file.
        parameters: the parameters of one owner.
        others: further keys, which the caller reads.

    Raises:
        ValidationError: has a line for each key that cannot be used.
    """
    settings: dict[str, Setting] = {}
    problems: list[Problem] = []
    by_name = {parameter.name: parameter for parameter in parameters}
    valid = [*(key for key in others if key != "name"), *by_name]
    for key in raw:
        if key not in by_name and key not in others:
            problems.append(((key,), f"unknown key; {suggest(str(key), valid or ['name'])}"))
    for name, parameter in by_name.items():
        try:
            default = parameter.span or parameter.kind(parameter.default)
            settings[name] = read_setting(parameter, raw.get(name, default))
        except PydanticCustomError as error:
            problems.append(((name,), error.message()))
    refuse_all(problems)
    return settings


def setting_to_dict(setting: Setting) -> object:
    """The setting as a study file states it.

    Args:
        setting: the setting of a parameter.
    """
    if isinstance(setting, Range):
        written: dict[str, object] = {"low": setting.low, "high": setting.high}
        if setting.log:
            return {**written, "log": True}
        return written if setting.step is None else {**written, "step": setting.step}
    if isinstance(setting, Span):
        return str(setting)
    if isinstance(setting, Choices):
        return {"choices": list(setting.choices)}
    if isinstance(setting, Sweep):
        swept = setting.sweep
        return {"sweep": setting_to_dict(swept) if isinstance(swept, Range) else list(swept)}
    return setting


def bounds_of(setting: Setting) -> tuple[float, float]:
    """The least and the greatest value of a setting.

    Args:
        setting: the setting of a parameter, which is no length of time.

    Returns:
        The least value, then the greatest.
    """
    assert not isinstance(setting, Span)  # of classifiers alone
    if isinstance(setting, Range):
        return setting.low, setting.high
    if isinstance(setting, Choices):
        return min(setting.choices), max(setting.choices)
    if isinstance(setting, Sweep):
        if isinstance(setting.sweep, Range):
            return bounds_of(setting.sweep)
        return setting.sweep[0], setting.sweep[-1]
    return setting, setting
