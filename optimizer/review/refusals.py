"""Why signals of a set become no order, and why a study did not trade."""

from __future__ import annotations

import numpy as np

from kernels.codes import WAITING
from optimizer.catalogue import CLASSIFIERS
from optimizer.errors import BarsweepError
from optimizer.flow.event_flow import EventFlow
from optimizer.flow.portfolios import portfolio_specs
from optimizer.market.feature_keys import FeatureKey
from optimizer.review.rerun import Rerun, Terms, rerun_set
from optimizer.store.export import set_document
from optimizer.store.folder import StudyFolder
from optimizer.strategies.built_in import BUILT_IN
from optimizer.strategies.user import UserStrategy
from optimizer.sweep.universe import tradable_mask
from optimizer.text import counted, list_text
from optimizer.types import NO_BUYING_POWER, NO_VOLUME, NOT_HELD, NOT_REACHED, NOT_TRADED

FLOW_STEPS, FLOW_BARS = 1_000_000, 100_000
"""Steps of bar x symbol, and bars, up to which a set is run one bar at a time to count refusals: a bar
takes half a millisecond however few its symbols are."""

WHY = {
    "no_signal": "the strategy wants no position and holds none",
    "held": "the strategy says hold, or a stop has barred the symbol",
    "unchanged": "the target is the position already held",
    "no_edge": "the size is less than one lot: little or no gain is expected",
    "no_volatility": "the price has stood still, so there is no size",
    "no_place": "the portfolio holds as many positions as it may, or others come first",
    "no_budget": "its share of the exposure that the portfolio may have is too small an order",
    "below_minimum": "the order is below the minimum size",
    "inside_band": "the change is too small a share of the target",
    NOT_TRADED: "the symbol did not trade in the bar of the fill",
    NO_VOLUME: "the share of the bar's volume was less than a lot",
    NO_BUYING_POWER: "the share of the buying power was less than a lot",
    NOT_HELD: "the order sells what is not held, and short positions are off",
    NOT_REACHED: "the bar did not reach the price at which the entry waited",
}
"""What each reason means."""

_FIX = {
    "no_signal": "try lower thresholds, or other lookbacks",
    "held": "try lower thresholds, or other lookbacks",
    "no_edge": "raise initial_cash or the size of [risk], or lower lot_size",
    "no_budget": "raise max_exposure or initial_cash, or lower lot_size",
    "below_minimum": "lower min_order_size, or raise initial_cash",
    NO_VOLUME: "raise max_volume_share, or lower initial_cash",
    NO_BUYING_POWER: "raise initial_cash, or lower lot_size",
    NOT_REACHED: "lower entry_offset, or raise entry_bars",
    NOT_TRADED: "look at the volume of the bars with `barsweep data check`",
}


def count_refusals(one: Rerun, stop: int) -> tuple[dict[str, int] | None, int]:
    """Count why signals of a set became no order.

    Args:
        one: the set, simulated again.
        stop: bar after the last one that counts.

    Returns:
        Counts by reason, None where that would take too long, and the number of signals.

    Raises:
        StrategyError: the user's strategy cannot be used.
    """
    inputs = one.inputs
    bars, rules = inputs.bars, inputs.rules
    if bars.n_bars * bars.n_symbols > FLOW_STEPS or bars.n_bars > FLOW_BARS:
        return None, 0
    specs = portfolio_specs(one.tile, "", rules, bars.bars_per_year)
    keys: list[FeatureKey] = [
        *inputs.features.keys,
        *(("volatility", n) for n in inputs.volatility_lookbacks),
    ]
    flow = EventFlow(
        bars.symbols,
        bars.bars_per_year,
        specs,
        rules,
        keys,
        inputs.first,
        inputs.live,
        inputs.ends,
        given={
            name: feature
            for part in one.tile.strategy.members
            if isinstance(part, UserStrategy)
            for name, feature in part.kernels().features.items()
        },
        clock=rules.clock(bars),
        tradable=tradable_mask(bars, inputs.warm_up, rules.members),
    )
    for index in range(stop):
        flow.on_bar(bars.at(index))
    n_signals = np.count_nonzero(inputs.live[inputs.first : stop] != WAITING)
    return flow.result().rejects, int(n_signals)


def why_nothing_traded(folder: StudyFolder) -> str:
    """Why no set of a study traded in-sample, by the refusals of its first one.

    Args:
        folder: the folder of the study.

    Returns:
        A sentence; empty if a set traded, or there is none.

    Raises:
        StudyError: a file cannot be read.
    """
    traded = folder.column("n_trades")
    if not len(traded) or (traded > 0).any():
        return ""
    manifest = folder.manifest()
    row = folder.sets([0], whole=False).iloc[0].to_dict()
    said = f"no set traded in-sample: none of {counted(len(traded), 'set')} has a single trade"
    if row["strategy"] not in BUILT_IN or row["classifier"] not in CLASSIFIERS:
        return said
    try:
        terms = Terms.of_study(manifest)
        again = rerun_set(set_document(row, manifest["study"]), terms, terms.bars(), sealed=True)
        counts, n_signals = count_refusals(again, again.inputs.split)
    except BarsweepError:
        return said
    reasons = sorted((counts or {}).items(), key=lambda one: -one[1])[:2]
    if not reasons:
        return said
    parts = [f"{count:,} times {WHY.get(name, name)} ({name})" for name, count in reasons]
    fix = _FIX.get(reasons[0][0])
    return f"{said}. Of the {counted(n_signals, 'signal')} of set 0, {list_text(parts)}" + (
        f"; {fix}" if fix else ""
    )
