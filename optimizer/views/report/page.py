"""The report as one HTML page that asks for nothing outside itself."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from kernels.codes import REASONS
from optimizer.selection.verdict import remarks
from optimizer.text import counted
from optimizer.types import FloatArray
from optimizer.views.report import figures
from optimizer.views.report.content import Content
from optimizer.views.report.figures import DARK, LIGHT, PERCENT, TEMPLATE, metric_name, metric_title
from optimizer.views.report.trades import costs_by_year, monthly_returns

MOST_TRADES = 1000
"""Rows of the trades table; the last ones are kept."""

SHOWN = ("sharpe", "cagr", "max_drawdown", "n_trades")
"""Metrics of the table of the best sets, beside the objectives."""

NONE = "-"
"""Stands for what is undefined."""

TONES = {"holds up": "good", "fragile": "middling", "likely luck": "bad"}
SIGNS = {1: ("+", "good", "speaks for it"), 0: ("~", "middling", "in between"),
         -1: ("-", "bad", "speaks against it")}  # fmt: skip

WHY = {
    "no_signal": "the strategy wants no position and holds none",
    "held": "the strategy says hold, or a stop has barred the symbol",
    "unchanged": "the target is the position already held",
    "no_edge": "the Kelly size is zero: nothing is expected to be gained",
    "no_budget": "the exposure that the portfolio may have is used up",
    "no_cash": "cash does not pay for a single lot",
    "below_minimum": "the order is below the least size",
    "inside_band": "the change is too small a share of the target",
}
WISHES = ("no_budget", "no_cash", "below_minimum", "inside_band", "no_edge")
"""Reasons with which the risk manager refuses a wish; with the others there was none."""


def page(content: Content) -> str:
    """The whole page."""
    made: dict[str, go.Figure] = {}
    sections = {
        "verdict": ("Verdict", _verdict(content)),
        "equity": ("Equity", _equity(content, made)),
        "selection": ("Good or lucky", _selection(content, made)),
        "parameters": ("Parameters", _parameters(content, made)),
        "search": ("Search", _search(content, made)),
        "winner": ("Winner", _winner(content, made)),
        "trades": ("Trades", _trades(content)),
        "costs": ("Costs", _costs(content, made)),
        "refusals": ("Refusals", _refusals(content, made)),
    }
    there = {name: pair for name, pair in sections.items() if pair[1]}
    study = content.study
    parts = {
        "title": _text(f"{study.name}: barsweep report"),
        "name": _text(study.name),
        "facts": _facts(content),
        "links": "".join(
            f'<li><a href="#{name}">{title}</a></li>' for name, (title, _) in there.items()
        ),
        "sections": "\n".join(
            f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>'
            f"{body}</section>"
            for name, (title, body) in there.items()
        ),
        "footer": _text(
            f"barsweep {version('barsweep')}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. Study"
            f" {str(content.manifest['study_hash'])[:12]}, bars"
            f" {str(content.manifest['data_hash'])[:12]}."
        ),
        "spec": _spec(content, made),
        "css": _filled(_file("page.css"), {"palette": _palette()}),
        "js": _file("page.js"),
        "plotly": get_plotlyjs(),
    }
    return _filled(_file("page.html"), parts)


def _file(name: str) -> str:
    return (files("optimizer.views.report") / name).read_text(encoding="utf-8")


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """Each ``{{name}}`` replaced once, so that no part can name another."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _palette() -> str:
    def rules(colors: Mapping[str, str]) -> str:
        return ":root{" + "".join(f"--{name}:{color};" for name, color in colors.items()) + "}"

    light = f"{rules(LIGHT)}:root{{color-scheme:light dark}}"
    return f"{light}@media screen and (prefers-color-scheme:dark){{{rules(DARK)}}}"


def _spec(content: Content, made: Mapping[str, go.Figure]) -> str:
    """Figures, heatmaps of every pair and colours, as JSON that may stand in a script element."""
    heatmaps: dict[str, Any] = {}
    places = {axis.name: place for place, axis in enumerate(content.axes)}
    ends = {
        "median": _color_ends(content, [grid.median for grid in content.grids]),
        "best": _color_ends(content, [grid.best for grid in content.grids]),
    }
    for grid in content.grids:
        heatmaps[f"{places[grid.x.name]}-{places[grid.y.name]}"] = {
            "median": _plain(figures.heatmap(content, grid, "median", ends["median"])),
            "best": _plain(figures.heatmap(content, grid, "best", ends["best"])),
        }
    spec = {
        "figures": {name: _plain(figure) for name, figure in made.items()},
        "heatmaps": heatmaps,
        "template": TEMPLATE.to_plotly_json(),
        "dark": {LIGHT[name]: DARK[name] for name in LIGHT},
    }
    text: str = to_json_plotly(spec)
    return text.replace("<", "\\u003c")


def _color_ends(content: Content, cells: Sequence[FloatArray]) -> tuple[float, float]:
    """What the colours of all pairs span: one outlier must not take them all."""
    known = [one[np.isfinite(one)] for one in cells]
    if not sum(len(one) for one in known):
        return 0.0, 1.0
    shares = [0.02, 1.0] if content.maximize else [0.0, 0.98]
    low, high = np.quantile(np.concatenate(known), shares)
    return float(low), float(high)


def _plain(figure: go.Figure) -> dict[str, Any]:
    """A figure's data and layout; all share one template."""
    plain: dict[str, Any] = figure.to_dict()
    plain["layout"].pop("template", None)
    return {"data": plain["data"], "layout": plain["layout"]}


def _text(value: object) -> str:
    return html.escape(str(value))


def _figure(
    made: dict[str, go.Figure], key: str, figure: go.Figure | None, label: str, caption: str,
    controls: str = "", wide: bool = False,
) -> str:  # fmt: skip
    """A place for a figure, with what it shows in words; nothing where there is no figure."""
    if figure is None:
        return ""
    made[key] = figure
    height = int(figure.layout.height)
    plot = (
        f'<div class="plot" data-figure="{key}" style="min-height:{height}px" role="img"'
        f' aria-label="{_text(label)}"></div>'
    )
    if wide:
        plot = (
            f'<div class="wide" tabindex="0" role="region" aria-label="{_text(label)}">{plot}</div>'
        )
    return f"<figure>{controls}{plot}<figcaption>{_text(caption)}</figcaption></figure>"


def _tiles(values: Iterable[tuple[str, str, str]]) -> str:
    cells = "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(value)}"
        f"{f'<small>{_text(beside)}</small>' if beside else ''}</dd></div>"
        for name, value, beside in values
    )
    return f'<dl class="tiles">{cells}</dl>'


def _value(name: str, value: Any) -> str:
    """A metric as it is read: percent where it is a share."""
    if value is None or pd.isna(value):
        return NONE
    if isinstance(value, str):
        return value
    number = float(value)
    if name in PERCENT:
        return f"{number:.1%}"
    if name in ("n_trades", "set", "trial") or abs(number) >= 10_000:
        return f"{number:,.0f}"
    return f"{number:.3g}"


def _head(names: Sequence[str], text: Sequence[str] = (), sortable: bool = False) -> str:
    cells = []
    for name in names:
        label = f'<button type="button">{_text(name)}</button>' if sortable else _text(name)
        kind = ' class="text"' if name in text else ""
        cells.append(f'<th scope="col"{kind}>{label}</th>')
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


def _scroll(table: str, label: str, tall: bool = False) -> str:
    kind = "scroll tall" if tall else "scroll"
    return (
        f'<div class="{kind}" tabindex="0" role="region" aria-label="{_text(label)}">{table}</div>'
    )


def _facts(content: Content) -> str:
    manifest, sets = content.manifest, content.sets
    first, last = str(manifest["first_time"])[:10], str(manifest["span"][1])[:10]
    holdout = str(manifest["holdout_time"] or "")[:10]
    span = f"in-sample {first} to {holdout}, out-of-sample from there to {last}"
    if not holdout:
        span = f"in-sample {first} to {last}"
    symbols = manifest["symbols"]
    shown = ", ".join(symbols[:12]) + (", ..." if len(symbols) > 12 else "")
    return _text(
        f"{counted(len(sets), 'parameter set')} ({content.n_distinct:,} distinct) in"
        f" {counted(len(content.trials), 'trial')}, {int(sets['feasible'].sum()):,} feasible; {span}."
        f" {counted(len(symbols), 'symbol')}: {shown}."
        f" {manifest['bars_per_year']:,.6g} bars a year."
    )


def _verdict(content: Content) -> str:
    out = []
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
        listed = "".join(f"<li>{_text(item)}</li>" for item in items)
        out.append(
            f'<div class="verdict bad"><p class="words">{_text(why[0].upper() + why[1:])}</p>'
            f"<ul>{listed}</ul></div>"
        )
    elif content.verdict is None or content.selection is None:
        number = int(content.best.iloc[0]["set"])
        out.append(
            f'<div class="verdict middling"><p class="words">Set {number:,}: no verdict yet</p></div>'
        )
    else:
        verdict, number = content.verdict, content.selection.sets[0].number
        listed = "".join(
            f'<li><span class="sign {SIGNS[reason.weight][1]}" role="img"'
            f' aria-label="{SIGNS[reason.weight][2]}">{SIGNS[reason.weight][0]}</span>'
            f"<span>{_text(reason.text)}</span></li>"
            for reason in verdict.reasons
        )
        out.append(
            f'<div class="verdict {TONES[verdict.words]}"><p class="words">Set {number:,}:'
            f" {_text(verdict.words)}</p><ul>{listed}</ul></div>"
        )
    out += [f'<p class="note">{_text(note)}</p>' for note in content.notes]
    if content.best.empty:
        return "".join(out)
    row = content.best.iloc[0]
    names = dict.fromkeys((*content.study.search.objective, *SHOWN, "final_equity"))
    out.append(
        _tiles(
            (metric_title(n), _value(n, row[n]), f"{_value(n, row[f'oos_{n}'])} out-of-sample")
            for n in names
        )
    )
    out.append("<h3>The best sets</h3>")
    out.append(_best_table(content))
    out.append(
        '<p class="small">In-sample / out-of-sample. DSR: probability that the Sharpe ratio is'
        " above what the best of so many sets reaches by luck. PSR: probability that it is above 0."
        " Sets with the same trades as a better one are left out.</p>"
    )
    return "".join(out)


def _best_table(content: Content) -> str:
    frame = content.best
    metrics = [*dict.fromkeys((*content.study.search.objective, *SHOWN))]
    odds = {} if content.selection is None else {o.number: o for o in content.selection.sets}
    varying = [axis.name for axis in content.axes if axis.name in frame.columns]
    varying = [name for name in varying if frame[name].nunique(dropna=False) > 1]
    names = ["set", *(metric_name(name) for name in metrics)]
    names += ["DSR", "PSR"] if odds else []
    names += ["what differs"] if varying else []
    rows = []
    for row in frame.to_dict("records"):
        cells = [f'<th scope="row">{int(row["set"]):,}</th>']
        cells += [
            f"<td>{_value(name, row[name])} / {_value(name, row[f'oos_{name}'])}</td>"
            for name in metrics
        ]
        if odds:
            one = odds.get(int(row["set"]))
            cells += [
                f"<td>{_value('', one.dsr if one else None)}</td>",
                f"<td>{_value('', one.psr if one else None)} /"
                f" {_value('', one.oos_psr if one else None)}</td>",
            ]
        if varying:
            given = ", ".join(
                f"{name.removeprefix(row['strategy'] + '_')} {_value('', row[name])}"
                for name in varying
                if not pd.isna(row[name])
            )
            cells.append(f'<td class="fold">{_text(given)}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    held = content.selection.held if content.selection is not None else None
    if held is not None:
        cells = [
            f"<td>{_value(name, held.in_sample.get(name))} /"
            f" {_value(name, held.out_of_sample.get(name))}</td>"
            for name in metrics
        ]
        cells += ["<td></td>"] * (len(names) - 1 - len(metrics))
        rows.append(f'<tr><th scope="row">buy and<br>hold</th>{"".join(cells)}</tr>')
    head = _head(names, ("what differs",))
    return _scroll(f"<table>{head}<tbody>{''.join(rows)}</tbody></table>", "The best sets")


def _equity(content: Content, made: dict[str, go.Figure]) -> str:
    if content.winner is None or content.median is None:
        return ""
    first = str(content.manifest["first_time"])[:10]
    symbols = content.manifest["symbols"]
    controls = (
        '<div class="controls"><label class="check"><input type="checkbox" data-log="equity">'
        " logarithmic equity</label></div>"
    )
    return _figure(
        made,
        "equity",
        figures.equity(content.winner, content.median, content.stitched),
        "Equity and drawdown of the winner, buy and hold and the median set",
        f"Equity and the fall from its peak, at each close from the first decision ({first}) on."
        f" Buy and hold: equal money in {'each of ' if len(symbols) > 1 else ''}"
        f"{counted(len(symbols), 'symbol')}, bought"
        + (
            " at the close of the first decision"
            if content.winner.inputs.rules.close_fill
            else " at the open after the first decision"
        )
        + ", nothing rebalanced, no costs. The median set is the middle one of all feasible sets by"
        " score. The shaded bars are the holdout, which the search never saw."
        + (
            ""
            if content.stitched is None
            else " Walk-forward: over each window the set that its search chose before it."
        ),
        controls,
    )


def _selection(content: Content, made: dict[str, go.Figure]) -> str:
    selection = content.selection
    out = []
    if selection is not None:
        out += [
            f"<p>{_text(line[:1].upper() + line[1:])}.</p>"
            for line in remarks(selection, content.study)
        ]
    scatter = figures.in_and_out(content)
    n_sets = len(content.sets)
    if scatter is not None:
        out.append("<h3>In-sample against out-of-sample</h3>")
    out.append(
        _figure(
            made,
            "scatter",
            scatter,
            "Counts of all sets by in-sample and out-of-sample result",
            f"All {n_sets:,} sets, feasible or not, counted in bins, the colours by the logarithm."
            " On the dashed line a set is as good out-of-sample as in-sample. The outermost"
            " thousandth on each side may lie outside.",
        )
    )
    logits = figures.overfitting(content)
    if logits is not None and selection is not None:
        out.append(f"<h3>Probability of backtest overfitting: {selection.pbo:.2f}</h3>")
        out.append(
            _figure(
                made,
                "overfitting",
                logits,
                "Logits of the out-of-sample rank over the splits",
                f"Over {selection.n_splits:,} ways to split the in-sample bars in two halves: how the"
                " set that is best in one half ranks in the other. The probability of backtest"
                " overfitting (PBO) is the share of splits at or below 0, where it is no better than"
                " the median set. The outermost bars hold all beyond.",
            )
        )
    windows = figures.walk_forward(content)
    if windows is not None and selection is not None:
        efficiency = _value("", selection.walk_forward_efficiency)
        how = (
            "a search of its own on its training bars"
            if selection.one_search_per_window
            else "a choice among all sets tried, on its training bars"
        )
        out.append("<h3>Walk-forward</h3>")
        out.append(
            _figure(
                made,
                "walk_forward",
                windows,
                "Sharpe ratio of each window in training and after it",
                f"Each window: {how}, traded over the bars after them. Efficiency (mean after over"
                f" mean in training): {efficiency}.",
                wide=len(selection.windows) > 5,
            )
        )
    return "".join(out)


def _parameters(content: Content, made: dict[str, go.Figure]) -> str:
    axes = content.axes
    if not axes:
        return "<p>No parameter varies between the sets tried.</p>" if len(content.sets) else ""
    objective = metric_name(content.objective)
    out = ["<h3>Which parameters matter</h3>"]
    out.append(
        _figure(
            made,
            "importance",
            figures.importance(content),
            "Share of the objective's variance that each parameter explains by itself",
            f"First-order share of the variance of the {objective} over all sets: the variance of the"
            " means over a parameter's values (or bins) against that of all sets. A parameter that"
            " only some sets have is judged among those. Interactions are left out, and a search that"
            " tries good regions more often weighs them more.",
        )
    )
    if content.grids:
        out.append("<h3>Two parameters at a time</h3>")
        n_axes = len({axis.name for grid in content.grids for axis in (grid.x, grid.y)})
        less = (
            f" Offered are the {n_axes} most important of {len(axes)} parameters."
            if n_axes < len(axes)
            else ""
        )
        first = figures.heatmap(content, content.grids[0], "median", (0.0, 1.0))
        out.append(
            _figure(
                {},  # its place alone: every pair is in the page already
                "heatmap",
                first,
                "The objective over two parameters, the plateau outlined",
                f"In-sample {objective} over two parameters; the others are summed up by their median"
                " or their best. Outlined is the plateau: cells within 10% of the best cell's value."
                f" Empty cells were not tried.{less}",
                _pair_controls([axis.name for axis in axes[:n_axes]]),
            )
        )
    lines = figures.parallel(content)
    if lines is not None:
        sample = f"All {len(content.sets):,} sets"
        if len(content.sets) > figures.BEST_LINES + figures.OTHER_LINES:
            sample = (
                f"The best {figures.BEST_LINES} sets and {figures.OTHER_LINES:,} of the others, evenly"
                " spaced by rank"
            )
        out.append("<h3>Sets as lines</h3>")
        out.append(
            _figure(
                made,
                "parallel",
                lines,
                "Sets as lines over their parameters and their objective",
                f"{sample}, each a line over its parameters (by place among the values tried, a little"
                f" apart) and its {objective}. A click on the legend hides or shows a group.",
                wide=True,
            )
        )
    return "".join(out)


def _pair_controls(names: Sequence[str]) -> str:
    def select(name: str, label: str, chosen: int) -> str:
        options = "".join(
            f'<option value="{place}"{" selected" if place == chosen else ""}>{_text(one)}</option>'
            for place, one in enumerate(names)
        )
        return f'<label for="{name}">{label}<select id="{name}">{options}</select></label>'

    return (
        f'<div class="controls">{select("first", "First parameter", 0)}'
        f"{select('second', 'Second parameter', 1)}"
        '<label for="statistic">Over the others<select id="statistic"><option value="median">median'
        '</option><option value="best">best</option></select></label></div>'
    )


def _search(content: Content, made: dict[str, go.Figure]) -> str:
    failed = sum(1 for trial in content.trials if not trial["values"])
    search = content.study.search
    return _figure(
        made,
        "history",
        figures.history(content),
        "Value of each trial and the best so far",
        f"Sampler {search.sampler}. A trial is one point of the searched parameters; its value is the"
        f" {content.objective} of its tile (tile_value = {search.tile_value}). The best so far is of"
        " feasible trials; dashed is what that trial's winner does out-of-sample, which the search"
        f" never sees.{' Without a value: ' + counted(failed, 'trial') + '.' if failed else ''}",
    )


def _winner(content: Content, made: dict[str, go.Figure]) -> str:
    if content.best.empty:
        return ""
    row = content.best.iloc[0]
    branch = content.space.branches[content.space.branch_index(row["strategy"], row["classifier"])]
    searched = {one.name for one in branch.searched}
    pairs = [("strategy", row["strategy"], ""), ("classifier", row["classifier"], "")]
    pairs += [
        (name, _value("", row[name]), "searched" if name in searched else "swept")
        for name in branch.columns
        if name in searched or name in branch.swept
    ]
    fixed = ", ".join(
        f"{name} {_value('', row[name])}"
        for name in branch.columns
        if name not in searched and name not in branch.swept
    )
    out = [_tiles(pairs)]
    if fixed:
        out.append(f'<p class="small">Fixed: {_text(fixed)}.</p>')
    winner = content.winner
    if winner is None or content.market is None:
        return "".join(out)
    which = "none, so every bar is neutral" if branch.classifier == "none" else branch.classifier
    out.append("<h3>Regimes</h3>")
    out.append(
        _figure(
            made,
            "regimes",
            figures.regimes(winner, content.market),
            "Price of the market with the regime of each bar",
            f"Classifier: {which}. The regime of a bar is known from that bar and those before it"
            " alone; bars before the first fit are neutral.",
        )
    )
    out.append("<h3>Monthly returns</h3>")
    out.append(_months(monthly_returns(winner.result.equity, winner.inputs.rules.initial_cash)))
    return "".join(out)


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _months(table: pd.DataFrame) -> str:
    largest = float(np.nanmax(np.abs(table[range(1, 13)].to_numpy(np.float64)))) or 1.0
    rows = []
    for year, row in table.iterrows():
        cells = []
        for month in range(1, 14):
            value = row[month]
            if pd.isna(value):
                cells.append("<td></td>")
                continue
            share = round(min(abs(value) / largest, 1.0) * 60)
            tone = "" if month == 13 else f' style="--share:{share}%"'
            kind = "gain" if value > 0 else "loss"
            cells.append(f'<td class="{kind}"{tone}>{100 * value:z.1f}</td>')
        rows.append(f'<tr><th scope="row">{year}</th>{"".join(cells)}</tr>')
    table_html = (
        f'<table class="months">{_head(["year", *_MONTHS, "whole year"])}'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    return (
        _scroll(table_html, "Monthly returns")
        + '<p class="small">Percent, net of costs, by calendar month (UTC); the first and the last'
        " month may be part of one.</p>"
    )


def _trades(content: Content) -> str:
    trades = content.trades
    if trades is None or content.winner is None:
        return ""
    if trades.empty:
        return "<p>The winner never traded.</p>"
    closed = trades[trades["end"] != "open"]
    gains = float(closed.loc[closed["profit"] > 0, "profit"].sum())
    losses = float(-closed.loc[closed["profit"] < 0, "profit"].sum())
    out = [
        _tiles(
            [
                ("trades", f"{len(closed):,}", f"{len(trades) - len(closed)} still open"),
                (
                    "winning",
                    f"{(closed['profit'] > 0).mean():.0%}" if len(closed) else NONE,
                    "of those closed",
                ),
                ("mean return", f"{closed['return'].mean():.2%}" if len(closed) else NONE, ""),
                ("bars held", f"{closed['bars'].median():,.0f}" if len(closed) else NONE, "median"),
                ("gross profit", f"{gains:,.0f}", f"{losses:,.0f} gross loss"),
            ]
        )
    ]
    shown = trades.tail(MOST_TRADES)
    if len(shown) < len(trades):
        out.append(
            f'<p class="note">The last {len(shown):,} of {len(trades):,} trades are listed.</p>'
        )
    out.append(
        '<div class="controls"><label for="filter">Filter trades (symbol, side, date, end ...)'
        '<input type="search" id="filter" autocomplete="off"></label>'
        f'<span id="filter-count" class="small" role="status">{len(shown):,} of {len(shown):,} shown'
        "</span></div>"
    )
    names = [
        *("symbol", "side", "entry", "exit", "bars", "entry price", "exit price"),
        *("return", "profit", "costs", "end"),
    ]
    intraday = bool((pd.DatetimeIndex(trades["entry"]).normalize() != trades["entry"]).any())
    form = "%Y-%m-%d %H:%M" if intraday else "%Y-%m-%d"
    rows = []
    for one in shown.to_dict("records"):
        cells = [f'<td class="text">{_text(one["symbol"])}</td>', f'<td class="text">{one["side"]}']
        cells += [f'<td class="text">{one[name].strftime(form)}' for name in ("entry", "exit")]
        cells += [
            f'<td data-v="{value:.8g}">{text}'
            for value, text in (
                (one["bars"], f"{one['bars']:,}"),
                (one["entry_price"], f"{one['entry_price']:,.6g}"),
                (one["exit_price"], f"{one['exit_price']:,.6g}"),
                (one["return"], f"{one['return']:.2%}"),
                (one["profit"], f"{one['profit']:,.2f}"),
                (one["cost"], f"{one['cost']:,.2f}"),
            )
        ]
        cells.append(f'<td class="text">{one["end"]}')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = _head(names, ("symbol", "side", "entry", "exit", "end"), sortable=True)
    out.append(
        _scroll(
            f'<table class="sortable long" id="trades-table">{head}'
            f"<tbody>{''.join(rows)}</tbody></table>",
            "Trades",
            tall=True,
        )
    )
    out.append(
        '<p class="small">From flat to flat, for each symbol. Prices are means of the fills, slippage'
        " included. Return: profit over the position's greatest value. Profit and costs are money,"
        " profit net of commission and slippage. Open trades are marked at the last close."
        '<span class="print">Printed are the first 40 rows.</span></p>'
    )
    return "".join(out)


def _costs(content: Content, made: dict[str, go.Figure]) -> str:
    winner = content.winner
    if winner is None:
        return ""
    result, rules = winner.result, winner.inputs.rules
    by_year = costs_by_year(result.fills, result.equity)
    total = float(by_year.sum())
    before = float(result.equity.iloc[-1]) - rules.initial_cash + total
    share = f"{total / before:.1%}" if before > 0 else NONE
    years = len(result.equity) / winner.inputs.bars.bars_per_year
    out = _tiles(
        [
            ("costs paid", f"{total:,.0f}", "commission and slippage, money"),
            ("a year", f"{total / years:,.0f}", f"over {years:.1f} years"),
            (
                "share of the profit before costs",
                share,
                f"{before:,.0f} before costs" if before > 0 else "no profit before costs",
            ),
            ("fills", f"{len(result.fills):,}", ""),
        ]
    )
    return out + _figure(
        made,
        "costs",
        figures.costs(by_year),
        "Costs paid in each year",
        f"Commission {rules.commission * 1e4:g} bps and slippage {rules.slippage * 1e4:g} bps of the"
        " traded value.",
    )


def _refusals(content: Content, made: dict[str, go.Figure]) -> str:
    if content.winner is None:
        return ""
    if content.rejects is None:
        return (
            "<p>Not counted: so many bars take too long one at a time. <code>barsweep flow</code> and"
            " <code>barsweep trace DIR --rejects</code> count them.</p>"
        )
    counts = content.rejects
    refused = sum(counts.get(name, 0) for name in WISHES)
    placed = content.n_decisions - sum(counts.values())
    out = [
        _tiles(
            [
                ("decisions", f"{content.n_decisions:,}", "bars x symbols"),
                ("orders placed", f"{placed:,}", f"{placed / content.n_decisions:.1%}"),
                ("wishes refused", f"{refused:,}", f"{refused / content.n_decisions:.1%}"),
            ]
        )
    ]
    order = [*WISHES, *(name for name in REASONS if name not in WISHES)]
    out.append(
        _figure(
            made,
            "refusals",
            figures.refusals(counts, content.n_decisions, order),
            "How often each reason kept a signal from becoming an order",
            "The winner run one bar at a time: why a signal became no order.",
        )
    )
    rows = "".join(
        f'<tr><th scope="row" class="text">{_text(name.replace("_", " "))}</th>'
        f"<td>{counts[name]:,}</td><td>{counts[name] / content.n_decisions:.1%}</td>"
        f'<td class="text">{"refused" if name in WISHES else "nothing wished"}</td>'
        f'<td class="fold">{_text(WHY.get(name, ""))}</td></tr>'
        for name in order
        if counts.get(name)
    )
    head = _head(["reason", "count", "share", "kind", "what it means"],
                 ("reason", "kind", "what it means"))  # fmt: skip
    return "".join(out) + _scroll(f"<table>{head}<tbody>{rows}</tbody></table>", "Refusals")
