"""An exported set under worse conditions, each compared with another way to the same figure."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import layout
from optimizer.catalogue import METRICS
from optimizer.errors import StudyError, UntrustedCodeError
from optimizer.review.backtest import backtest
from optimizer.review.exported import open_export
from optimizer.review.stress import changes, parts
from optimizer.review.stress.limits import MOST_COSTS, break_even, largest_account, multiple_text
from optimizer.review.stress.rows import Row, Stress, quantile
from optimizer.review.stress.run import stress
from optimizer.review.stress.simulation import Figures, InSample
from optimizer.search.run import run_study
from optimizer.store.export import export_sets, load_export
from optimizer.strategies import approvals, user
from optimizer.strategies.built_in import BUILT_IN
from optimizer.study_file.study import study_from_dict
from optimizer.sweep.evaluate import evaluate
from optimizer.types import Bars
from optimizer.views.stress import stress_page
from tests.support.command import barsweep
from tests.support.strategies import MOMENTUM
from tests.support.studies import changed, mapping, random_bars, small_study, write_bars
from tests.support.universe import only, random_presence, with_present

SHOWN = ("sharpe", "cagr", "max_drawdown", "n_trades")
MULTIPLIED = ("commission_bps", "maker_bps", "spread_bps", "slippage_bps", "impact")
COSTS = {"spread_bps": 4.0, "commission_bps": 2.0, "slippage_bps": 1.0, "impact": 0.3}
FIT = {"name": "hmm", "lookback": 10, "train_bars": 60, "refit_bars": 30}
SHORTS = {"allow_short": True, "kelly_fraction": {"sweep": [0.1, 0.2]}, "max_exposure": 1.0}


def made(home: Path, bars: Bars, /, **tables: Any) -> Path:
    """The export of a small study."""
    data = write_bars(home / "bars.parquet", bars)
    result = run_study(small_study(data, **tables), out=home / "out", workers=1)
    return export_sets(result.folder.path)


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a study with shorts, regimes and all kinds of costs."""
    home = tmp_path_factory.mktemp("stress")
    account = {"cash_rate": 0.02}
    strategy = {"lookback": {"low": 5, "high": 12}}
    return made(
        home, random_bars(800), risk=SHORTS, costs=COSTS, classifier=FIT, account=account,
        strategy=strategy,
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(best: Path) -> Stress:
    return stress(best, repeats=12)


@pytest.fixture(scope="module")
def inside(best: Path) -> InSample:
    return InSample.of(open_export(best, 1, None, False))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> InSample:
    """A set of one symbol whose orders do not depend on its equity but for the number of lots."""
    home = tmp_path_factory.mktemp("plain")
    risk = {"sizing": "weight", "weight": 0.5, "rebalance_band": 1.0, "kelly_fraction": 0.2,
            "lot_size": 1e-6, "max_exposure": 1.0, "volatility_lookback": 10}  # fmt: skip
    strategy = {"name": "momentum", "lookback": 10, "threshold": {"sweep": [0.01, 0.02]}}
    path = made(home, random_bars(400, ["A"]), risk=risk, strategy=strategy)
    return InSample.of(open_export(path, 1, None, False))


def rows(found: Stress, group: str) -> list[Row]:
    return [row for row in found.rows if row.group == group]


def backtested(best: Path, bars: Bars, costs: dict[str, Any] | None = None, **more: Any) -> Any:
    """The best set by the public function, on bars without its holdout."""
    content = load_export(best)
    document = content["sets"][0]
    parameters = {**document["parameters"], **{n: document[n] for n in ("strategy", "classifier")}}
    first = content["first_bar"]
    given_ = {"first_bar": first, "warm_up": first, "allow_short": content["allow_short"],
              "account": content["account"], "costs": costs or content["costs"]} | more  # fmt: skip
    if costs:
        parameters = {name: v for name, v in parameters.items() if name not in costs}
    return backtest(bars, parameters, **given_).in_sample


def as_figures(metrics: dict[str, float]) -> dict[str, Any]:
    return {name: metrics[name] for name in SHOWN}


def shown(row: Row) -> dict[str, Any]:
    return {name: getattr(row.figures, name) for name in SHOWN}


# --- What the study had --------------------------------------------------------------------------


def test_the_first_row_is_the_recorded_set(best: Path, found: Stress) -> None:
    recorded = load_export(best)["sets"][0]["in_sample"]
    assert shown(found.rows[0]) == as_figures(recorded)
    assert recorded["n_trades"] > 10


def test_alpha_is_that_of_the_results(best: Path, found: Stress) -> None:
    """The study's own comes from sums per block, and its benchmark's impact from another lookback."""
    table = pd.concat(pd.read_parquet(path) for path in (best.parent / "results").glob("*.parquet"))
    number = load_export(best)["sets"][0]["set"]
    alpha = float(table.loc[table["set"] == number, "alpha"].iloc[0])
    assert found.rows[0].figures.alpha == pytest.approx(alpha, rel=1e-4)


def test_bars_with_holes_have_the_recorded_figures(tmp_path: Path) -> None:
    bars = with_present(random_bars(400, list("ABCD")), random_presence(400, 4, 2))
    frame = []
    for s, symbol in enumerate(bars.symbols):
        own = bars.own(s)
        values = {n: getattr(bars, n)[own, s] for n in ("open", "high", "low", "close", "volume")}
        frame.append(pd.DataFrame({"symbol": symbol, "timestamp": bars.timestamps[own], **values}))
    pd.concat(frame).to_parquet(tmp_path / "bars.parquet", index=False)
    study = small_study(tmp_path / "bars.parquet", data={"align": "outer"}, risk=SHORTS)
    path = export_sets(run_study(study, out=tmp_path / "out", workers=1).folder.path)
    found = stress(path, repeats=2)
    assert shown(found.rows[0]) == as_figures(load_export(path)["sets"][0]["in_sample"])
    assert all(row.figures.n_trades is not None for row in rows(found, "delay"))


KINDS: dict[str, dict[str, Any]] = {
    "fills at the close": {"costs": {"fill": "close"}},
    "entries that wait, stops": {
        "risk": {"entry": "limit", "entry_offset": 0.005, "entry_bars": 3, "stop_loss": 0.03},
        "costs": {"max_volume_share": 0.05, "maker_bps": -0.5},
    },
    "few places, leverage, interest": {
        "risk": {"sizing": "equal_weight", "kelly_fraction": 0.2, "max_positions": 2,
                 "max_exposure": 2.0},
        "account": {"leverage": 2.0, "cash_rate": 0.03},
    },
    "a benchmark, all targets scaled": {
        "risk": {"allocation": "targets", "allow_short": True},
        "validation": {"benchmark": "BBB"},
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_study_is_the_recorded_one_first(kind: str, tmp_path: Path) -> None:
    """Every row has figures or says why there are none."""
    path = made(tmp_path, random_bars(400), **KINDS[kind])
    found = stress(path, repeats=2)
    assert shown(found.rows[0]) == as_figures(load_export(path)["sets"][0]["in_sample"])
    assert found.rows[0].figures.n_trades
    for row in found.rows:
        assert row.note or row.figures.n_trades is not None, row
    skipped = rows(found, "entries")[0].figures.n_trades
    assert skipped is not None and skipped <= found.rows[0].figures.n_trades
    if kind == "a benchmark, all targets scaled":
        table = pd.read_parquet(next((path.parent / "results").glob("*.parquet")))
        number = load_export(path)["sets"][0]["set"]
        alphas = table.loc[table["set"] == number, "alpha"]
        if len(alphas):
            assert found.rows[0].figures.alpha == pytest.approx(float(alphas.iloc[0]), rel=1e-3)


def test_daily_returns_of_bars_within_the_day(tmp_path: Path) -> None:
    """The figures are those of the study; so is every day that a part keeps."""
    bars = random_bars(1500, ["A", "B"])
    times = np.datetime64("2020-12-01", "ns") + np.arange(1500) * np.timedelta64(1, "h")
    study = {"search": {"returns": "day"}, "risk": SHORTS}
    path = made(tmp_path, replace(bars, timestamps=times, bars_per_year=8760.0), **study)
    found = stress(path, repeats=2)
    assert shown(found.rows[0]) == as_figures(load_export(path)["sets"][0]["in_sample"])
    one = InSample.of(open_export(path, 1, None, False))
    equity = one.run().equity
    daily = equity.groupby(pd.DatetimeIndex(equity.index).date).last().to_numpy(np.float64)
    changes = np.diff(np.concatenate(([one.rules.initial_cash], daily)))
    returns = changes / np.concatenate(([one.rules.initial_cash], daily[:-1]))
    first = len(
        [day for day in sorted(set(pd.DatetimeIndex(equity.index).date)) if day.year == 2020]
    )
    kept = returns[first:]
    sharpe = kept.mean() / kept.std(ddof=1) * math.sqrt(one.rules.returns_per_year)
    assert rows(found, "years")[0].name == "without 2020"
    assert rows(found, "years")[0].figures.sharpe == pytest.approx(sharpe)


def test_the_holdout_is_never_looked_at(tmp_path: Path) -> None:
    """Other bars there change no figure."""
    bars = random_bars()
    alone = made(tmp_path / "a", bars, costs=COSTS)
    first = load_export(alone)["first_bar"]
    split = bars.n_bars - int((bars.n_bars - first) * 0.25)
    other = made(tmp_path / "b", changed(bars, split, 3.0), costs=COSTS)
    one, two = stress(alone, repeats=3).to_dict(), stress(other, repeats=3).to_dict()
    assert one == two
    outside = [load_export(path)["sets"][0]["out_of_sample"] for path in (alone, other)]
    assert outside[0] != outside[1]


# --- Costs ---------------------------------------------------------------------------------------


def test_twice_the_costs_are_those_costs_in_the_study(
    best: Path, found: Stress, inside: InSample
) -> None:
    costs = load_export(best)["costs"]
    twice = {name: 2.0 * v if name in MULTIPLIED else v for name, v in costs.items()}
    metrics = backtested(best, inside.inputs.bars, twice)
    assert shown(rows(found, "costs")[0]) == as_figures(metrics)
    assert metrics["costs_paid"] > 0.0


def test_costs_per_symbol_are_multiplied_too(tmp_path: Path) -> None:
    own = {
        "commission_bps": {"AAA": 1.0, "default": 3.0},
        "maker_bps": -1.0,
        "max_volume_share": 0.1,
    }
    path = made(tmp_path, random_bars(), costs=own)
    exported = open_export(path, 1, None, False)
    one = InSample.of(exported)
    inputs, tile = changes.times_costs(one, 5.0)
    costs = exported.terms.costs
    fivefold = {**costs, "commission_bps": {"AAA": 5.0, "default": 15.0},
                "slippage_bps": 5.0 * costs["slippage_bps"]}  # fmt: skip
    expected = backtested(path, one.inputs.bars, fivefold)
    assert one.run(inputs, tile=tile).figures.sharpe == expected["sharpe"]
    assert float(tile.columns["maker_bps"][0]) == -1.0


def test_break_even_is_where_the_mean_excess_return_changes_its_sign(
    inside: InSample, found: Stress
) -> None:
    multiple = found.costs.multiple
    assert multiple is not None

    def mean(times: float) -> float:
        inputs, tile = changes.times_costs(inside, times)
        return float(inside.run(inputs, tile=tile).excess.mean())

    assert mean(multiple) <= 0.0 < mean(multiple * 0.999)
    assert f"{multiple_text(multiple)} times" in rows(found, "costs")[1].note


@given(st.floats(1e-3, MOST_COSTS / 2.0))
def test_break_even_finds_the_root(root: float) -> None:
    limit = break_even(lambda multiple: multiple < root)
    assert limit.multiple == pytest.approx(root, rel=2e-4, abs=2e-4)


def test_what_never_breaks_even_is_said() -> None:
    assert break_even(lambda multiple: False).note.startswith(
        "never: the mean excess return is not"
    )
    assert break_even(lambda multiple: True).note.startswith("never: it is above 0 even at 512")


def test_a_set_without_costs(tmp_path: Path) -> None:
    free = {"commission_bps": 0.0, "slippage_bps": 0.0}
    found = stress(made(tmp_path, random_bars(), costs=free), repeats=2)
    assert [row.note for row in rows(found, "costs")] == [
        "trading costs nothing",
        "never: trading costs nothing",
    ]
    assert found.costs.multiple is None


# --- Delay ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_delayed_signal_is_that_of_the_bar_before(name: str, tmp_path: Path) -> None:
    """Each built-in rule, called on what the simulation reads at every bar."""
    path = made(tmp_path, random_bars(), strategy=[{"name": name}], search={"trials": 1})
    one = InSample.of(open_export(path, 1, None, False))
    late, _ = changes.delayed(one)
    rule, own = one.strategy.rule(), one.strategy.own(one.tile.columns)
    values = [float(array[0]) for array in one.strategy.signal_values(own)]
    places = [
        one.inputs.features.index(one.strategy.feature_key(use, {n: v[0] for n, v in own.items()}))
        for use in one.strategy.features
    ]

    def signal(inputs: Any, t: int, s: int) -> tuple[float, float, float]:
        return rule(
            [float(inputs.features.values[t, s, place]) for place in places], values,
            float(inputs.bars.close[t, s]), float(inputs.volatilities[t, s, 0]),
            float(inputs.inverse_volatilities[t, s, 0]), 0.03,
        )  # fmt: skip

    for t in range(one.inputs.first + 1, one.inputs.bars.n_bars):
        for s in range(one.inputs.bars.n_symbols):
            assert signal(late, t, s) == pytest.approx(signal(one.inputs, t - 1, s), rel=1e-9)


def test_every_delayed_fill_is_one_bar_later(plain: InSample) -> None:
    inputs, fitted = changes.delayed(plain)
    base, late = plain.run(fills=True), plain.run(inputs, fitted=fitted, fills=True)
    fills = [one.fills for one in (base, late) if one.fills is not None]
    times = base.equity.index
    at, later = (times.get_indexer(pd.DatetimeIndex(one["timestamp"])) for one in fills)
    assert len(at) > 10
    # Whatever the base does at the last bar would come after the end.
    expected = [t + 1 for t in at.tolist() if t + 1 < len(times)]
    assert later.tolist() == expected
    sides = [np.sign(one["lots"].to_numpy(np.float64)).tolist() for one in fills]
    assert sides[1] == sides[0][: len(expected)]


# --- Skipped entries, noise, later starts --------------------------------------------------------


def test_a_skipped_entry_takes_away_that_trade_alone(plain: InSample) -> None:
    trades = plain.run(fills=True).trades(plain.inputs)
    for skipped in ([0], [2, 5], [len(trades) - 1]):
        inputs = changes.without_entries(plain.inputs, trades, np.array(skipped))
        left = plain.run(inputs, fills=True).trades(plain.inputs)
        kept = trades.drop(index=skipped)
        pd.testing.assert_frame_equal(
            left[["entry", "exit", "side", "end"]],
            kept[["entry", "exit", "side", "end"]].reset_index(drop=True),
        )


@given(st.integers(0, 2**32), st.floats(0.0, 0.5))
def test_noise_keeps_bars_consistent(seed: int, share: float) -> None:
    present = random_presence(120, 3, seed % 7)
    bars = with_present(random_bars(120), present)
    found = changes.noisy(bars, 90, share, np.random.default_rng(seed))
    top, bottom = np.maximum(found.open, found.close), np.minimum(found.open, found.close)
    assert (found.high >= top).all() and (found.low <= bottom).all() and (found.low > 0.0).all()
    assert (found.volume == bars.volume).all()
    for s in range(3):
        price = found.open[int(np.argmax(present[:, s])), s]
        for t in range(120):
            if present[t, s]:
                price = found.close[t, s]
            else:
                four = (found.open[t, s], found.high[t, s], found.low[t, s], found.close[t, s])
                assert four == (price,) * 4


def test_noise_is_a_share_of_each_symbols_volatility() -> None:
    bars = random_bars(4000, ["A", "B"])
    still: dict[str, Any] = {
        name: np.column_stack([values[:, 0], 100.0 * (values[:, 1] / 100.0) ** 0.1])
        for name in ("open", "high", "low", "close")
        for values in [getattr(bars, name)]
    }
    calm = replace(bars, **still)
    found = changes.noisy(calm, 3000, 0.2, np.random.default_rng(1))
    for s in range(2):
        volatility = np.diff(np.log(calm.close[:3000, s])).std()
        noise = np.log(found.close[:, s] / calm.close[:, s])
        assert noise.std() == pytest.approx(0.2 * volatility, rel=0.05)
        assert abs(noise.mean()) < 0.02 * volatility


def test_no_noise_is_the_set_itself(inside: InSample) -> None:
    bars = changes.noisy(inside.bars, inside.split, 0.0, np.random.default_rng(1))
    again = inside.run(inside.prepared(bars), fitted=inside.fitted(bars)).figures
    assert again == inside.run().figures


def test_a_later_start_is_that_of_a_backtest(best: Path, inside: InSample, found: Stress) -> None:
    first, n_bars = inside.inputs.first, inside.inputs.bars.n_bars
    for row, share in zip(rows(found, "start"), (0.01, 0.02, 0.05, 0.1, 0.2, 0.3), strict=True):
        later = max(1, round(share * (n_bars - first)))
        metrics = backtested(best, inside.inputs.bars, first_bar=first + later)
        assert shown(row) == as_figures(metrics)
        assert str(inside.bars.timestamps[first + later])[:10] in row.name


def test_what_is_random_is_the_same_with_the_same_seed_alone(best: Path, found: Stress) -> None:
    again, other = stress(best, repeats=12), stress(best, repeats=12, seed=1)
    assert again.to_dict() == found.to_dict()
    for group in ("entries", "prices"):
        assert rows(other, group) != rows(found, group)
    random = {"entries", "prices"}
    assert [row for row in other.rows if row.group not in random] == [
        row for row in found.rows if row.group not in random
    ]


def test_a_quantile_counts_from_the_worst_up() -> None:
    many = [Figures(i / 10.0, -i / 10.0, i / 100.0, i, None) for i in range(101)]
    five = quantile(many, 0.05)
    assert (five.sharpe, five.cagr, five.max_drawdown) == (0.5, -9.5, 0.95)
    assert (five.n_trades, five.alpha) == (5, None)
    assert quantile([*many[:3], Figures()], 0.5).sharpe == 0.1


# --- Symbols, years, regimes, sides --------------------------------------------------------------


def test_without_a_symbol_is_as_if_its_bars_were_not_there(tmp_path: Path) -> None:
    """Without regimes, which are of the market, nothing else knows of the symbol."""
    path = made(tmp_path, random_bars(), risk=SHORTS, costs=COSTS)
    found = stress(path, repeats=2)
    bars = InSample.of(open_export(path, 1, None, False)).inputs.bars
    for s, row in enumerate(rows(found, "symbols")):
        others = [other for other in range(3) if other != s]
        metrics = backtested(path, only(bars, others))
        assert row.name == f"without {bars.symbols[s]}"
        assert shown(row) == pytest.approx(as_figures(metrics), rel=1e-9)


def test_one_symbol_cannot_be_left_out(tmp_path: Path) -> None:
    found = stress(made(tmp_path, random_bars(300, ["A"])), repeats=2)
    assert [row.note for row in rows(found, "symbols")] == ["does not apply: there is one symbol"]
    assert rows(found, "regimes")[0].note == "does not apply: the set has no classifier"
    assert rows(found, "sides")[1].note == "does not apply: the study allows no shorts"
    assert rows(found, "account")[0].note.startswith("unknown: costs have neither impact")


def test_a_year_is_left_out_of_the_returns(inside: InSample, found: Stress) -> None:
    equity = inside.run().equity
    cash, risk_free = inside.rules.initial_cash, inside.inputs.rates[:, layout.RISK_FREE]
    before = np.concatenate(([cash], equity.to_numpy(np.float64)[:-1]))
    returns = pd.Series(equity.to_numpy(np.float64) / before - 1.0, equity.index)
    excess = returns - risk_free[inside.inputs.first : inside.split]
    years = pd.DatetimeIndex(equity.index).year
    assert [row.name for row in rows(found, "years")] == [f"without {y}" for y in years.unique()]
    for row, year in zip(rows(found, "years"), years.unique(), strict=True):
        kept, left = excess[years != year], returns[years != year]
        assert row.figures.sharpe == pytest.approx(kept.mean() / kept.std() * math.sqrt(252.0))
        assert row.figures.cagr == pytest.approx(
            float(np.prod(1.0 + left.to_numpy(np.float64))) ** (252.0 / len(left)) - 1.0
        )
        grown = (1.0 + left).cumprod()
        fall = (1.0 - grown / grown.cummax().clip(lower=1.0)).max()
        assert row.figures.max_drawdown == pytest.approx(fall)


def test_each_return_belongs_to_the_regime_known_before(inside: InSample, found: Stress) -> None:
    base, first = inside.run(fills=True), inside.inputs.first
    codes = inside.regimes
    for row, (name, code) in zip(rows(found, "regimes"), parts.REGIMES.items(), strict=True):
        own = [i for i in range(len(base.excess)) if codes[first + i - 1] == code]
        assert row.name == name
        assert row.note == f"{len(own) / len(base.excess):.0%} of the returns"
        if len(own) > 1:
            kept = base.excess[own]
            expected = kept.mean() / kept.std(ddof=1) * math.sqrt(252.0)
            assert row.figures.sharpe == pytest.approx(expected)
    trades = [row.figures.n_trades or 0 for row in rows(found, "regimes")]
    assert sum(trades) == found.rows[0].figures.n_trades
    assert len({int(code) for code in codes[first - 1 : inside.split - 1]}) > 1


def test_both_sides_earn_what_the_account_earns(inside: InSample, found: Stress) -> None:
    base = inside.run(fills=True)
    profits = parts.side_profits(inside, base)
    both = profits["long"] + profits["short"]
    equity = np.concatenate(([inside.rules.initial_cash], base.equity.to_numpy()))
    # What is left is interest and borrow fees, of which each bar has little.
    carry = np.diff(equity) - both
    assert np.abs(carry).max() < 30.0 < np.abs(both).max()
    result = backtest_carry(inside)
    assert carry.sum() == pytest.approx(result, abs=1e-4)
    assert profits["short"].any() and profits["long"].any()
    sides = rows(found, "sides")
    assert sum(row.figures.n_trades or 0 for row in sides) == found.rows[0].figures.n_trades


def backtest_carry(inside: InSample) -> float:
    """The metric ``carry`` of the set."""
    (result,) = evaluate(inside.inputs, [inside.tile], inside.models)
    return float(result.in_sample[0][METRICS.index("carry")])


# --- Account and other symbols -------------------------------------------------------------------


def test_the_largest_account_keeps_half_of_the_sharpe_ratio(
    inside: InSample, found: Stress
) -> None:
    multiple, base = found.account.multiple, found.rows[0].figures.sharpe
    assert multiple is not None and base is not None

    def sharpe(times: float) -> float:
        return inside.run(inside.with_cash(times)).figures.sharpe or 0.0

    assert sharpe(multiple) >= base / 2.0 > sharpe(multiple * 1.02)
    assert sharpe(1.0) == base
    assert rows(found, "account")[0].name == "initial cash 100,000"


@given(st.floats(0.0, 8.0))
def test_the_largest_account_is_found_within_a_hundredth(power: float) -> None:
    limit = largest_account(lambda multiple: multiple <= 10.0**power)
    assert limit.multiple == pytest.approx(10.0**power, rel=0.01)


def test_an_account_without_end_is_said() -> None:
    assert (
        largest_account(lambda multiple: True).note
        == "more than 1,000,000,000 times the initial cash"
    )


def test_other_symbols_end_with_the_in_sample_bars(best: Path, tmp_path: Path) -> None:
    others = random_bars(800, ["X", "Y"], seed=9)
    path = write_bars(tmp_path / "others.parquet", others)
    found = stress(best, data=[path], repeats=2)
    inside = InSample.of(open_export(best, 1, None, False))
    (row,) = rows(found, "other symbols")
    metrics = backtested(best, others.head(inside.split), first_bar=None, warm_up=None, holdout=0.0)
    assert shown(row) == as_figures(metrics)
    assert row.note.startswith("X, Y; 2015-01-05 to ")


def test_bars_that_moved_are_known_by_their_content(
    best: Path, found: Stress, tmp_path: Path
) -> None:
    """The same option names other symbols."""
    for name in ("bars.parquet", "out/best.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(best.parent.parent / name, tmp_path / name)
    shutil.move(tmp_path / "bars.parquet", tmp_path / "moved.parquet")
    others = write_bars(tmp_path / "others.parquet", random_bars(800, ["X"], seed=9))
    files = [others, tmp_path / "moved.parquet"]
    again = stress(tmp_path / "out" / "best.json", data=files, repeats=12)
    assert again.rows[:-1] == found.rows[:-1]
    assert rows(again, "other symbols")[0].name == "others.parquet"


def test_other_bars_that_cannot_be_used_are_a_row(best: Path, tmp_path: Path) -> None:
    late = random_bars(300, ["X"])
    late = replace(late, timestamps=late.timestamps + np.timedelta64(3650, "D"))
    found = stress(best, data=[write_bars(tmp_path / "late.parquet", late)], repeats=2)
    (row,) = rows(found, "other symbols")
    assert row.note.startswith("does not apply: ") and "no bars" in row.note


# --- What a user sees ----------------------------------------------------------------------------


def test_the_command_writes_a_table_a_page_and_json(best: Path, tmp_path: Path) -> None:
    files = ["--json", tmp_path / "s.json", "--out", tmp_path / "s.html"]
    done = barsweep("stress", best, "--repeats", 2, *files, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "s.json").read_text())
    assert content == json.loads(json.dumps(stress(best, repeats=2).to_dict()))
    page = (tmp_path / "s.html").read_text()
    for row in content["rows"]:
        assert html.escape(row["name"], quote=False) in page
        assert row["name"].split(",")[0][:20] in done.stdout
    assert "<script" not in page and not re.search(r"(src|href)=[\"']?http", page)


def test_names_are_escaped_in_the_page(found: Stress) -> None:
    wild = replace(found, study="<script>alert(1)</script>")
    assert "<script>" not in stress_page(wild)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.json"], "gone.json: no such file"),
        (["best.json", "--set", "2"], "sets: has 1, asked for number 2"),
        (["best.json", "--data", "gone.parquet"], "gone.parquet: no such file"),
        (["best.json", "--json", "x.txt"], "x.txt: the figures of a stress is written"),
        (["best.json", "--out", "x.json"], "x.json: the page of a stress is written"),
    ],
)
def test_a_mistake_is_one_line(
    best: Path, arguments: list[str], words: str, tmp_path: Path
) -> None:
    shutil.copy(best, tmp_path / "best.json")
    done = barsweep("stress", *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr and done.stderr.count("\n") == 1


def test_repeats_are_bounded(best: Path) -> None:
    with pytest.raises(StudyError, match="repeats = 1"):
        stress(best, repeats=1)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """The export of a study of the user's own strategy, from a signal."""

    def export(source: str) -> Path:
        write_bars(tmp_path / "bars.parquet", random_bars())
        (tmp_path / "mine.py").write_text(source)
        strategy = {"name": "mine", "path": "mine.py", "lookback": 10, "threshold": 0.0}
        content = mapping("bars.parquet", strategy=strategy, search={"trials": 1})
        content["strategy"] = strategy
        result = run_study(study_from_dict(content, tmp_path), out=tmp_path / "out", workers=1)
        return export_sets(result.folder.path)

    return export


def test_a_strategy_of_ones_own_needs_approval_and_may_read_the_close(
    own: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MOMENTUM.replace("def signal(momentum,", "def signal(momentum, close,")
    path = own(source)
    found = stress(path, repeats=2)
    assert shown(found.rows[0]) == as_figures(load_export(path)["sets"][0]["in_sample"])
    assert rows(found, "delay")[0].note == (
        "does not apply: the signal reads the close of the bar itself"
    )
    monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / "stranger" / "ledger.db"))
    monkeypatch.setattr(user, "_compiled", {})
    for known in ("_approved", "_accepted", "_told"):
        monkeypatch.setattr(approvals, known, set())
    with pytest.raises(UntrustedCodeError, match=r"mine\.py"):
        stress(path, repeats=2)
    assert stress(path, repeats=2, trust=True).rows == found.rows
