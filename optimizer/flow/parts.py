"""The containers of a flow, made for a study: by the flow itself, or by whoever drives them by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kernels.codes import MARKET_ENTRY
from optimizer.flow.broker import Broker
from optimizer.flow.containers.execution import ExecutionContainer
from optimizer.flow.containers.feature_hub import FeatureHub
from optimizer.flow.portfolios import PortfolioSpec
from optimizer.flow.waiting import EntryTerms
from optimizer.market.clock import MarketClock
from optimizer.market.feature_keys import FeatureKey
from optimizer.market.features import GivenFeature
from optimizer.sweep.rules import Rules
from optimizer.types import MaskArray


def feature_hub(
    symbols: tuple[str, ...],
    specs: Sequence[PortfolioSpec],
    rules: Rules,
    keys: Sequence[FeatureKey],
    first: int,
    given: Mapping[str, GivenFeature] | None,
    clock: MarketClock | None = None,
    tradable: MaskArray | None = None,
) -> FeatureHub:
    """The features of all portfolios.

    Args:
        symbols: the symbols in the order of the bars' columns.
        specs: the portfolios.
        rules: the rules of the study.
        keys: features that the strategies read.
        first: bar of the first decision.
        given: features of the user's strategies by name.
        clock: the days and sessions of the market; None where no feature needs them.
        tradable: which symbols features compare at each bar, shape (n_bars, n_symbols), 1 or 0; None
            compares all.
    """
    lookbacks = {
        (market, int(dict(parameters)["lookback"]))
        for name, market, parameters in (spec.regime for spec in specs)
        if name != "none"
    }
    schedule = (rules.correlation_lookback, rules.correlation_refresh, first)
    ranges = [("atr", rules.atr_lookback)] if rules.ranges else []
    return FeatureHub(
        symbols,
        list(dict.fromkeys([*keys, *ranges])),
        sorted(lookbacks, key=str),
        schedule if rules.correlated else None,
        given,
        clock,
        tradable,
    )


def execution_container(
    spec: PortfolioSpec, rules: Rules, broker: Broker | None = None
) -> ExecutionContainer:
    """The orders of a portfolio.

    Args:
        spec: the portfolio.
        rules: the rules of the study.
        broker: fills the orders; None fills them by the rules of the study.
    """
    risk, entries = spec.risk, None
    if rules.entry != MARKET_ENTRY:
        entries = EntryTerms(rules.entry, risk.entry_offset, risk.entry_offset_atr, risk.entry_bars)
    return ExecutionContainer(
        spec.id, spec.costs, rules.leverage, rules.allow_short, entries, broker
    )
