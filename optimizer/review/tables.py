"""Tables of parameter sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from optimizer.selection.odds import known, sharpe_to_expect
from optimizer.selection.p_values import family_wise
from optimizer.selection.record import Selection
from optimizer.selection.verdict import Verdict
from optimizer.store.query import cell
from optimizer.study_file.objectives import objective_of
from optimizer.study_file.space import build_space
from optimizer.study_file.study import Study
from optimizer.sweep.buy_and_hold import held_name
from optimizer.text import probability

SHOWN = ("sharpe", "cagr", "max_drawdown", "n_trades")
"""Metrics that tables show, in-sample and out-of-sample."""

LEGEND = (
    "Sharpe to expect: that in-sample, corrected for the choice of the best of many."
    " p: probability that the best of all sets tried on these bars has such an alpha by luck."
)
ODDS_LEGEND = (
    f"{LEGEND}"
    " DSR: probability that the Sharpe ratio is above what the best of that many sets would reach by"
    " luck."
    " PSR: probability that it is above 0."
)


@dataclass(frozen=True)
class SetTable:
    """Parameter sets as a table.

    Attributes:
        titles: the titles of the columns, each of one or two lines.
        rows: cells of each set; the last row is buy and hold once the study is complete.
        has_odds: whether there are columns that ``LEGEND`` explains.
    """

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    has_odds: bool


def set_table(
    frame: pd.DataFrame,
    study: Study,
    selection: Selection | None,
    verdict: Verdict | None,
    more: Sequence[str] = (),
) -> SetTable:
    """A table of sets: the ratio to expect, metrics as in-sample / out-of-sample, p, what differs.

    Args:
        frame: whole rows of the study's results, with the out-of-sample metrics that may be shown.
        study: the study that they are results of.
        selection: what the study recorded about its choice, for the ratios to expect, see
            ``judged``; None before its end.
        verdict: the verdict on the study, which corrects the p-values of all sets; None before its end.
        more: metrics to show in place of some of the usual ones.

    Returns:
        Texts, ready to be printed.
    """
    metrics = [*dict.fromkeys((*study.search.objective, *more, *SHOWN))]
    if more:
        metrics = metrics[: max(len({*study.search.objective, *more}), len(SHOWN))]
    branches = build_space(study).branches
    varying = {
        "strategy",
        "classifier",
        *(name for branch in branches for name in branch.swept),
        *(one.name for branch in branches for one in branch.searched),
    }
    names = [
        name for name in frame.columns if name in varying and frame[name].nunique(dropna=False) > 1
    ]
    expects = selection is not None and selection.sharpe_to_expect is not None
    titles = ["set", *(["Sharpe\nto expect"] if expects else [])]
    titles += [*(f"{name.replace('_', ' ')}\nin / out" for name in metrics)]
    if verdict is not None:
        titles.append("p\n")
    titles.append("what differs between these sets" if len(frame) > 1 else "")
    rows = []
    for row in frame.to_dict("records"):
        cells = [f"{cell(row[name])} / {cell(row[f'oos_{name}'])}" for name in metrics]
        if expects:
            cells.insert(0, cell(sharpe_to_expect(selection, known(row["sharpe"]))))
        differing = (
            f"{name.removeprefix(str(row['strategy']) + '_')} {cell(row[name])}"
            for name in names
            if cell(row[name]) != "-"
        )
        if verdict is not None:
            cells.append(probability(family_wise(known(row["alpha_t"]), verdict.tried.maxima)))
        rows.append((str(row["set"]), *cells, ", ".join(differing)))
    if selection is not None and selection.held is not None:
        inside, outside = selection.held.in_sample, selection.held.out_of_sample
        cells = [
            f"{cell(objective_of(name, inside))} / {cell(objective_of(name, outside))}"
            for name in metrics
        ]
        rows.append(
            (
                "-",
                *(["-"] if expects else []),
                *cells,
                *(["-"] * (len(titles) - 2 - len(metrics) - expects)),
                held_name(selection.benchmark),
            )
        )
    return SetTable(tuple(titles), tuple(rows), verdict is not None)
