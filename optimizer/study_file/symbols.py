"""What a study says of each of its symbols, in the order of the bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.study_file.account import InstrumentTable
from optimizer.study_file.per_symbol import DEFAULT
from optimizer.study_file.study import Study
from optimizer.types import FloatArray


@dataclass(frozen=True, eq=False)
class SymbolTerms:
    """What a study says of each symbol; every array has the shape (n_symbols,).

    Attributes:
        lot_sizes: units of a lot.
        tick_sizes: money; 0 for none.
        multipliers: money that one unit gains when its price rises by 1.
        borrow_bps_year: basis points a year on the value of a short position.
        costs: the values of each cost that the study gives per symbol, by name; the others differ
            from lane to lane and not from symbol to symbol.
    """

    lot_sizes: FloatArray
    tick_sizes: FloatArray
    multipliers: FloatArray
    borrow_bps_year: FloatArray
    costs: Mapping[str, FloatArray]


def symbol_terms(study: Study, symbols: Sequence[str]) -> SymbolTerms:
    """What a study says of each symbol.

    Args:
        study: checked.
        symbols: the symbols of the bars, in their order.
    """
    named = [study.instruments.get(symbol, InstrumentTable()) for symbol in symbols]
    of_risk = study.lot_size
    borrow = study.account.borrow_bps_year
    return SymbolTerms(
        lot_sizes=np.array([of_risk if i.lot_size is None else i.lot_size for i in named]),
        tick_sizes=np.array([i.tick_size for i in named]),
        multipliers=np.array([i.multiplier for i in named]),
        borrow_bps_year=np.array([borrow.get(symbol, borrow[DEFAULT]) for symbol in symbols]),
        costs={
            name: np.array([study.costs.value(name, symbol) for symbol in symbols])
            for name in study.costs.per_symbol
        },
    )
