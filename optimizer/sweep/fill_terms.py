"""Price and cost of one fill, by the kernels of the simulation."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.execution import buy_cost_per_lot, sell_proceeds_per_lot


@dataclass(frozen=True, slots=True)
class FillTerms:
    """Price and cost of one fill.

    Attributes:
        price: per unit, slippage included.
        raw_value: money per lot at the market's price.
        cash_per_lot: money that a lot takes or brings, slippage and commission included.
        cost: slippage and commission of the whole fill, money.
    """

    price: float
    raw_value: float
    cash_per_lot: float
    cost: float


def fill_terms(
    lots: float, price: float, lot_size: float, slippage: float, commission: float
) -> FillTerms:
    """Terms of a fill.

    Args:
        lots: signed change of the position.
        price: per unit, before slippage.
        lot_size: units per lot.
        slippage: fraction by which the price is worse.
        commission: fraction of the traded value.
    """
    side = 1.0 if lots > 0.0 else -1.0
    per_lot = buy_cost_per_lot if lots > 0.0 else sell_proceeds_per_lot
    cash_per_lot = per_lot(price, lot_size, slippage, commission)
    raw_value = price * lot_size
    return FillTerms(
        price=price * (1.0 + side * slippage),
        raw_value=raw_value,
        cash_per_lot=cash_per_lot,
        cost=abs(lots * (raw_value - cash_per_lot)),
    )
