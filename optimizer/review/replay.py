"""Replay an exported set and compare it with what was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimizer.catalogue import METRICS
from optimizer.errors import ExportError
from optimizer.flow.parity import Parity, compare
from optimizer.flow.prepared import prepare_flow, run_flow
from optimizer.flow.sub_accounts import run_sub_accounts
from optimizer.review.book import BookResult, simulate_book
from optimizer.review.exported import lacks, naming_export, open_export, whole_book
from optimizer.review.rerun import Rerun, Terms, is_held_back, rerun_set, set_study
from optimizer.selection.record import read_selection
from optimizer.selection.tried import everything_tried
from optimizer.selection.verdict import Verdict, judge
from optimizer.store.combination import Combination
from optimizer.store.export import plain_values
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.types import Bars


@dataclass(frozen=True)
class Difference:
    """A metric that a replay does not reproduce.

    Attributes:
        sample: ``in-sample`` or ``out-of-sample``.
        metric: its name.
        recorded, replayed: its values; None where undefined.
    """

    sample: str
    metric: str
    recorded: Any
    replayed: Any


@dataclass(frozen=True, eq=False)
class Replay:
    """An exported set, simulated again.

    Attributes:
        result: the result of the simulation; in-sample alone if ``sealed``.
        recorded: the set as exported; of a combination its metrics alone.
        differences: metrics that differ in any bit; empty where all are reproduced exactly.
        study: name of the study that the set came from, or of the combination.
        costs: the costs as ``[costs]`` of the study file.
        bars: the bars of the simulation.
        again: what was simulated; of a combination the inputs and the tile are those of its first set.
        parity: the event flow compared with the vectorized result, if it was asked for.
        sealed: whether the set was exported without its part of the holdout, which was sealed.
        verdict: that on a combination, given every set ever tried on its bars; None of a set.
    """

    result: BacktestResult
    recorded: Mapping[str, Any]
    differences: tuple[Difference, ...]
    study: str
    costs: Mapping[str, Any]
    bars: Bars
    again: Rerun
    parity: Parity | None = None
    sealed: bool = False
    verdict: Verdict | None = None

    @property
    def name(self) -> str:
        """What was replayed, in words: the study and the number of the set, or the combination."""
        if isinstance(self.result, BookResult):
            return f"{self.study}, a combination of {len(self.result.members)} sets"
        return f"{self.study} set {self.recorded['set']}"


def replay(
    path: str | Path,
    *,
    number: int | None = None,
    data: str | Path | None = None,
    events: bool = False,
    trust: bool = False,
) -> Replay:
    """Simulate a parameter set again from what was recorded and its bars, and compare.

    >>> import optimizer
    >>> optimizer.replay("out/best.json").differences  # recorded metrics that are not computed again
    ()

    Args:
        path: a JSON or TOML export, the file of a combination, or the folder of a study.
        number: the rank of the set in an export, from 1, or its number in a study; None takes the best,
            or the whole of a combination.
        data: the bars, where they are no longer at the path that the file names.
        events: run the set through the event flow too, and compare equity and fills.
        trust: approve the strategy file that the export names, for good. You need not for what you
            ran yourself.

    Returns:
        The result and every metric that differs from what was recorded.

    Raises:
        ExportError: the file cannot be used, or the bars or the strategy are not those of the study.
        StudyError: the folder holds no study.
        UntrustedCodeError: you have neither run nor approved the strategy file.
        StrategyError: the user's strategy cannot be used.
        DataError: the bars cannot be used.
    """
    file = Path(path)
    moved = None if data is None else Path(data)
    if (combination := whole_book(file, number)) is not None:
        return _replay_book(file, combination, moved, events, trust)
    with naming_export(file):
        opened = open_export(file, number, moved, trust)
        chosen, terms, bars = opened.document, opened.terms, opened.bars
        sealed = is_held_back(chosen, terms)
        again = rerun_set(chosen, terms, bars, sealed=sealed)
        parity = None
        if events:
            first = terms.first_bar
            flow = run_flow(again.study, bars, first_bar=first, warm_up=first, sealed=sealed)
            parity = compare(flow, 0, again.result)
        if lacking := _missing_metric(chosen, again.result):
            raise lacks(file, number or 1, lacking)
        differences = _differences(chosen, again.result)
    return Replay(
        again.result, chosen, differences, opened.study, terms.costs, bars, again, parity, sealed
    )


def _replay_book(
    file: Path, combination: Combination, data: Path | None, events: bool, trust: bool
) -> Replay:
    """As ``replay``, of a combination."""
    members = [(one.export, one.share) for one in combination.members]
    with naming_export(file):
        simulated = simulate_book(file, members, combination.rebalance, data, trust)
        recorded = {
            "in_sample": combination.in_sample,
            "out_of_sample": combination.out_of_sample,
        }
        again = simulated.whole
        result, parity = again.result, None
        if lacking := _missing_metric(recorded, result):
            raise ExportError(f"{file}: {lacking} is missing; combine the studies again")
        differences = _differences(recorded, result)
        if events:
            base = file.resolve().parent
            flows = []
            for content, _ in members:
                terms = Terms.of_export(content, base, data)
                first = terms.first_bar
                study = set_study(content["sets"][0], terms)
                bars = again.inputs.bars
                flows.append(prepare_flow(study, bars, first_bar=first, warm_up=first))
            ran = run_sub_accounts(flows, combination.rebalancing)
            parities = [
                compare(flow, 0, one) for flow, one in zip(ran, simulated.together, strict=True)
            ]
            parity = Parity(
                len(result.equity),
                sum(one.n_fills for one in parities),
                tuple(
                    f"member {place}: {line}"
                    for place, one in enumerate(parities, 1)
                    for line in one.differences
                ),
            )
    costs = {**members[0][0]["costs"], "initial_cash": result.rules.initial_cash}
    return Replay(
        result,
        recorded,
        differences,
        combination.name,
        costs,
        again.inputs.bars,
        again,
        parity,
        verdict=_verdict(file, combination),
    )


def _verdict(file: Path, combination: Combination) -> Verdict:
    """The verdict on a combination, given every set ever tried on its bars."""
    try:
        selection = read_selection(combination.selection)
        tried = everything_tried(selection, combination.searches)
        return judge(selection, tried, len(combination.members))
    except (ArithmeticError, ValueError) as error:
        raise ExportError(f"{file}: selection: {error}; combine the studies again") from None


def _missing_metric(recorded: Mapping[str, Any], result: BacktestResult) -> str:
    """A metric that has a value and that the export does not name; empty if it names all.

    One without a value may be left out, as TOML has no null.
    """
    for name in METRICS:
        if name not in recorded["in_sample"] and plain_values(result.in_sample[name]) is not None:
            return f"in_sample: {name}"
    if result.out_of_sample is None:
        return ""
    out_of_sample = recorded.get("out_of_sample")
    if out_of_sample is None:
        return "out_of_sample"
    for name in METRICS:
        if name not in out_of_sample and plain_values(result.out_of_sample[name]) is not None:
            return f"out_of_sample: {name}"
    return ""


def _differences(recorded: Mapping[str, Any], result: BacktestResult) -> tuple[Difference, ...]:
    found = _compare("in-sample", recorded["in_sample"], result.in_sample)
    out_of_sample = recorded.get("out_of_sample")
    if out_of_sample is not None or result.out_of_sample is not None:
        found += _compare("out-of-sample", out_of_sample or {}, result.out_of_sample or {})
    return tuple(found)


def _compare(
    sample: str, recorded: Mapping[str, Any], replayed: Mapping[str, float]
) -> list[Difference]:
    found = []
    for name in METRICS:
        before, now = recorded.get(name), plain_values(replayed.get(name))
        same = before == now if before is not None else now is None
        if not same:
            found.append(Difference(sample, name, before, now))
    return found
