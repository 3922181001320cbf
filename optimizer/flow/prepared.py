"""Prepare and run the event flow of a study."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from optimizer.flow.event_flow import EventFlow, FlowResult
from optimizer.flow.portfolios import PortfolioSpec, study_specs
from optimizer.flow.tracing import Trace
from optimizer.market.feature_keys import FeatureKey
from optimizer.market.features import GivenFeature
from optimizer.study_file.space import build_space
from optimizer.study_file.spans import in_bars
from optimizer.study_file.study import Study
from optimizer.sweep.inputs import (
    feature_keys,
    given_features,
    holdout_bar,
    require_warm_up,
    study_warm_up,
)
from optimizer.sweep.rules import Rules, study_rules
from optimizer.sweep.universe import live_mask, symbol_ends, tradable_mask
from optimizer.types import Bars, MaskArray


@dataclass(frozen=True, eq=False)
class PreparedFlow:
    """A flow that is ready to run: its study and its bars have been checked.

    Attributes:
        study, bars: the study and bars of the flow.
        specs: the portfolios, in order.
        first: bar of the first decision.
        split: first bar of the holdout; None without a holdout.
        stop: bars that are taken, from the first one on.
    """

    study: Study
    bars: Bars
    specs: tuple[PortfolioSpec, ...]
    first: int
    split: int | None
    stop: int
    _rules: Rules
    _live: MaskArray
    _keys: tuple[FeatureKey, ...]
    _given: Mapping[str, GivenFeature]
    _tradable: MaskArray

    @property
    def n_steps(self) -> int:
        """Bars x symbols x portfolios from the first decision on."""
        return (self.stop - self.first) * self.bars.n_symbols * len(self.specs)

    def before_holdout(self) -> PreparedFlow:
        """The same flow, which ends where the holdout begins."""
        return self if self.split is None else replace(self, stop=self.split)

    @property
    def rules(self) -> Rules:
        """The rules of the study."""
        return self._rules

    def opened(self, trace: Trace | None, make: Callable[..., EventFlow] = EventFlow) -> EventFlow:
        """The flow before its first bar.

        Args:
            trace: the tracer that records what happens; None records nothing.
            make: makes the flow of the arguments of ``EventFlow``.
        """
        return make(
            self.bars.symbols,
            self.bars.bars_per_year,
            self.specs,
            self._rules,
            self._keys,
            self.first,
            self._live,
            symbol_ends(self.bars),
            self.split,
            self.bars.content_hash,
            trace,
            self._given,
            self._rules.clock(self.bars),
            self._tradable,
        )

    def run(self, trace: Trace | None = None) -> FlowResult:
        """Take the bars through the portfolios.

        Args:
            trace: the tracer that records what happens; None records nothing.

        Returns:
            The equity, trades and metrics of every portfolio.
        """
        flow = self.opened(trace)
        if trace is not None:
            trace.add(
                "portfolios",
                [
                    (
                        spec.id,
                        self.study.content_hash,
                        spec.strategy_name,
                        spec.classifier_name,
                        json.dumps(dict(spec.parameters)),
                        self.bars.content_hash,
                    )
                    for spec in self.specs
                ],
            )
        for index in range(self.stop):
            flow.on_bar(self.bars.at(index))
        return flow.result()


def prepare_flow(
    study: Study,
    bars: Bars,
    *,
    risk: Literal["first", "all"] = "first",
    first_bar: int | None = None,
    warm_up: int | None = None,
) -> PreparedFlow:
    """Every combination of a study's grid, ready to go through the bars; writes nothing.

    Args:
        study: whose searched parameters are all listed.
        bars: the bars of the study.
        risk: see ``study_specs``.
        first_bar: bar of the first decision; None takes the longest warm-up of the study.
        warm_up: bars of its own that a symbol has before its first decision; None likewise.

    Raises:
        StudyFileError: a searched parameter is continuous.
        DataError: the bars or the members cannot be used.
    """
    study = in_bars(study, bars)
    space = build_space(study)
    rules = study_rules(study, space, bars)
    longest = study_warm_up(space, rules, bars)
    warm_up = longest if warm_up is None else warm_up
    first = longest if first_bar is None else first_bar
    require_warm_up(bars, first)
    split = holdout_bar(bars, rules, first, study.validation.holdout)
    volatilities = (("volatility", n) for n in space.lookbacks("risk", "volatility_lookback"))
    prepared = PreparedFlow(
        study,
        bars,
        tuple(study_specs(study, space, rules, bars, risk)),
        first,
        split if split < bars.n_bars else None,
        bars.n_bars,
        rules,
        live_mask(bars, warm_up, rules.members, rules.flat),
        (*feature_keys(space), *volatilities),
        given_features(space),
        tradable_mask(bars, warm_up, rules.members),
    )
    prepared.opened(None)  # raises if a market is not among the symbols of the bars
    return prepared


def run_flow(
    study: Study,
    bars: Bars,
    *,
    risk: Literal["first", "all"] = "first",
    first_bar: int | None = None,
    warm_up: int | None = None,
    trace: Trace | None = None,
    sealed: bool = False,
) -> FlowResult:
    """Run every combination of a study's grid through the bars, one bar at a time.

    Args:
        study, bars, risk, first_bar, warm_up: see ``prepare_flow``.
        trace: the tracer that records what happens; None records nothing.
        sealed: whether to end where the holdout begins.

    Returns:
        The equity, trades and metrics of every portfolio.

    Raises:
        StudyFileError: a searched parameter is continuous.
        DataError: the bars or the members cannot be used.
    """
    prepared = prepare_flow(study, bars, risk=risk, first_bar=first_bar, warm_up=warm_up)
    return (prepared.before_holdout() if sealed else prepared).run(trace)
