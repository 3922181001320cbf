"""What the sections about the study say, as the values of their templates."""

from __future__ import annotations

import pandas as pd

from optimizer.review.tables import ODDS_LEGEND, SHOWN
from optimizer.selection.odds import known, odds_of, sharpe_to_expect
from optimizer.selection.verdict import LUCK, PROMISING, SKILL, diagnosis, remarks
from optimizer.study_file.objectives import objective_of
from optimizer.sweep.buy_and_hold import held_name
from optimizer.text import counted, probability
from optimizer.views.report import pareto_figure, search_figures, selection_figures
from optimizer.views.report.content import Content
from optimizer.views.report.drawn import Drawn, Values, height_of
from optimizer.views.report.formats import metric_name, metric_title, value_text
from optimizer.views.report.search_figures import BEST_LINES, OTHER_LINES

TONES = {SKILL: "good", PROMISING: "middling", LUCK: "bad"}

RANGES = ("winner", "lowest", "median", "highest")
"""Columns of ``parameter_ranges`` that are values of a parameter."""

MOST_SURVIVORS = 20
"""Survivors whose numbers the page lists."""

SIGNS = {1: ("+", "good", "speaks for it"), 0: ("~", "middling", "in between"),
         -1: ("-", "bad", "speaks against it")}  # fmt: skip


def verdict(content: Content) -> Values:
    """The verdict, what the reader must know first, and the best sets.

    Args:
        content: the content of the report.

    Returns:
        Values of ``verdict.html``.
    """
    values: Values = {"notes": content.notes, "table": None, "legend": ODDS_LEGEND}
    if content.best.empty:
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
    if content.verdict is None or content.selection is None:
        number = int(content.best.iloc[0]["set"])
        values |= {"tone": "middling", "headline": f"Set {number:,}: no verdict yet", "reasons": ()}
    else:
        found, number = content.verdict, content.selection.sets[0].number
        values |= {"tone": TONES[found.words], "headline": f"Set {number:,}: {found.headline}"}
        values["reasons"] = [
            dict(zip(("sign", "tone", "meaning"), SIGNS[reason.weight], strict=True))
            | {"text": reason.text}
            for reason in found.reasons
        ]
    row = content.best.iloc[0]
    names = dict.fromkeys((*content.study.search.objective, *SHOWN, "final_equity"))
    expected = content.selection.sharpe_to_expect if content.selection is not None else None
    values["metrics"] = []
    if content.selection is not None and expected is not None:
        ends = content.selection.interval_to_expect
        between = "" if ends is None else f"95%: {ends[0]:.2f} to {ends[1]:.2f}"
        values["metrics"] = [("Sharpe to expect", value_text("sharpe", expected), between)]
    values["metrics"] += [
        (metric_title(n), value_text(n, row[n]), f"{value_text(n, row[f'oos_{n}'])} out-of-sample")
        for n in names
    ]
    values["table"] = _best_table(content)
    return values


def _best_table(content: Content) -> Values:
    frame = content.best
    metrics = [*dict.fromkeys((*content.study.search.objective, *SHOWN))]
    odds = set() if content.selection is None else {one.number for one in content.selection.sets}
    varying = [axis.name for axis in content.axes if axis.name in frame.columns]
    varying = [name for name in varying if frame[name].nunique(dropna=False) > 1]
    expects = content.selection is not None and content.selection.sharpe_to_expect is not None
    names = ["set", *(["Sharpe to expect"] if expects else [])]
    names += [metric_name(name) for name in metrics]
    names += ["p", "DSR", "PSR"] if odds else []
    names += ["what differs"] if varying else []
    rows = []
    for row in frame.to_dict("records"):
        cells = [f"{value_text(n, row[n])} / {value_text(n, row[f'oos_{n}'])}" for n in metrics]
        if expects:
            own = sharpe_to_expect(content.selection, known(row["sharpe"]))
            cells.insert(0, value_text("sharpe", own))
        if odds:
            one = None
            if content.selection and content.verdict and int(row["set"]) in odds:
                one = odds_of(content.selection, row, content.verdict.tried)
            p, dsr = (one.p, one.dsr) if one else (None, None)
            psr, oos_psr = (one.psr, one.oos_psr) if one else (None, None)
            cells += [
                probability(p),
                probability(dsr),
                f"{probability(psr)} / {probability(oos_psr)}",
            ]
        differs = ", ".join(
            f"{name.removeprefix(row['strategy'] + '_')} {value_text('', row[name])}"
            for name in varying
            if not pd.isna(row[name])
        )
        rows.append(
            {
                "number": f"{int(row['set']):,}",
                "cells": cells,
                "differs": differs if varying else None,
            }
        )
    held = content.selection.held if content.selection is not None else None
    cells_held = []
    if held is not None:
        cells_held = [""] * expects + [
            f"{value_text(n, objective_of(n, held.in_sample))}"
            f" / {value_text(n, objective_of(n, held.out_of_sample))}"
            for n in metrics
        ]
        cells_held += [""] * (len(names) - 1 - len(cells_held))
    return {
        "names": names,
        "rows": rows,
        "held": cells_held,
        "held_name": held_name(content.study.validation.benchmark),
        "has_odds": bool(odds),
    }


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
        "unsealed": content.sets[f"oos_{content.objective}"].notna().any(),
    }
