"""Prepare and run the event flow of a study."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from optimizer.bars.checks import require_bars
from optimizer.flow.broker import Broker
from optimizer.flow.containers.execution import ExecutionContainer
from optimizer.flow.containers.feature_hub import FeatureHub
from optimizer.flow.containers.portfolio import PortfolioContainer
from optimizer.flow.event_flow import EventFlow, FlowResult
from optimizer.flow.parts import execution_container, feature_hub
from optimizer.flow.portfolios import PortfolioSpec, study_specs
from optimizer.flow.tracing import Trace
from optimizer.market.feature_keys import FeatureKey, read_name
from optimizer.market.features import GivenFeature, compute_features
from optimizer.study_file.space import build_space
from optimizer.study_file.spans import in_bars
from optimizer.study_file.study import Study, recorded_study
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
        risk: which risk configurations run, see ``study_specs``.
        data_hash: the hash of bars from which IDs are made.
    """

    study: Study
    bars: Bars
    specs: tuple[PortfolioSpec, ...]
    first: int
    split: int | None
    stop: int
    risk: Literal["first", "all"]
    _rules: Rules
    _live: MaskArray
    _keys: tuple[FeatureKey, ...]
    _given: Mapping[str, GivenFeature]
    _tradable: MaskArray
    data_hash: str

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

    def feature_hub(self) -> FeatureHub:
        """The features of all portfolios, before the first bar."""
        keys, specs = self._keys, self.specs
        clock = self._rules.clock(self.bars)
        return feature_hub(
            self.bars.symbols,
            specs,
            self._rules,
            keys,
            self.first,
            self._given,
            clock,
            self._tradable,
        )

    def portfolio(self, spec: PortfolioSpec) -> PortfolioContainer:
        """The positions and the cash of a portfolio, before the first bar.

        Args:
            spec: one of ``specs``.
        """
        bars = self.bars
        return PortfolioContainer(spec.id, bars.symbols, self._rules, bars.bars_per_year)

    def execution(self, spec: PortfolioSpec, broker: Broker | None = None) -> ExecutionContainer:
        """The orders of a portfolio, before the first bar.

        Args:
            spec: one of ``specs``.
            broker: fills the orders; None fills them by the rules of the study.
        """
        return execution_container(spec, self._rules, broker)

    def opened(
        self,
        trace: Trace | None = None,
        make: Callable[..., EventFlow] = EventFlow,
        broker: Broker | None = None,
    ) -> EventFlow:
        """The flow before its first bar.

        Args:
            trace: the tracer that records what happens; None records nothing.
            make: makes the flow of the arguments of ``EventFlow``.
            broker: fills the orders; None fills them by the rules of the study.

        Raises:
            FlowError: a broker cannot fill by the rules of the study.
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
            self.data_hash,
            trace,
            self._given,
            broker,
            self._rules.clock(self.bars),
            self._tradable,
        )

    def extend(self, flow: EventFlow) -> None:
        """Let a flow of the same set on fewer of these bars go on to the last one.

        Features of the user's strategies are computed for all bars at once, as the sweep does.

        Args:
            flow: made by ``opened`` of a flow prepared on the first ones of these bars.
        """
        clock = self._rules.clock(self.bars)
        keys = [key for key in self._keys if read_name(key[0]).given]
        known = None
        if keys:
            known = compute_features(self.bars, keys, self._given, clock, self._tradable)
        ends = symbol_ends(self.bars)
        flow.extend(self._rules, self._live, ends, clock, self._tradable, known)

    def trace_portfolios(self, trace: Trace) -> None:
        """Write down which portfolios run.

        Args:
            trace: the tracer that records what happens.
        """
        hashes = self.study.content_hash, self.data_hash
        rows = []
        for spec in self.specs:
            parameters = json.dumps(dict(spec.parameters))
            names = spec.strategy_name, spec.classifier_name
            rows.append((spec.id, hashes[0], *names, parameters, hashes[1]))
        trace.add("portfolios", rows)

    def shared(self) -> SharedFlow:
        """The flow as it is sent to other processes.

        Raises:
            UntrustedCodeError: the file of a user's strategy is not approved.
        """
        code = self.study.user_code
        for one in code:
            one.require_approval()
        own = ("study", "specs", "_given")
        return SharedFlow(
            study=self.study.to_dict(),
            base_path=self.study.base_path,
            accepted=tuple(one.declaration.source_hash for one in code),
            flow={one.name: getattr(self, one.name) for one in fields(self) if one.name not in own},
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
            self.trace_portfolios(trace)
        for index in range(self.stop):
            flow.on_bar(self.bars.at(index))
        return flow.result()


@dataclass(frozen=True, eq=False)
class SharedFlow:
    """A flow as it is sent to other processes, which make its portfolios again.

    Attributes:
        study: the study as ``Study.to_dict`` gives it.
        base_path: the folder of the study.
        accepted: hashes of the users' files in it, which the sender may run.
        flow: all else, as arguments of ``PreparedFlow``.
    """

    study: Mapping[str, Any]
    base_path: Path
    accepted: tuple[str, ...]
    flow: Mapping[str, Any]

    def prepared(self, numbers: Sequence[int]) -> PreparedFlow:
        """The flow of some of its portfolios.

        Args:
            numbers: indices of the portfolios, ascending.

        Raises:
            StrategyError: the file of a user's strategy is missing or has changed.
        """
        study, given = recorded_study(self.study, self.base_path), self.flow
        space = build_space(in_bars(study, given["bars"]))
        bars, data_hash = given["bars"], given["data_hash"]
        every = list(study_specs(study, space, given["_rules"], bars, given["risk"], data_hash))
        specs = tuple(every[i] for i in numbers)
        return PreparedFlow(study=study, specs=specs, _given=given_features(space), **given)


def prepare_flow(
    study: Study,
    bars: Bars,
    *,
    risk: Literal["first", "all"] = "first",
    first_bar: int | None = None,
    warm_up: int | None = None,
    data_hash: str | None = None,
) -> PreparedFlow:
    """Every combination of a study's grid, ready to go through the bars; writes nothing.

    Args:
        study: whose searched parameters are all listed.
        bars: the bars of the study.
        risk: see ``study_specs``.
        first_bar: bar of the first decision; None takes the longest warm-up of the study.
        warm_up: bars of its own that a symbol has before its first decision; None likewise.
        data_hash: the hash of the bars with which these begin, where more are to come: IDs are made
            from it, so that they stay as they are, and one bar from the first decision on is enough.
            None for bars that are all there.

    Raises:
        StudyFileError: a searched parameter is continuous.
        DataError: the bars or the members cannot be used.
    """
    space = build_space(in_bars(study, bars))
    rules = study_rules(study, space, bars)
    longest = study_warm_up(space, rules, bars)
    warm_up = longest if warm_up is None else warm_up
    first = longest if first_bar is None else first_bar
    if data_hash is None:
        require_warm_up(bars, first)
    else:
        require_bars(bars, first + 1, f"the first decision is at bar {first}")
    split = holdout_bar(bars, rules, first, study.validation.holdout)
    volatilities = (("volatility", n) for n in space.lookbacks("risk", "volatility_lookback"))
    prepared = PreparedFlow(
        study,
        bars,
        tuple(study_specs(study, space, rules, bars, risk, data_hash)),
        first,
        split if split < bars.n_bars else None,
        bars.n_bars,
        risk,
        rules,
        live_mask(bars, warm_up, rules.members, rules.flat),
        (*feature_keys(space), *volatilities),
        given_features(space),
        tradable_mask(bars, warm_up, rules.members),
        data_hash or bars.content_hash,
    )
    prepared.opened()  # raises if a market is not among the symbols of the bars
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
