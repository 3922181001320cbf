"""What the sections about the study say, as the values of their templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from optimizer.review.tables import LEGEND, SHOWN
from optimizer.selection.odds import known, odds_of, sharpe_to_expect
from optimizer.selection.verdict import LUCK, PROMISING, SKILL, diagnosis, remarks
from optimizer.study_file.objectives import objective_of
from optimizer.sweep.buy_and_hold import held_name
from optimizer.text import counted, probability
from optimizer.views.report import (
    pareto_figure,
    search_figures,
    selection_figures,
    winner_sections,
)
from optimizer.views.report.content import Content
from optimizer.views.report.drawn import Drawn, Values, height_of
from optimizer.views.report.formats import metric_name, value_text
from optimizer.views.report.search_figures import BEST_LINES, OTHER_LINES

TONES = {SKILL: "good", PROMISING: "middling", LUCK: "bad"}

RANGES = ("winner", "lowest", "median", "highest")
"""Columns of ``parameter_ranges`` that are values of a parameter."""

MOST_SURVIVORS = 20
"""Survivors whose numbers the page lists."""

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles of metrics that the page shows of a study that keeps the best sets whole."""

SIGNS = {1: ("+", "good", "speaks for it"), 0: ("~", "middling", "in between"),
         -1: ("-", "bad", "speaks against it")}  # fmt: skip


def verdict(content: Content, drawn: Drawn) -> Values:
    """The verdict, what the reader must know first, and the equity of the set that the report is about.

    Args:
        content: the content of the report.
        drawn: takes the figure.

    Returns:
        Values of ``verdict.html``.
    """
    values: Values = {
        "notes": content.notes,
        "reasons": (),
        "metrics": (),
        "equity": winner_sections.equity(content, drawn),
    }
    if content.row is None:
        why, _, constraints = content.none_best.partition("; ")
        reasons = [
            str(trial["user_attrs"]["reason"])
            for trial in content.trials
            if "reason" in trial["user_attrs"]
        ]
        items = [constraints] if constraints else []
        items += [
            f"{counted(reasons.count(one), 'trial')} failed: {one}"
            for one in dict.fromkeys(reasons)
        ]
        values |= {"tone": "bad", "headline": why[0].upper() + why[1:]}
        values["reasons"] = [{"sign": "", "text": item} for item in items]
        return values
    number = int(content.row["set"])
    if content.chosen:
        best = (
            "no set is best"
            if content.best.empty
            else f"the best is {content.best.iloc[0]['set']:,}"
        )
        feasible = "" if content.row["feasible"] else ", which breaks the constraints"
        values |= {"tone": "middling", "headline": f"Set {number:,}{feasible}; {best}"}
    elif content.verdict is None or content.selection is None:
        values |= {"tone": "middling", "headline": f"Set {number:,}: no verdict yet"}
    else:
        found, number = content.verdict, content.selection.sets[0].number
        values |= {"tone": TONES[found.words], "headline": f"Set {number:,}: {found.headline}"}
        values["reasons"] = [
            dict(zip(("sign", "tone", "meaning"), SIGNS[reason.weight], strict=True))
            | {"text": reason.text}
            for reason in found.reasons
        ]
    values["metrics"] = _metrics(content, content.row)
    return values


def _metrics(content: Content, row: Mapping[Any, Any]) -> list[tuple[str, str, str]]:
    """The tiles of a set: name, value in-sample, and the value out-of-sample below."""
    names = dict.fromkeys((*content.study.search.objective, *SHOWN, "final_equity"))
    tiles = []
    if content.selection is not None and content.selection.sharpe_to_expect is not None:
        expected = sharpe_to_expect(content.selection, known(row["sharpe"]))
        ends = None if content.chosen else content.selection.interval_to_expect
        between = "" if ends is None else f"95%: {ends[0]:.2f} to {ends[1]:.2f}"
        tiles.append(("Sharpe to expect", value_text("sharpe", expected), between))
    return tiles + [
        (metric_name(n), value_text(n, row[n]), f"{value_text(n, row[f'oos_{n}'])} out-of-sample")
        for n in names
    ]


def sets(content: Content) -> Values | None:
    """The best sets, and the parameters of the one that the report is about.

    Args:
        content: the content of the report.

    Returns:
        Values of ``sets.html``; None where no set is best.
    """
    if content.row is None:
        return None
    row = content.row
    branch = content.space.branches[content.space.branch_index(row["strategy"], row["classifier"])]
    varied = {*branch.swept, *(one.name for one in branch.searched)}
    fixed = [(name, value_text("", row[name])) for name in branch.columns if name not in varied]
    return {
        "table": None if content.best.empty else _best_table(content),
        "legend": LEGEND,
        "subject": content.subject,
        "parameters": [
            ("strategy", row["strategy"]),
            ("classifier", row["classifier"]),
            *((name, value_text("", row[name])) for name in branch.columns if name in varied),
        ],
        "fixed": fixed,
    }


def _best_table(content: Content) -> Values:
    """The best sets, a column for each parameter that varies in the study; buy and hold comes last."""
    frame, selection = content.best, content.selection
    metrics = [*dict.fromkeys((*content.study.search.objective, *SHOWN))]
    odds = {one.number for one in selection.sets} if selection is not None else set()
    varying = [axis.name for axis in content.axes if axis.name in frame.columns]
    expects = selection is not None and selection.sharpe_to_expect is not None
    names = ["set", *(["Sharpe to expect"] if expects else [])]
    names += [metric_name(name) for name in metrics]
    names += ["p"] if odds else []
    owners = tuple(f"{one}_" for one in dict.fromkeys(frame["strategy"]))
    short = [_without(name, owners) if len(owners) == 1 else name for name in varying]
    rows = []
    for row in frame.to_dict("records"):
        cells = [_both(n, row[n], row[f"oos_{n}"]) for n in metrics]
        if expects:
            cells.insert(0, value_text("sharpe", sharpe_to_expect(selection, known(row["sharpe"]))))
        if odds:
            one = None
            if selection and content.verdict and int(row["set"]) in odds:
                one = odds_of(selection, row, content.verdict.tried)
            cells.append(probability(one.p if one else None))
        cells += [value_text("", row[name]) for name in varying]
        rows.append({"number": f"{int(row['set']):,}", "cells": cells})
    held = selection.held if selection is not None else None
    cells_held = []
    if held is not None:
        cells_held = [""] * expects + [
            _both(n, objective_of(n, held.in_sample), objective_of(n, held.out_of_sample))
            for n in metrics
        ]
    names += short
    if held is not None:
        cells_held += [""] * (len(names) - 1 - len(cells_held))
    return {
        "names": [name.replace("_", " ") for name in names],
        "rows": rows,
        "held": cells_held,
        "held_name": held_name(content.study.validation.benchmark),
        "has_odds": bool(odds),
        "holdout": bool(content.manifest["holdout_time"]),
    }


def _without(name: str, prefixes: Sequence[str]) -> str:
    return next((name.removeprefix(one) for one in prefixes if name.startswith(one)), name)


def _both(name: str, inside: Any, outside: Any) -> str:
    """A metric in-sample, and out-of-sample where it is known."""
    text = value_text(name, inside)
    return text if outside is None or pd.isna(outside) else f"{text} / {value_text(name, outside)}"


def selection(content: Content, drawn: Drawn) -> Values:
    """What tells skill from luck: all sets out-of-sample, overfitting, walk-forward.

    Args:
        content: the content of the report.
        drawn: takes the figures.

    Returns:
        Values of ``selection.html``.
    """
    values: Values = {
        "remarks": (),
        "scatter": drawn.add("scatter", selection_figures.in_and_out(content)),
        "n_sets": f"{len(content.sets):,}",
        "overfitting": None,
        "walk_forward": None,
        "cpcv": None,
        "contenders": None,
    }
    found = content.selection
    if found is None or content.verdict is None:
        return values
    if content.contenders is not None and not content.contenders.empty:
        values |= {
            "contenders": [
                (name, *(value_text("", row[key]) for key in RANGES), f"{row['share']:.0%}")
                for name, row in content.contenders.iterrows()
            ],
            "n_contenders": counted(found.n_contenders, "set"),
            **_survivors(content),
        }
    tried = content.verdict.tried
    lines = [*remarks(found, content.study, tried), *diagnosis(found, tried)]
    values["remarks"] = [line[:1].upper() + line[1:] for line in lines]
    values["overfitting"] = drawn.add("overfitting", selection_figures.overfitting(content))
    if found.pbo is not None:
        values |= {"pbo": f"{found.pbo:.2f}", "n_splits": f"{found.n_splits:,}"}
    values["walk_forward"] = drawn.add("walk_forward", selection_figures.walk_forward(content))
    values["cpcv"] = drawn.add("cpcv", selection_figures.cpcv(content))
    values |= {
        "n_paths": f"{len(found.path_sharpes):,}",
        "n_windows": len(found.windows),
        "one_search_per_window": found.one_search_per_window,
        "efficiency": value_text("", found.walk_forward_efficiency),
    }
    return values


def _survivors(content: Content) -> Values:
    numbers = () if content.survivors is None else content.survivors.tolist()
    return {
        "survivors": counted(len(numbers), "set"),
        "first_survivors": ", ".join(f"{one:,}" for one in numbers[:MOST_SURVIVORS]),
        "more_survivors": len(numbers) > MOST_SURVIVORS,
    }


def parameters(content: Content, drawn: Drawn) -> Values | None:
    """Which parameters matter, two at a time, and all of them as lines.

    Args:
        content: the content of the report.
        drawn: takes the figures; heatmaps of every pair are in the page anyway.

    Returns:
        Values of ``parameters.html``; None where no set was tried.
    """
    axes = content.axes
    if not axes:
        return {"importance": None} if len(content.sets) else None
    n_shown = len({axis.name for grid in content.grids for axis in (grid.x, grid.y)})
    values: Values = {
        "importance": drawn.add("importance", search_figures.importance(content)),
        "objective": metric_name(content.objective),
        "names": [axis.name for axis in axes[:n_shown]],
        "n_axes": len(axes),
        "parallel": drawn.add("parallel", search_figures.parallel(content)),
        "sample": f"All {len(content.sets):,} sets",
    }
    if content.grids:
        first = search_figures.heatmap(content, content.grids[0], "median", (0.0, 1.0))
        values["heatmap"] = height_of(first)
    if len(content.sets) > BEST_LINES + OTHER_LINES:
        values["sample"] = (
            f"The best {BEST_LINES} sets and {OTHER_LINES:,} of the others, evenly spaced by rank"
        )
    return values


def _spread(content: Content) -> list[tuple[str, ...]]:
    """Of each metric with a histogram: the set that the report is about, and quantiles over all sets."""
    row = content.row
    return [
        (
            metric_name(one.name),
            "" if row is None else value_text(one.name, row[one.name]),
            *(value_text(one.name, one.quantile(share)) for share in SHARES),
        )
        for one in content.histograms
    ]


def search(content: Content, drawn: Drawn) -> Values | None:
    """The course of the search.

    Args:
        content: the content of the report.
        drawn: takes the figure.

    Returns:
        Values of ``search.html``; None where no trial has a value.
    """
    height = drawn.add("history", search_figures.history(content))
    if height is None:
        return None
    failed = sum(1 for trial in content.trials if not trial["values"])
    chosen = content.study.search
    return {
        "height": height,
        "pareto": drawn.add("pareto", pareto_figure.pareto(content)),
        "n_objectives": len(chosen.objective),
        "sampler": chosen.sampler,
        "objective": content.objective,
        "tile_value": chosen.tile_value,
        "failed": counted(failed, "trial") if failed else "",
        "histogram": drawn.add("histogram", search_figures.histogram(content)),
        "spread": _spread(content),
        "subject": content.subject,
        "unsealed": content.sets[f"oos_{content.objective}"].notna().any(),
    }
