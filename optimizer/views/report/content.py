"""All that a report shows: read from a study's folder, and simulated again for its winner."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optimizer.errors import BarsweepError, StudyError, UntrustedCodeError
from optimizer.market.regimes import market_returns
from optimizer.review.lists import parameter_ranges
from optimizer.review.records import judged
from optimizer.review.refusals import count_refusals, why_nothing_traded
from optimizer.review.rerun import Rerun, Terms, rerun_set
from optimizer.selection.benchmark import load_benchmark, read_series
from optimizer.selection.record import Selection
from optimizer.selection.select import JUDGED
from optimizer.selection.survivors import contending_sets, surviving_sets
from optimizer.selection.verdict import Verdict
from optimizer.store.export import set_document
from optimizer.store.folder import StudyFolder
from optimizer.store.histograms import Histogram, histogram_of
from optimizer.store.names import BENCHMARK, WALK_FORWARD
from optimizer.store.query import best_sets, no_best
from optimizer.store.seal import (
    is_sealed,
    may_show,
    seal_note,
    with_holdout,
    with_open_holdout,
)
from optimizer.study_file.objectives import objective_of
from optimizer.study_file.space import Space, build_space
from optimizer.study_file.study import Study, recorded_study
from optimizer.sweep.buy_and_hold import held_name
from optimizer.sweep.trades import round_trips
from optimizer.text import counted
from optimizer.types import Bars, FloatArray, IntArray
from optimizer.views.binning import Axis, axis_of, log_parameters
from optimizer.views.report.sweep import Grid, grids, variance_shares

MOST_AXES = 10
"""Most parameters that heatmaps offer: the most important ones."""


@dataclass(frozen=True, eq=False)
class Content:
    """What a report shows.

    Attributes:
        manifest: the manifest of the study's folder.
        study, space: the study and space of the study.
        objective: the first objective, which the figures show.
        maximize: whether more of it is better.
        sets: all sets tried: ``set``, ``trial``, ``feasible``, ``score``, the objectives, every
            parameter that varies, and the first objective out-of-sample, null while the holdout is
            sealed.
        n_distinct: number of different sets.
        trials: the trials as ``StudyFolder.trials`` returns them.
        best: whole rows of the best sets, with the out-of-sample metrics that may be shown.
        none_best: why no set is best; empty if one is.
        row: the whole row of the set that the report is about, with the out-of-sample metrics that may be
            shown: that of the best set, or of the one asked for. None if no set is best.
        chosen: whether that set was asked for and is not the best one.
        selection, verdict: None if the study is not complete or no set is best.
        notes: what the reader must know first, one sentence each.
        axes: parameters that vary, the most important first.
        shares: share of the objective's variance that each explains, 0 to 1.
        grids: the grids of every pair of the first axes.
        winner, median: the set that the report is about and the middle one of the feasible sets by score,
            simulated again as far as the holdout is open for each; None if no set is best, or the bars
            cannot be used.
        trades: the trades of the winner, see ``round_trips``.
        market: (n_bars of the winner's equity,) price of the market that regimes are judged on.
        rejects: refusals of the winner by reason; None if they were not counted.
        n_decisions: signals of the winner, one a bar and symbol that decides.
        benchmark: the benchmark's returns per bar, named as tables call it; None if the study has none
            yet.
        survivors: (n_survivors,), sets that have alpha, see ``surviving_sets``; None before the verdict.
        contenders: where the sets that contend with the winner lie, see ``parameter_ranges``; None before
            the verdict.
        histograms: the histograms of the metrics in-sample over all sets, where the study
            keeps the best sets whole; those without a value left out.
        stitched: equity of a walk-forward with a search per window, see ``selection.stitched``.
    """

    manifest: Mapping[str, Any]
    study: Study
    space: Space
    objective: str
    maximize: bool
    sets: pd.DataFrame
    n_distinct: int
    trials: list[dict[str, Any]]
    best: pd.DataFrame
    none_best: str
    row: Mapping[Any, Any] | None
    chosen: bool
    selection: Selection | None
    verdict: Verdict | None
    notes: tuple[str, ...]
    axes: tuple[Axis, ...]
    shares: Mapping[str, float]
    grids: tuple[Grid, ...]
    winner: Rerun | None = None
    median: Rerun | None = None
    trades: pd.DataFrame | None = None
    market: FloatArray | None = None
    rejects: Mapping[str, int] | None = None
    n_decisions: int = 0
    benchmark: pd.Series[float] | None = None
    survivors: IntArray | None = None
    contenders: pd.DataFrame | None = None
    histograms: tuple[Histogram, ...] = ()
    stitched: pd.DataFrame | None = None

    @property
    def subject(self) -> str:
        """What the report calls the set that it is about."""
        if self.chosen and self.row is not None:
            return f"set {int(self.row['set']):,}"
        return "winner"


def gather(
    path: Path,
    trust: bool = False,
    on_start: Callable[[], None] | None = None,
    *,
    simulate: bool = True,
    number: int | None = None,
) -> Content:
    """Read a study's folder, simulate its winner and its median set again, count refusals.

    Args:
        path: folder of the study, which need not be complete.
        trust: approve the strategy files that the folder names.
        on_start: called once the study is read, before what takes long.
        simulate: whether to simulate the sets again; without it, what comes from that is left out.
        number: the number of the set that the report is about; None takes the winner.

    Returns:
        All that the report shows.

    Raises:
        StudyError: there is no study, no such set, nothing to show of it, or a file cannot be read.
    """
    folder = StudyFolder.open(path)
    manifest = folder.manifest()
    try:
        study = recorded_study(manifest["study"], manifest["study_folder"])
        complete = bool(manifest["complete"])
    except (KeyError, TypeError) as error:
        raise StudyError(
            f"{folder.manifest_path}: {error} is missing or unusable; run the study again"
        ) from None
    space = build_space(study)
    trials = folder.trials()
    if not trials:
        raise StudyError(
            f"{path}: no results yet, so there is nothing to report; continue it with"
            f" `barsweep resume {path}`"
        )
    objective = study.search.objective[0]
    maximize = study.search.direction[0] == "maximize"
    sets = _sets(folder, space, study.search.objective)
    row = None if number is None else _row(folder, number)
    notes = []
    if not complete:
        notes.append(
            f"The study is not complete: {counted(len(trials), 'trial')} so far."
            f" Resume it with `barsweep resume {path}`."
        )
    if study.costs.fill == "close":
        notes.append(
            'fill = "close": orders fill at the close that decides them, which is optimistic.'
        )
    if len(study.search.objective) > 1:
        others = ", ".join(study.search.objective[1:])
        notes.append(
            f"Several objectives: figures show the first, {objective}; the best sets are those of the"
            f" best mean rank over it and {others}."
        )
    if len(sets) and (idle := why_nothing_traded(folder)):
        notes.append(f"{idle[0].upper()}{idle[1:]}.")
    if not manifest["holdout_time"]:
        notes.append("No holdout: nothing here is out-of-sample.")
    counts = folder.histograms()
    if counts is not None:
        notes.append(
            f'[search] store = "top": the best {folder.kept():,} sets are kept whole; figures of the'
            " objective are of all sets, and so are the histograms of the other metrics."
        )
    best = sets
    if len(sets):
        best = with_open_holdout(folder, best_sets(folder, study.search, JUDGED))
    if row is None and not best.empty:
        row = best.iloc[0].to_dict()
    chosen = bool(number is not None and (best.empty or number != int(best["set"].iloc[0])))
    if sealed := seal_note(folder):
        notes.append(f"{sealed[0].upper()}{sealed[1:]}.")
    selection, verdict, problem = judged(folder)
    if problem:
        notes.append(f"{problem}.")
    if selection is None and not best.empty and not problem:
        notes.append(
            "There is no verdict yet: the statistics of selection are computed at the end."
        )
    if on_start is not None:
        on_start()
    values = sets[objective].to_numpy(np.float64)
    axes, shares = _axes(sets, space, values)
    feasible = sets["feasible"].to_numpy(np.bool_)
    cells = np.where(feasible, values, np.nan) if feasible.any() else values
    content = Content(
        manifest=manifest,
        study=study,
        space=space,
        objective=objective,
        maximize=maximize,
        sets=sets,
        n_distinct=folder.n_distinct(),
        trials=trials,
        best=best,
        none_best=no_best(folder, study.search) if best.empty else "",
        row=row,
        chosen=chosen,
        selection=selection,
        verdict=verdict,
        notes=tuple(notes),
        axes=axes,
        shares=shares,
        grids=tuple(grids(axes[:MOST_AXES], cells, maximize)),
        histograms=tuple(histogram_of(*one) for one in (counts or {}).items() if one[1]),
    )
    if selection is not None and verdict is not None and complete:
        content = replace(
            content,
            survivors=surviving_sets(folder, verdict.tried),
            contenders=parameter_ranges(path, contending_sets(folder, selection, study.seed)),
        )
    return _with_winner(content, folder, trust) if simulate and row is not None else content


def _row(folder: StudyFolder, number: int) -> Mapping[Any, Any]:
    """The whole row of a set, with the out-of-sample metrics that may be shown."""
    row: Mapping[Any, Any] = with_open_holdout(folder, folder.sets([number])).iloc[0].to_dict()
    return row


def _sets(folder: StudyFolder, space: Space, objectives: Sequence[str]) -> pd.DataFrame:
    columns = ["set", "trial", "strategy", "classifier", *space.varying, "feasible", "score"]
    frame = folder.results([*dict.fromkeys([*columns, *objectives])])
    outside = f"oos_{objectives[0]}"
    if is_sealed(folder):
        return frame.assign(**{outside: np.nan})
    return with_holdout(folder, frame, [outside])  # null where the study has not kept it


def _axes(
    sets: pd.DataFrame, space: Space, values: FloatArray
) -> tuple[tuple[Axis, ...], dict[str, float]]:
    log = log_parameters(space)
    names = [name for name in space.parameter_names if name in sets.columns]
    candidates = ["strategy", "classifier", *names] if len(sets) else []
    columns = {
        name: sets[name].astype(str) if sets[name].dtype.name == "category" else sets[name]
        for name in candidates
    }
    axes = [axis_of(column, name in log) for name, column in columns.items()]
    axes = [axis for axis in axes if len(axis.labels) > 1]
    shares = variance_shares(axes, values)
    by_name = {axis.name: axis for axis in axes}
    return tuple(by_name[name] for name in shares), shares


def _with_winner(content: Content, folder: StudyFolder, trust: bool) -> Content:
    manifest = content.manifest
    try:
        for one in content.study.user_code if trust else ():
            one.approve()
        terms = Terms.of_study(manifest)
        bars = terms.bars()

        def simulated(row: Mapping[Any, Any]) -> Rerun:
            sealed = not may_show(folder, int(row["set"]))
            return rerun_set(set_document(row, manifest["study"]), terms, bars, sealed=sealed)

        assert content.row is not None
        winner = simulated(content.row)
        recorded = content.row[content.objective]
        again = objective_of(content.objective, winner.result.in_sample)
        if not (recorded == again or (pd.isna(recorded) and again is None)):
            raise StudyError(
                f"set {winner.number} simulated again has {content.objective} {again!r}, recorded"
                f" is {float(recorded)!r}: barsweep has changed since"
            )
        feasible = content.sets[content.sets["feasible"] & content.sets["score"].notna()]
        if feasible.empty:
            feasible = content.sets
        middle = feasible.sort_values("score", kind="stable")["set"].iloc[(len(feasible) - 1) // 2]
        median = simulated(folder.sets([int(middle)], whole=False).iloc[0].to_dict())
    except BarsweepError as error:
        if isinstance(error, UntrustedCodeError):
            logging.getLogger("barsweep").warning("%s; the report is written without it", error)
        note = f"Equity, trades, regimes and refusals are left out: {error}."
        return replace(content, notes=(*content.notes, note))
    inputs = winner.inputs
    times = pd.DatetimeIndex(winner.result.equity.index)
    stop = inputs.first + len(times)
    closes = dict(zip(bars.symbols, bars.close[stop - 1].tolist(), strict=True))
    rejects, n_decisions = count_refusals(winner, stop)
    log_market = np.cumsum(market_returns(bars, winner.tile.market))[inputs.first :]
    return replace(
        content,
        winner=winner,
        median=median,
        trades=round_trips(winner.result.fills, times, closes),
        market=_price(bars, winner.tile.market, log_market)[: len(times)],
        rejects=rejects,
        n_decisions=n_decisions,
        benchmark=_benchmark(folder, content.study, bars.n_bars - inputs.first),
        stitched=read_series(folder.path / WALK_FORWARD, "equity"),
    )


def _benchmark(folder: StudyFolder, study: Study, n_bars: int) -> pd.Series[float] | None:
    returns = load_benchmark(folder)
    if returns is not None and len(returns) != n_bars:
        raise StudyError(
            f"{folder.path / BENCHMARK}: has {counted(len(returns), 'bar')}, the winner has {n_bars};"
            " run the study again"
        )
    return None if returns is None else returns.rename(held_name(study.validation.benchmark))


def _price(bars: Bars, symbol: str | None, log_market: FloatArray) -> FloatArray:
    """The closes of a symbol from the first decision on, or the index of all, which is 100 there."""
    if symbol is not None:
        return bars.close[-len(log_market) :, bars.symbols.index(symbol)]
    return np.asarray(100.0 * np.exp(log_market - log_market[0]))
