"""What the fills of one portfolio cost, by the kernels of the simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kernels import layout
from kernels.execution import entry_costs, fill_terms, volume_limit
from optimizer.sweep.risk_values import risk_values
from optimizer.sweep.rules import Rules
from optimizer.types import FloatArray

BySymbol = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """Price and cost of one fill.

    Attributes:
        price: the price per unit, spread, slippage and impact included.
        raw_value: money per lot at the market's price.
        cash_per_lot: money that a lot takes or brings, all costs included.
    """

    price: float
    raw_value: float
    cash_per_lot: float


@dataclass(frozen=True)
class Costs:
    """Costs of one portfolio, one number a symbol.

    Attributes:
        lot_units, lot_money: units per lot, and money per lot at a price of 1.
        slippage: fraction of the price, half the spread in basis points included.
        half_spread: half the spread in ticks, in units of price.
        commission: fraction of the value.
        maker: the same of a limit entry.
        per_unit, minimum, per_order: the parts of the commission, money.
        impact: times the volatility.
        volume_share: most of a bar's volume that a fill may take, inf where unlimited.
        fees: whether costs or limits depend on the size of a fill; otherwise the last five are not
            read.
    """

    lot_units: BySymbol
    lot_money: BySymbol
    slippage: BySymbol
    half_spread: BySymbol
    commission: BySymbol
    maker: BySymbol
    per_unit: BySymbol
    minimum: BySymbol
    per_order: BySymbol
    impact: BySymbol
    volume_share: BySymbol
    fees: bool

    @classmethod
    def of(cls, parameters: Mapping[str, float], rules: Rules, bars_per_year: float) -> Costs:
        """The costs of one parameter set.

        Args:
            parameters: the parameters by column name; risk parameters and costs at least.
            rules: the rules of the study.
            bars_per_year: the number of bars in a year.
        """
        values, table = risk_values(parameters, rules, bars_per_year), rules.instruments

        def with_own(name: str, column: int) -> BySymbol:
            return _numbers(values[name] + table[:, column])

        half_spread = values["half_spread_ticks"] * table[:, layout.TICK]
        share = np.minimum(values["volume_share"], table[:, layout.OWN_VOLUME_SHARE])
        return cls(
            lot_units=_numbers(rules.lot_units),
            lot_money=_numbers(rules.lot_money),
            slippage=with_own("slippage", layout.OWN_SLIPPAGE),
            half_spread=_numbers(half_spread + table[:, layout.OWN_HALF_SPREAD]),
            commission=with_own("commission", layout.OWN_COMMISSION),
            maker=with_own("maker", layout.OWN_MAKER),
            per_unit=with_own("per_unit", layout.OWN_PER_UNIT),
            minimum=with_own("minimum", layout.OWN_MINIMUM),
            per_order=with_own("per_order", layout.OWN_PER_ORDER),
            impact=with_own("impact", layout.OWN_IMPACT),
            volume_share=_numbers(share),
            fees=rules.fees,
        )

    def terms(
        self,
        symbol: int,
        lots: float,
        price: float,
        volatility: float,
        volume: float,
        limit: bool = False,
    ) -> Terms:
        """The terms of a fill.

        Args:
            symbol: index.
            lots: signed change of the position, not 0.
            price: the price of the market.
            volatility: the volatility of the symbol, per bar, at the decision.
            volume: units traded in the bar; inf where unknown.
            limit: whether it is a limit entry, see ``kernels.execution.entry_costs``.
        """
        slippage, half_spread = self.slippage[symbol], self.half_spread[symbol]
        impact, commission = self.impact[symbol] * volatility, self.commission[symbol]
        if limit:
            slippage, half_spread, impact, commission = entry_costs(
                limit, slippage, half_spread, impact, commission, self.maker[symbol]
            )
        paid, cash_per_lot = fill_terms(
            1.0 if lots > 0.0 else -1.0,
            abs(lots),
            price,
            self.lot_units[symbol],
            self.lot_money[symbol],
            slippage,
            half_spread,
            commission,
            self.per_unit[symbol],
            self.minimum[symbol],
            self.per_order[symbol],
            impact,
            1.0 / volume if self.fees else 0.0,
            True if self.fees else None,
        )
        return Terms(paid, price * self.lot_money[symbol], cash_per_lot)

    def limited(self, symbol: int, quantity: float, volume: float) -> float:
        """The part of a fill that the bar's volume allows, in lots.

        Args:
            symbol: index.
            quantity: lots, >= 0.
            volume: units traded in the bar, above 0; inf where unknown.
        """
        if not self.fees:
            return quantity
        share, lot_units = self.volume_share[symbol], self.lot_units[symbol]
        return float(volume_limit(quantity, share, volume, lot_units))

    def fixed(self, symbol: int) -> float:
        """The part of a fill's commission that does not shrink with its size, money.

        Args:
            symbol: index.
        """
        return self.minimum[symbol] + self.per_order[symbol]


def _numbers(values: FloatArray) -> BySymbol:
    return tuple(float(value) for value in values)
