"""Live against expected: each cause by itself, causes together, and the sum of the parts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimizer.errors import DataError
from optimizer.review.exported import naming_export
from optimizer.trading.broker import OutageError, Report
from optimizer.trading.counterfactual import Steps, by_rules
from optimizer.trading.drift import PARTS, Drift, drift
from optimizer.trading.feeds import ReplayedFeed
from optimizer.trading.journal import Journal
from optimizer.trading.limits import Limits
from optimizer.trading.paper import PaperBroker
from optimizer.trading.plan import TradingSet, open_to_trade
from optimizer.trading.session import Session
from optimizer.trading.sessions import Sessions
from optimizer.trading.taking_over import Takeover
from optimizer.types import Bars, Order
from tests.support.command import barsweep
from tests.support.studies import write_bars
from tests.support.trading import EVERY, N_STUDY

N_BARS = 60
LAST = EVERY.head(N_STUDY + N_BARS)
FAST = Limits(timeout=5.0, outage=5.0, retry=0.01)


class Odd(PaperBroker):
    """A paper broker that refuses, halves or takes in whole, by the number of the order."""

    what: Callable[[int], str] = staticmethod(lambda number: "")
    n_placed = 0

    async def place(self, order: Order) -> Report:
        self.n_placed += 1
        what = self.what(self.n_placed)
        if what == "refuses":
            return Report(order.id, "rejected", "x-1", reason="insufficient funds")
        if what == "halves":
            half = float(np.fix(order.lots / 2.0))
            order = replace(order, lots=half, quantity=half)
        if what == "gone":
            raise OutageError("connection refused")
        return await super().place(order)


def opened(best: Path, bars: Bars) -> TradingSet:
    with naming_export(best):
        return open_to_trade(best, data=bars)


def traded(
    best: Path, folder: Path, bars: Bars, what: Callable[[int], str] | None = None
) -> Session:
    """A session on bars after those of the study, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = opened(best, bars)
    journal = Journal(folder / "trade.db")

    def broker(plan: object) -> Odd:
        rules = found.prepared().rules
        parts = (rules, bars.symbols, bars.bars_per_year, rules.initial_cash)
        one = Odd(folder / "paper.db", found.prepared().specs[0], *parts)
        if what is not None:
            one.what = what
        return one

    feed = ReplayedFeed(bars)
    session = Session(found, lambda: bars.head(N_STUDY), broker, feed, journal, limits=FAST)
    asyncio.run(Sessions([session], feed, FAST).run())
    journal.close()
    return session


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bars of the study and of the sessions."""
    return write_bars(tmp_path_factory.mktemp("newest") / "bars.parquet", LAST)


@pytest.fixture(scope="module")
def clean(best: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed session."""
    folder = tmp_path_factory.mktemp("clean")
    traded(best, folder, LAST)
    return folder


def exact(found: Drift) -> None:
    """The parts add up to the whole in every bit, at every bar, in any order."""
    table = found.equity
    whole = (table["live"] - table["expected"]).to_numpy()
    for names in (PARTS, PARTS[::-1], ("price", "rest", "revised", "missed", "timing")):
        total = np.zeros(len(table))
        for name in names:
            total = total + table[name].to_numpy()
        assert np.array_equal(total, whole)
    assert sum(found.parts.values()) == found.difference


def only(found: Drift, *names: str) -> None:
    """Nothing but these parts differs from 0 by more than rounding."""
    for name in PARTS:
        if name in names:
            assert abs(found.parts[name]) > 1.0, (name, found.parts)
        else:
            assert found.equity[name].abs().max() < 1e-5, (name, found.parts)


# --- Sessions --------------------------------------------------------------------------------------


def test_an_undisturbed_session_is_its_backtest(best: Path, data: Path, clean: Path) -> None:
    found = drift(clean, best, data=data)
    exact(found)
    only(found)
    assert len(found.equity) == N_BARS and len(found.orders) > 10
    assert set(found.counts) <= {"filled", "partly filled"}
    assert found.slippage_bps == 0.0
    assert found.orders["cost"].abs().max() < 1e-9
    # The export stands in the folder of its study, which says what is to be expected.
    assert found.test is not None and found.expected_from == f"the study in {best.parent}"
    ratio = found.returns.mean() / found.returns.std() * math.sqrt(found.returns_per_year)
    assert found.sharpe == pytest.approx(ratio)


def test_refused_and_cut_orders_are_what_is_missing(best: Path, data: Path, tmp_path: Path) -> None:
    """Every third order is refused, every fifth is cut; the others fill as in a backtest."""
    what = {0: "refuses", 1: "halves"}
    traded(best, tmp_path / "odd", LAST, lambda n: what.get(n % 5, ""))
    found = drift(tmp_path / "odd", best, data=data)
    exact(found)
    only(found, "missed")
    assert found.counts["refused"] > 2 and found.counts["partly filled"] > 2


def test_revised_bars_are_a_part_of_their_own(best: Path, clean: Path, tmp_path: Path) -> None:
    """Bars of the session are others now: expected is what a session on them would have had."""
    factor = np.ones((LAST.n_bars, LAST.n_symbols))
    factor[N_STUDY + 20 :, 0] = np.linspace(1.0, 1.2, LAST.n_bars - N_STUDY - 20)
    names = ("open", "high", "low", "close")
    revised = replace(LAST, **{name: getattr(LAST, name) * factor for name in names})
    data = write_bars(tmp_path / "bars.parquet", revised)
    found = drift(clean, best, data=data)
    exact(found)
    only(found, "revised")
    session = traded(best, tmp_path / "again", revised)
    expected = session.flow.account.container.equity
    assert found.equity["expected"].iloc[-1] == pytest.approx(expected, abs=1e-6)


def test_bars_before_a_session_that_were_revised_are_said(
    best: Path, clean: Path, tmp_path: Path
) -> None:
    """What the study had is kept nowhere: the session's decisions cannot be made again."""
    volume = LAST.volume.copy()
    volume[N_STUDY - 40, 1] += 1.0
    alone = tmp_path / "alone"
    alone.mkdir()
    export = alone / "best.json"
    content = json.loads(best.read_text())
    content["data"]["path"] = str(tmp_path / "bars.parquet")
    export.write_text(json.dumps(content))
    data = write_bars(tmp_path / "bars.parquet", replace(LAST, volume=volume))
    found = drift(clean, export, data=data, expect=1.0)
    exact(found)
    assert any("what was known then is nowhere" in note for note in found.notes)


def test_a_deposit_is_no_return(best: Path, data: Path, tmp_path: Path) -> None:
    """Money that comes half-way is in the rest; the returns do not know of it."""
    folder = tmp_path / "richer"
    folder.mkdir()
    half = LAST.head(N_STUDY + N_BARS // 2)
    traded(best, folder, half)
    with contextlib.closing(sqlite3.connect(folder / "paper.db")) as connection, connection:
        connection.execute("UPDATE account SET cash = cash + 50000")
    traded(best, folder, LAST)
    found = drift(folder, best, data=data)
    exact(found)
    assert found.parts["rest"] > 40_000.0
    assert found.returns.abs().max() < 0.1


def test_a_session_of_another_set_is_refused(best: Path, data: Path, clean: Path) -> None:
    content = json.loads(best.read_text())
    content["sets"][0]["parameters"]["max_exposure"] = 0.5
    other = clean / "other.json"
    content["data"]["path"] = str(best.parent.parent / "bars.parquet")
    other.write_text(json.dumps(content))
    with pytest.raises(DataError, match="a session of another set"):
        drift(clean, other, data=data)


# --- Tables of fills -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fills(best: Path, data: Path) -> pd.DataFrame:
    """What the backtest of an account of 100,000 fills after the study, as a table."""
    found = opened(best, LAST)
    plan = found.prepared(LAST, N_STUDY)
    none = (None,) * LAST.n_symbols
    account = Takeover(N_STUDY, 100_000.0, (0.0,) * LAST.n_symbols, none)
    session = by_rules(plan, Steps(N_STUDY, account))
    rows = []
    costs = json.loads(best.read_text())["costs"]
    for bar, orders in session.orders.items():
        for order in orders if bar + 1 < LAST.n_bars else ():
            at = float(LAST.open[bar + 1, order.symbol])
            price = at * (1.0 + math.copysign(costs["slippage_bps"] * 1e-4, order.lots))
            fee = abs(order.quantity) * price * costs["commission_bps"] * 1e-4
            rows.append((LAST.timestamps[bar + 1], order.name, order.quantity, price, fee))
    return pd.DataFrame(rows, columns=["time", "symbol", "quantity", "price", "commission"])


def compared(best: Path, data: Path, table: pd.DataFrame, folder: Path, **options: object) -> Drift:
    path = folder / "fills.csv"
    table.to_csv(path, index=False)
    start = str(LAST.timestamps[N_STUDY])
    given = {"cash": 100_000.0, "start": start, "data": data, **options}
    return drift(path, best, **given)  # type: ignore[arg-type]


def test_fills_as_in_the_backtest_differ_in_nothing(
    best: Path, data: Path, fills: pd.DataFrame, tmp_path: Path
) -> None:
    found = compared(best, data, fills, tmp_path)
    exact(found)
    only(found)
    assert len(found.orders) == len(fills)
    assert "does not say what was known" in found.notes[0]


def test_worse_prices_are_price(
    best: Path, data: Path, fills: pd.DataFrame, tmp_path: Path
) -> None:
    """A few small orders are 100 bps worse, in two parts each: the same orders, at that cost."""
    table = fills.copy()
    chosen = table.index[:1]
    table.loc[chosen, "price"] *= 1.0 + np.sign(table.loc[chosen, "quantity"]) * 0.01
    half = table.copy()
    half["quantity"] /= 2.0
    half["commission"] /= 2.0
    found = compared(best, data, pd.concat([half, half]).sort_values("time"), tmp_path)
    exact(found)
    assert found.orders["slippage_bps"].iloc[0] == pytest.approx(100.0)
    # At the bar of the fill the part is the cost itself; from then on both decide for themselves.
    cost = (fills.loc[chosen, "quantity"].abs() * fills.loc[chosen, "price"] * 0.01).sum()
    assert found.orders["cost"].iloc[0] == pytest.approx(cost)
    day = pd.Timestamp(fills["time"].iloc[0], tz="UTC")
    assert found.equity.loc[day, "price"] == pytest.approx(-cost)
    for name in ("revised", "timing", "missed"):
        assert found.equity[name].abs().max() < 1e-5
    assert found.equity.loc[day, "rest"] == pytest.approx(0.0, abs=1e-6)


def test_orders_that_fill_a_bar_late_are_timing(
    best: Path, data: Path, fills: pd.DataFrame, tmp_path: Path
) -> None:
    """The first purchase is entered by hand a day later, at that day's price by the rules."""
    table = fills.iloc[:1].copy()
    bar = int(np.searchsorted(LAST.timestamps, np.datetime64(table["time"].iloc[0]))) + 1
    s = LAST.symbols.index(table["symbol"].iloc[0])
    ratio = float(LAST.open[bar, s] / LAST.open[bar - 1, s])
    table["time"] = LAST.timestamps[bar] + np.timedelta64(10, "h")
    table[["price", "commission"]] *= ratio
    found = compared(best, data, table, tmp_path, stop=str(LAST.timestamps[bar]))
    exact(found)
    only(found, "timing", "missed")  # by then the set wants more than was entered
    assert found.counts == {"late": 1, "partly filled": 1}
    # What the purchase had earned by the close of the day on which it should have filled.
    first = fills.iloc[0]
    earned = first["quantity"] * (LAST.close[bar - 1, s] - first["price"]) - first["commission"]
    assert found.equity["timing"].iloc[1] == pytest.approx(-earned)


def test_orders_that_never_fill_are_missed(
    best: Path, data: Path, fills: pd.DataFrame, tmp_path: Path
) -> None:
    symbol = fills["symbol"].iloc[0]
    found = compared(best, data, fills[fills["symbol"] != symbol], tmp_path)
    exact(found)
    assert abs(found.parts["missed"]) > 1.0
    assert found.equity["timing"].abs().max() < 1e-5
    assert found.counts["missed"] > 1


def test_trades_that_no_order_asked_for_are_the_rest(
    best: Path, data: Path, fills: pd.DataFrame, tmp_path: Path
) -> None:
    """Bought and sold at one price on one day: what is left of it is the commission."""
    day = fills.loc[fills["symbol"] == "BBB", "time"].iloc[1]
    assert "AAA" not in set(fills.loc[fills["time"] == day, "symbol"])
    extra = pd.DataFrame(
        {
            "time": [day, day],
            "symbol": "AAA",
            "quantity": [10.0, -10.0],
            "price": [100.0, 101.0],
            "commission": [3.0, 4.0],
        }
    )
    found = compared(best, data, pd.concat([fills, extra]), tmp_path, stop=str(day))
    exact(found)
    only(found, "rest")
    assert found.parts["rest"] == pytest.approx(3.0, abs=1e-5)  # 10 x 1 earned, less 7


@pytest.mark.parametrize(
    ("row", "options", "words"),
    [
        ({"symbol": "XYZ"}, {}, 'line 2: symbol "XYZ": not one of the study'),
        ({"quantity": 0.0}, {}, "line 2: quantity = 0.0; expected a number other than 0"),
        ({"price": "high"}, {}, 'line 2: price = "high"; expected a number'),
        ({"price": -1.0}, {}, "line 2: price = -1.0; expected one above 0"),
        ({"time": "soon"}, {}, "line 2: time 'soon' is not an ISO date or time"),
        ({}, {"cash": None}, "give the money of the account before its first fill with --cash"),
        ({}, {"start": "2014-01-01"}, "name other bars with --from and --to"),
        ({"time": "2015-03-02"}, {}, "line 2: a fill before those of the first orders"),
        ({}, {"rate": 1.0}, "--alarm 1; expected a rate above 0 and below 1"),
        ({}, {"expect": math.inf}, "--expect inf; expected a Sharpe ratio a year"),
    ],
)
def test_mistakes_name_the_line(
    row: dict[str, object],
    options: dict[str, object],
    words: str,
    best: Path,
    data: Path,
    fills: pd.DataFrame,
    tmp_path: Path,
) -> None:
    first: dict[str, object] = {str(key): one for key, one in fills.iloc[0].items()}
    table = pd.DataFrame([{**first, **row}, fills.iloc[1].to_dict()])
    with pytest.raises(DataError) as caught:
        compared(best, data, table, tmp_path, **options)
    assert words in str(caught.value), str(caught.value)


# --- The command -----------------------------------------------------------------------------------


def test_the_command_writes_page_and_figures(
    best: Path, data: Path, clean: Path, tmp_path: Path
) -> None:
    arguments = ("drift", clean, best, "--data", data)
    done = barsweep(
        *arguments, "--expect", 0.5, "--json", "drift.json", "--out", "drift.html", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "live less expected" in done.stdout and "no alarm" in done.stdout
    found = json.loads((tmp_path / "drift.json").read_text())
    assert sum(found["parts"].values()) == found["difference"]
    assert found["live"] - found["expected"] == found["difference"]
    assert len(found["equity"]) == N_BARS and found["test"]["expected"] == 0.5
    page = (tmp_path / "drift.html").read_text()
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert page.count("<svg") == 2 and "missed or refused" in page
    # A ratio that no returns could have is contradicted, and the exit code says so.
    done = barsweep(*arguments, "--expect", 60, "--out", "drift.html", folder=tmp_path)
    assert done.returncode == 1 and "they no longer fit" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "best.json"], "nowhere: no such file or folder"),
        ([".", "best.json"], "no session; give the folder of `barsweep trade`"),
        ([".", "best.json", "--cash", "5"], "are for tables of fills"),
        (["fills.csv", "best.json", "--cash", "5"], "no column quantity; expected time"),
        (["fills.csv", "best.json", "--out", "page.txt"], "ends in .html or .htm"),
    ],
)
def test_mistakes_of_the_command_are_one_line(
    arguments: list[str], words: str, best: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "fills.csv").write_text("time,symbol,amount,price\n2015-08-01,AAA,1,2\n")
    given = [str(best) if one == "best.json" else one for one in arguments]
    done = barsweep("drift", *given, "--data", data, folder=tmp_path)
    assert done.returncode == 2, done.stdout
    assert words in done.stderr and done.stderr.count("\n") == 1
