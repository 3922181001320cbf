"""The costs table of a study file."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Annotated, Any, Literal, get_args

from pydantic import ValidationError, model_validator

from optimizer.catalogue import COSTS
from optimizer.study_file.per_symbol import DEFAULT, is_per_symbol, read_per_symbol
from optimizer.study_file.settings import Setting, read_settings, setting_to_dict
from optimizer.study_file.tables import Table, name_of, real
from optimizer.study_file.values import Problem, expect_table, refuse_all

FillRule = Literal["next_open", "close"]

_COMMISSION = next(one for one in COSTS if one.name == "commission_bps")
_OTHERS = ("fill", "initial_cash")
_OTHER_FORMS = (
    "; to vary a cost, write {low, high, step, log}, {choices = [...]} or {sweep = [...]}"
)


class CostsTable(Table):
    """``[costs]``: what trading costs, how orders fill and the cash to begin with.

    Attributes:
        fill: ``next_open``, or ``close``, the close of the bar of decision, which is optimistic.
        initial_cash: money, in the currency of the bars.
        settings: the setting of each cost, by name; for a cost given per symbol, the value of all
            symbols that its table does not name. ``maker_bps`` is ``commission_bps`` where it is
            left out and this is not varied.
        per_symbol: the values of each cost that is given per symbol, by name: a value for each
            symbol that its table names. Such a cost holds for the whole study.
        maker_left_out: whether the file says nothing of ``maker_bps``, and ``commission_bps`` is varied.
    """

    fill: Annotated[FillRule, name_of(*get_args(FillRule))] = "next_open"
    initial_cash: Annotated[float, real(0.01, 1e15)] = 100_000.0
    settings: dict[str, Setting]
    per_symbol: dict[str, dict[str, float]]
    maker_left_out: bool = False

    @model_validator(mode="before")
    @classmethod
    def _read(cls, raw: object) -> object:
        table = dict(expect_table(raw))
        left_out = "maker_bps" not in table
        commission = table.get("commission_bps", _COMMISSION.default)
        symbols = isinstance(commission, Mapping) and is_per_symbol(commission)
        if left_out and (isinstance(commission, Real) or symbols):
            table["maker_bps"], left_out = commission, False
        per_symbol: dict[str, dict[str, float]] = {}
        problems: list[Problem] = []
        for one in COSTS:
            value = table.get(one.name)
            if isinstance(value, Mapping) and is_per_symbol(value):
                try:
                    values = read_per_symbol(value, one.default, one.low, one.high, _OTHER_FORMS)
                except ValidationError as error:
                    problems += [
                        ((one.name, *line["loc"]), line["msg"])
                        for line in error.errors(include_url=False)
                    ]
                    del table[one.name]
                else:
                    table[one.name] = values.pop(DEFAULT)
                    if values:
                        per_symbol[one.name] = values
        try:
            settings = read_settings(table, COSTS, _OTHERS)
        except ValidationError as error:
            problems += [(line["loc"], line["msg"]) for line in error.errors(include_url=False)]
        refuse_all(problems)
        given = {name: table[name] for name in _OTHERS if name in table}
        return {
            **given,
            "settings": settings,
            "per_symbol": per_symbol,
            "maker_left_out": left_out,
        }

    def value(self, name: str, symbol: str) -> Setting:
        """What a cost is for one symbol.

        Args:
            name: the name of the cost.
            symbol: the symbol of the bars.
        """
        return self.per_symbol.get(name, {}).get(symbol, self.settings[name])

    def to_dict(self) -> dict[str, object]:
        """The table as a study file states it, defaults filled in."""
        written = {name: setting_to_dict(setting) for name, setting in self.settings.items()}
        for name, values in self.per_symbol.items():
            written[name] = {**values, DEFAULT: written[name]}
        if self.maker_left_out:
            del written["maker_bps"]
        return {"fill": self.fill, "initial_cash": self.initial_cash, **written}


def fixed_costs(costs: Mapping[str, Any]) -> frozenset[str]:
    """The costs that hold for every parameter set of a study: numbers, or given per symbol.

    Args:
        costs: the costs as ``[costs]`` of a study file; what is left out does not count.
    """
    return frozenset(
        one.name
        for one in COSTS
        if one.name in costs
        and (not isinstance(costs[one.name], Mapping) or is_per_symbol(costs[one.name]))
    )
