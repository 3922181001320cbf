"""One searched parameter: its values, and how a sampler may draw them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from optimizer.catalogue import Parameter
from optimizer.errors import StudyFileError
from optimizer.study_file.settings import Choices, Range


@dataclass(frozen=True)
class Searched:
    """One searched parameter.

    Attributes:
        name: its column.
        kind: ``categorical`` where the study file lists choices.
        low, high: both included; the least and the greatest of choices.
        step: None if the parameter is continuous or categorical.
        log: whether a sampler draws its logarithm.
        choices: the choices in the order of the study file; empty unless categorical.
    """

    name: str
    kind: Literal["int", "float", "categorical"]
    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False
    choices: tuple[int | float, ...] = ()

    @property
    def continuous(self) -> bool:
        """Whether its values cannot be counted."""
        return not self.choices and self._range.n_values is None

    @property
    def n_values(self) -> int:
        """How many values it can take.

        Raises:
            StudyFileError: it is continuous.
        """
        n_values = len(self.choices) or self._range.n_values
        if n_values is None:
            raise StudyFileError(
                f"{self.name}: the range from {self.low} to {self.high} is continuous; give it a"
                " step to list its values"
            )
        return n_values

    @property
    def first(self) -> int | float:
        """Its first value."""
        return self.choices[0] if self.choices else self.low

    def value(self, index: int) -> int | float:
        """The value at ``index`` of ``n_values``, from 0.

        Args:
            index: below ``n_values``.
        """
        return self.choices[index] if self.choices else self._range.value(index)

    def snap(self, value: int | float | str) -> int | float:
        """The parameter's own value that is nearest to ``value``.

        Args:
            value: drawn by a sampler, which may miss the parameter's own by a rounding error.

        Raises:
            ValueError: ``value`` is further off than a rounding error.
        """
        if not isinstance(value, str):
            if self.choices:
                nearest = min(self.choices, key=lambda choice: abs(choice - value))
            elif self.step is not None and math.isfinite(value):
                nearest = self._range.value(self._range.nearest_index(value))
            else:
                nearest = float(value)
            inside = self.low <= nearest <= self.high
            if inside and math.isclose(nearest, value, rel_tol=1e-9, abs_tol=1e-12):
                return nearest
        raise ValueError(f"{self.name} = {value!r}: not a value of {self}")

    @property
    def _range(self) -> Range:
        return Range(self.low, self.high, self.step, self.log)


def searched_of(name: str, parameter: Parameter, setting: Range | Choices) -> Searched:
    """The searched parameter of a setting.

    Args:
        name: its column.
        parameter: the parameter of the catalogue.
        setting: what the study file gives to it.
    """
    if isinstance(setting, Choices):
        choices = setting.choices
        return Searched(name, "categorical", min(choices), max(choices), choices=choices)
    kind: Literal["int", "float"] = "int" if parameter.kind is int else "float"
    return Searched(name, kind, setting.low, setting.high, setting.step, setting.log)
