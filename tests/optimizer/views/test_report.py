"""What a report shows: trades, months, grids and shares of variance, and studies of every kind."""

from __future__ import annotations

import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import empyrical
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optimizer.errors import StudyError
from optimizer.review.backtest import backtest
from optimizer.review.unseal import unseal_study
from optimizer.search.run import run_study
from optimizer.selection.record import load_selection
from optimizer.store.folder import StudyFolder
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.sweep.drawdown import worst_drawdowns
from optimizer.sweep.trades import round_trips
from optimizer.views.binning import axis_of
from optimizer.views.report import write_report
from optimizer.views.report.content import Content, gather
from optimizer.views.report.lines import thinned
from optimizer.views.report.over_time import rolling_sharpe
from optimizer.views.report.selection_figures import cpcv
from optimizer.views.report.sweep import grids, outline, plateau, variance_shares
from optimizer.views.report.symbol_figures import priced_symbols, prices
from optimizer.views.report.trades import costs_by_year, monthly_returns
from tests.support.command import barsweep
from tests.support.studies import random_bars, small_study, write_bars

# --- Trades ---------------------------------------------------------------------------------------

DAYS = pd.date_range("2020-01-01", periods=10, tz="UTC")


def fills(
    *rows: tuple[int, str, float, float, str], lot_size: float = 1.0, multiplier: float = 1.0
) -> pd.DataFrame:
    """Fills by a broker who takes 1% of their value."""
    columns = ["timestamp", "symbol", "quantity", "price", "kind"]
    frame = pd.DataFrame([(DAYS[day], *rest) for day, *rest in rows], columns=columns)
    signed = frame["quantity"] * frame["price"] * multiplier
    cost = signed.abs() * 0.01
    return frame.assign(
        cost=cost, lots=frame["quantity"] / lot_size, value=signed.abs(), cash=-signed - cost
    )


def test_a_trade_goes_from_flat_to_flat() -> None:
    done = fills((0, "A", 10, 5.0, "order"), (2, "A", 10, 7.0, "order"), (5, "A", -20, 8.0, "stop"))
    one = round_trips(done, DAYS, {"A": 1.0}).iloc[0]
    assert (one["symbol"], one["side"], one["end"], one["bars"]) == ("A", "long", "stop", 5)
    assert (one["entry"], one["exit"]) == (DAYS[0], DAYS[5])
    assert (one["entry_price"], one["exit_price"]) == (6.0, 8.0)
    # 160 received, 50 + 70 paid, 1% of 280 to the broker. Worth 50 at the first fill, 140 at the next.
    assert one["cost"] == pytest.approx(2.8)
    assert one["profit"] == pytest.approx(40.0 - 2.8)
    assert one["return"] == pytest.approx((40.0 - 2.8) / 140.0)


def test_an_order_that_turns_a_position_round_ends_one_trade_and_starts_the_next() -> None:
    done = fills(
        (1, "A", 10, 5.0, "order"), (3, "A", -10, 6.0, "order"), (3, "A", -5, 6.0, "order")
    )
    first, second = round_trips(done, DAYS, {"A": 4.0}).to_dict("records")
    assert (first["side"], first["end"]) == ("long", "order")
    assert first["profit"] == pytest.approx(10.0 - 0.5 - 0.6)
    assert (second["side"], second["end"], second["exit"]) == ("short", "open", DAYS[-1])
    assert second["profit"] == pytest.approx(5 * 2.0 - 0.3)
    assert first["cost"] + second["cost"] == pytest.approx(done["cost"].sum())


def test_lots_and_a_multiplier_count_in_money() -> None:
    # 2 lots of 5 units, each worth 50 times its price.
    done = fills((1, "A", 10, 5.0, "order"), (4, "A", -5, 6.0, "order"), lot_size=5, multiplier=50)
    one = round_trips(done, DAYS, {"A": 4.0}).iloc[0]
    assert (one["end"], one["exit_price"]) == ("open", 4.0)
    # 2,500 paid, 1,500 received and 1,000 left, 1% of 2,500 + 1,500 to the broker.
    assert one["profit"] == pytest.approx(-40.0)
    assert one["return"] == pytest.approx(-40.0 / 2500.0)


@pytest.fixture(scope="module")
def result() -> BacktestResult:
    parameters: dict[str, str | float] = {
        **{"strategy": "momentum", "momentum_lookback": 10, "momentum_threshold": 0.01},
        **{"kelly_fraction": 0.1, "stop_loss": 0.05, "correlation_lookback": 20},
    }
    return backtest(random_bars(500), parameters, allow_short=True)


def test_trades_add_up_to_what_was_gained(result: BacktestResult) -> None:
    bars = random_bars(500)
    closes = dict(zip(bars.symbols, bars.close[-1].tolist(), strict=True))
    times = pd.DatetimeIndex(result.equity.index)
    trades = round_trips(result.fills, times, closes)
    assert {"long", "short"} == set(trades["side"])
    assert {"order", "stop"} <= set(trades["end"])
    gained = float(result.equity.iloc[-1]) - 100_000.0 - result.in_sample["carry"]
    assert trades["profit"].sum() == pytest.approx(gained, rel=1e-9)
    assert trades["cost"].sum() == pytest.approx(result.in_sample["costs_paid"], rel=1e-9)
    closed = trades[trades["end"] != "open"]
    assert len(closed) == result.in_sample["n_trades"]
    assert (closed["profit"] > 0).mean() == pytest.approx(result.in_sample["win_rate"])


def test_months_and_years_are_those_of_empyrical(result: BacktestResult) -> None:
    equity = result.equity
    returns = equity.pct_change()
    returns.iloc[0] = equity.iloc[0] / 100_000.0 - 1.0
    table = monthly_returns(equity, 100_000.0)
    for (year, month), value in empyrical.aggregate_returns(returns, "monthly").items():
        assert table.loc[year, month] == pytest.approx(value, abs=1e-12)
    for year, value in empyrical.aggregate_returns(returns, "yearly").items():
        assert table.loc[year, 13] == pytest.approx(value, abs=1e-12)
    assert table[list(range(1, 13))].count().sum() == len(equity.resample("ME").last())
    assert costs_by_year(result.fills, equity).sum() == pytest.approx(
        result.in_sample["costs_paid"]
    )


# --- All sets together ----------------------------------------------------------------------------


@pytest.mark.parametrize("maximize", [True, False])
def test_grids_are_those_of_a_group_by(maximize: bool) -> None:
    rng = np.random.default_rng(5)
    n = 3000
    frame = pd.DataFrame(
        {
            "a": rng.choice([1.0, 2.0, 5.0], n),
            "b": rng.choice(["x", "y"], n),
            "c": np.where(rng.random(n) < 0.3, np.nan, rng.uniform(0.0, 1.0, n)),
            "value": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
        }
    )
    axes = [axis_of(frame[name]) for name in ("a", "b", "c")]
    assert len(axes[2].labels) == 16
    assert ((axes[2].codes < 0) == frame["c"].isna()).all()
    found = list(grids(axes, frame["value"].to_numpy(), maximize))
    assert [(one.x.name, one.y.name) for one in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    for one in found:
        coded = pd.DataFrame({"x": one.x.codes, "y": one.y.codes, "value": frame["value"]})
        groups = coded[(coded["x"] >= 0) & (coded["y"] >= 0)].dropna().groupby(["y", "x"])["value"]
        for place, values in groups:
            y, x = np.asarray(place, np.int64).tolist()
            assert one.counts[y, x] == len(values)
            assert one.median[y, x] == pytest.approx(values.median())
            ends = [values.max(), values.min()]
            assert [one.best[y, x], one.worst[y, x]] == (ends if maximize else ends[::-1])
        assert one.counts.sum() == sum(len(values) for _, values in groups)


def test_shares_of_variance_of_a_sum_are_known() -> None:
    # Over a full grid of independent a, b, c in {-1, 1}, y = 3a + b has variance 9 + 1.
    a, b, c = (part.ravel() for part in np.meshgrid([-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0]))
    axes = [axis_of(pd.Series(one, name=name)) for name, one in (("c", c), ("b", b), ("a", a))]
    shares = variance_shares(axes, 3 * a + b)
    assert list(shares) == ["a", "b", "c"]
    assert list(shares.values()) == pytest.approx([0.9, 0.1, 0.0])
    assert set(variance_shares(axes, np.ones(8)).values()) == {0.0}


def test_a_peak_apart_is_not_on_the_plateau() -> None:
    cells = np.array([[1.0, 0.95, 0.2, 0.99], [0.2, 0.93, 0.2, 0.97], [0.96, 0.1, 0.95, np.nan]])
    found = plateau(cells, True)
    assert found.tolist() == [[True, True, False, False], [False, True, False, False], [False] * 4]


@pytest.mark.parametrize(
    ("values", "numeric", "log"),
    [
        ([10.0, 20.0, 30.0], True, False),
        ([0.01, 0.02, 0.1, 0.5], True, True),
        ([0.0, 0.001, 1.0], False, False),  # 0 has no logarithm, and 0.001 would be a line
        (["a", "b"], False, False),
    ],
)
def test_cells_lie_at_their_values(values: list[Any], numeric: bool, log: bool) -> None:
    axis = axis_of(pd.Series(values, name="x"))
    assert (axis.numeric, axis.log) == (numeric, log)
    assert axis.centres.tolist() == (values if numeric else list(range(len(values))))
    assert len(axis.edges) == len(values) + 1
    assert (axis.edges[:-1] < axis.centres).all() and (axis.centres < axis.edges[1:]).all()


def test_the_worst_drawdowns_are_those_of_empyrical(result: BacktestResult) -> None:
    found = worst_drawdowns(result.equity, 100_000.0, 5)
    assert found["depth"].is_monotonic_decreasing and len(found) == 5
    assert found["depth"].iloc[0] == pytest.approx(-empyrical.max_drawdown(result.returns))
    for fall in found.to_dict("records"):
        stop = result.equity.index[-1] if pd.isna(fall["recovered"]) else fall["recovered"]
        inside = result.equity[fall["peak"] : stop]
        assert inside.idxmin() == fall["trough"] and len(inside) == fall["bars"] + 1
        assert inside.iloc[1:-1].max() < inside.iloc[0]


def test_the_plateau_of_a_loss_is_on_its_other_side() -> None:
    cells = np.array([[-1.0, -1.05, -1.2], [np.nan, 0.95, 1.0]])
    assert plateau(cells, True).tolist() == [[False] * 3, [False, True, True]]
    assert plateau(cells, False).tolist() == [[False, False, True], [False] * 3]
    assert not plateau(np.full((2, 2), np.nan), True).any()


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_an_outline_runs_between_inside_and_outside(inside: Any) -> None:
    def at(i: int, j: int) -> bool:
        return bool(0 <= i < inside.shape[0] and 0 <= j < inside.shape[1] and inside[i, j])

    expected = set()
    for i in range(-1, inside.shape[0] + 1):
        for j in range(-1, inside.shape[1] + 1):
            if at(i, j) != at(i, j + 1):
                expected.add((j + 0.5, i - 0.5, j + 0.5, i + 0.5))
            if at(i, j) != at(i + 1, j):
                expected.add((j - 0.5, i + 0.5, j + 0.5, i + 0.5))
    edges = np.arange(8.0) - 0.5
    x, y = outline(inside, edges[: inside.shape[1] + 1], edges[: inside.shape[0] + 1])
    lines = []
    for k in range(0, len(x), 3):
        (x0, x1, no_x), (y0, y1, no_y) = x[k : k + 3], y[k : k + 3]
        assert no_x is no_y is None
        assert x0 is not None and x1 is not None and y0 is not None and y1 is not None
        n = int(x1 - x0 + y1 - y0)
        step_x, step_y = (x1 - x0) / n, (y1 - y0) / n
        for one in range(n):
            at_x, at_y = x0 + one * step_x, y0 + one * step_y
            lines.append((at_x, at_y, at_x + step_x, at_y + step_y))
    assert len(lines) == len(set(lines))
    assert set(lines) == expected


def test_a_thinned_line_keeps_its_extremes() -> None:
    values = np.random.default_rng(1).normal(size=50_000)
    places = thinned(values, 400)
    assert len(places) <= 400 and (np.diff(places) > 0).all()
    assert {0, len(values) - 1, int(values.argmin()), int(values.argmax())} <= set(places.tolist())
    assert thinned(values[:300], 400).tolist() == list(range(300))


# --- Studies of every kind ------------------------------------------------------------------------


def ran(path: Path, **tables: Any) -> Path:
    """The folder of a small study that has run in ``path``, unsealed."""
    write_bars(path / "bars.parquet", random_bars())
    run_study(small_study(path / "bars.parquet", **tables), out=path / "out", workers=1)
    if tables.get("validation", {}).get("holdout") != 0.0:
        unseal_study(path / "out")
    return path / "out"


def words(page: str) -> str:
    """What a page says, without its scripts and tags."""
    body = re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def spec(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="spec">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def content(plain: Path) -> Content:
    return gather(plain)


def test_the_winner_is_run_as_it_was_and_its_refusals_are_counted(content: Content) -> None:
    assert content.winner is not None and content.rejects is not None
    row = content.best.iloc[0]
    assert content.winner.number == row["set"]
    assert content.winner.result.in_sample["final_equity"] == row["final_equity"]
    assert content.winner.result.out_of_sample is not None
    assert content.winner.result.out_of_sample["final_equity"] == row["oos_final_equity"]
    n_bars = len(content.winner.result.equity)
    assert content.n_decisions == 3 * n_bars
    placed = content.n_decisions - sum(content.rejects.values())
    # An order of the last bar is never filled; one that cash cannot pay neither.
    assert 0 < len(content.winner.result.fills) <= placed


def test_the_median_set_is_in_the_middle_of_the_feasible_ones(content: Content) -> None:
    assert content.median is not None
    feasible = content.sets[content.sets["feasible"]]
    own = feasible.loc[feasible["set"] == content.median.number, "score"].iloc[0]
    below, above = (feasible["score"] < own).sum(), (feasible["score"] > own).sum()
    assert below <= len(feasible) / 2 and above <= len(feasible) / 2


def test_a_page_holds_every_section(plain: Path) -> None:
    path = write_report(plain)
    assert path == plain / "report.html"
    page = path.read_text()
    said = words(page)
    for part in ("Deflated Sharpe ratio", "Best sets", "Worst drawdowns", "Months, percent",
                 "costs paid", "wishes refused", "Probability of backtest overfitting",
                 "maximize sharpe", "initial cash 100,000", "Parameters tried"):  # fmt: skip
        assert part in said, part
    drawn = spec(page)
    figures = {
        *("equity", "scatter", "overfitting", "walk_forward", "importance", "parallel"),
        *("history", "costs", "refusals", "years", "over_time", "by_symbol"),
    }
    assert set(drawn["figures"]) == figures
    assert "Regimes" not in said  # the study has no classifier
    assert len(drawn["heatmaps"]) == 10  # pairs of 5 parameters
    for place in re.findall(r'data-figure="(\w+)"', page):
        assert place in ("heatmap", "prices") or place in figures
    assert path.stat().st_size < 6_000_000


def test_the_best_sets_have_a_column_for_each_parameter(
    plain: Path, content: Content, tmp_path: Path
) -> None:
    page = write_report(plain, tmp_path / "page.html").read_text()
    table = re.search(r'<table class="lead">(.*?)</table>', page, re.DOTALL)
    assert table is not None
    head, *rows = [
        [html.unescape(cell) for cell in re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", row)]
        for row in table[1].split("</tr>")
        if "<t" in row
    ]
    assert {"lookback", "threshold", "kelly fraction", "max exposure"} <= set(head)
    for row, best in zip(rows[:-1], content.best.to_dict("records"), strict=True):
        shown = dict(zip(head, row, strict=True))
        assert shown["set"] == f"{best['set']:,}"
        assert float(shown["lookback"]) == best["momentum_lookback"]
        assert float(shown["threshold"]) == pytest.approx(best["momentum_threshold"], rel=1e-2)


def test_prices_are_marked_where_the_set_traded(content: Content) -> None:
    assert content.winner is not None and content.trades is not None
    names = priced_symbols(content.trades)
    fills = content.winner.result.fills
    for symbol, made in zip(names, prices(content.winner, content.trades, names), strict=True):
        own = content.trades[content.trades["symbol"] == symbol]
        marks = {one.name: one.y for one in made.data[1:]}
        assert len(marks["buy"]) == (own["side"] == "long").sum()
        assert len(marks.get("sell", ())) == (own["end"] != "open").sum()
        filled = set(fills.loc[fills["symbol"] == symbol, "price"])
        assert {price for prices in marks.values() for price in prices} <= filled


def test_the_last_rolling_sharpe_ratio_is_that_of_empyrical(content: Content) -> None:
    assert content.winner is not None
    ratios = rolling_sharpe(content.winner, content.winner.result.equity)
    last = content.winner.result.returns.iloc[-int(str(ratios.name)) :]
    yearly = content.winner.inputs.bars.bars_per_year
    wanted = last.mean() / last.std(ddof=1) * np.sqrt(yearly)
    assert ratios.iloc[-1] == pytest.approx(wanted, rel=1e-9)


def test_a_report_of_another_set(plain: Path, tmp_path: Path) -> None:
    best = int(gather(plain, simulate=False).best.iloc[0]["set"])
    number = 0 if best else 1
    done = barsweep("report", plain, "--set", number, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (plain / f"report-{number}.html").read_text()
    assert f"Set {number}" in words(page) and f"the best is {best}" in words(page)
    names = {one.get("name") for one in spec(page)["figures"]["equity"]["data"]}
    assert f"set {number}" in names and not any("winner" in str(name) for name in names)
    row = StudyFolder.open(plain).sets([number]).iloc[0]
    content = gather(plain, number=number)
    assert content.winner is not None
    assert content.winner.result.in_sample["final_equity"] == row["final_equity"]
    wrong = barsweep("report", plain, "--set", 10**6, folder=tmp_path)
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "1000000" in wrong.stderr


def test_no_feasible_set(tmp_path: Path) -> None:
    folder = ran(tmp_path, search={"constraints": ["n_trades >= 100000"]})
    page = write_report(folder, tmp_path / "page.html").read_text()
    assert "No parameter set is feasible" in words(page)
    assert "n_trades >= 100000" in words(page)
    assert {"scatter", "importance", "history"} <= set(spec(page)["figures"])
    assert "equity" not in spec(page)["figures"]


def test_trials_that_all_failed(tmp_path: Path) -> None:
    folder = ran(
        tmp_path, search={"constraints": ["momentum_lookback > 30", "momentum_lookback < 10"]}
    )
    said = words(write_report(folder).read_text())
    assert "10 trials failed: no parameter set keeps the parameter constraints" in said


def test_one_set_and_no_holdout(tmp_path: Path) -> None:
    folder = ran(
        tmp_path,
        strategy={"lookback": 10, "threshold": 0.01},
        risk={"kelly_fraction": 0.1, "max_exposure": 0.8, "volatility_lookback": 10},
        search={"sampler": "grid"},
        validation={"holdout": 0.0},
    )
    page = write_report(folder).read_text()
    assert "No holdout" in words(page)
    assert "No parameter varies" in words(page)
    assert "scatter" not in spec(page)["figures"]
    assert "equity" in spec(page)["figures"]


def test_several_objectives(tmp_path: Path) -> None:
    folder = ran(
        tmp_path,
        search={"objective": ["max_drawdown", "cagr"], "sampler": "nsga2"},
        account={"currency": "EUR"},
    )
    page = write_report(folder).read_text()
    assert "Several objectives: figures show the first, max_drawdown" in words(page)
    assert "100,000 EUR" in words(page)
    assert spec(page)["figures"]["equity"]["layout"]["yaxis"]["title"]["text"] == "equity, EUR"
    # Less of a drawdown is better.
    history = {trace["name"]: trace for trace in spec(page)["figures"]["history"]["data"]}
    best = history["best so far"]["y"]
    assert best == sorted(best, reverse=True)


def test_paths_of_cpcv_are_drawn(tmp_path: Path) -> None:
    folder = ran(tmp_path, validation={"method": "cpcv", "blocks": 6, "embargo_blocks": 0})
    page = write_report(folder).read_text()
    selection = load_selection(StudyFolder.open(folder))
    assert selection is not None
    assert "cpcv" in spec(page)["figures"]
    made = cpcv(gather(folder))
    assert made is not None
    drawn = [pair for one in made.data for pair in zip(one.x, one.y, strict=True)]
    assert sum(count for _, count in drawn) == len(selection.path_sharpes) == 5
    losing = sum(count for centre, count in drawn if centre < 0)
    assert losing == sum(ratio < 0 for ratio in selection.path_sharpes)
    assert "Each of 5 paths" in words(page)


def test_the_report_says_what_followed_each_regime(tmp_path: Path) -> None:
    fit = {"name": "hmm", "lookback": 5, "train_bars": 60, "refit_bars": 60}
    folder = ran(tmp_path, classifier=fit)
    said = words(write_report(folder).read_text())
    selection = load_selection(StudyFolder.open(folder))
    assert selection is not None
    value = selection.regime_value
    assert value is not None
    assert "What the market earned after each regime, in-sample" in said
    assert "What the market earned after each regime, over the holdout" in said
    for one in value.regimes:
        assert re.search(rf"{one.regime}\s*{one.n_returns:,}\s*{one.mean:.1%}", said)
    assert "the market earned a year" in said


def test_a_walk_forward_is_drawn(tmp_path: Path) -> None:
    folder = ran(tmp_path, validation={"method": "walk_forward", "blocks": 4})
    drawn = {
        one["name"] for one in spec(write_report(folder).read_text())["figures"]["equity"]["data"]
    }
    assert "walk-forward, joined" in drawn


@pytest.mark.parametrize("objective", ["sharpe", "total_return"])
def test_sets_that_never_trade(tmp_path: Path, objective: str) -> None:
    folder = ran(tmp_path, risk={"kelly_fraction": 0.0}, search={"objective": objective})
    said = words(write_report(folder).read_text())
    # Without returns there is no Sharpe ratio, and so no winner; a total return of 0 is one.
    assert ("No feasible parameter set has a finite sharpe" in said) == (objective == "sharpe")
    assert ("The winner never traded" in said) == (objective == "total_return")


def test_a_study_that_broke_off(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "out")
    folder = StudyFolder(tmp_path / "out")
    folder.write_manifest({**folder.manifest(), "complete": False})
    (tmp_path / "out" / "selection.json").unlink()
    said = words(write_report(folder.path).read_text())
    assert "not complete: 10 trials so far" in said
    assert "no verdict yet" in said


def test_bars_that_are_gone_or_others(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "out")
    folder = StudyFolder(tmp_path / "out")
    folder.write_manifest({**folder.manifest(), "study_folder": str(tmp_path)})
    page = write_report(folder.path).read_text()
    assert "Equity, trades, regimes and refusals are left out:" in words(page)
    assert "Deflated Sharpe ratio" in words(page)
    write_bars(tmp_path / "bars.parquet", random_bars(seed=9))
    assert "holds other bars than the study had" in words(write_report(folder.path).read_text())


def test_nothing_to_show_is_one_error(tmp_path: Path, plain: Path) -> None:
    with pytest.raises(StudyError, match="no study here"):
        write_report(tmp_path)
    shutil.copytree(plain, tmp_path / "out", ignore=shutil.ignore_patterns("report.html"))
    for path in (tmp_path / "out" / "results").glob("*"):
        path.unlink()
    done = barsweep("report", tmp_path / "out", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "no results yet" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_report_that_cannot_be_written(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"page\.html: there is no folder .*file; make it"):
        write_report(plain, tmp_path / "file" / "page.html")


class Tags(HTMLParser):
    """The elements of a page that may load or run something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "img", "iframe", "object", "link", "b"):
            self.found.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]


def test_names_of_symbols_are_text(tmp_path: Path) -> None:
    symbols = ("<img src=x onerror=alert(1)>", "</script><b>B", 'C"&amp;')
    write_bars(tmp_path / "bars.parquet", random_bars(symbols=symbols))
    run_study(small_study(tmp_path / "bars.parquet"), out=tmp_path / "out", workers=1)
    page = write_report(tmp_path / "out").read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.found == ["script"] * 3  # figures as data, plotly, the page's own
    assert all(symbol in words(page) for symbol in symbols)
