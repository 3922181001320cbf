"""Positions, weights, orders and trades as files, read back by the programs that they are for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optimizer.errors import ExportError, StudyError
from optimizer.review.replay import Replay, replay
from optimizer.review.unseal import unseal_study
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.views.outgoing import TABLES, check_table_files, write_tables
from optimizer.views.tearsheet import daily_returns
from tests.support.command import barsweep
from tests.support.studies import random_bars, small_study, write_bars

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    path = tmp_path_factory.mktemp("outgoing")
    bars = write_bars(path / "bars.parquet", random_bars())
    run_study(small_study(bars, search={"trials": 4}), out=path / "out", workers=1)
    unseal_study(path / "out")
    return replay(export_sets(path / "out"))


@pytest.fixture(scope="module", params=["csv", "parquet"])
def tables(
    replayed: Replay, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, pd.DataFrame]:
    """The tables as they are read back, with plain pandas."""
    folder = tmp_path_factory.mktemp(request.param)
    files = {name: folder / f"{name}.{request.param}" for name in TABLES}
    write_tables(replayed, files)
    if request.param == "parquet":
        return {name: pd.read_parquet(path) for name, path in files.items()}
    return {
        name: pd.read_csv(path, index_col=0, parse_dates=name != "trades")
        for name, path in files.items()
    }


def wide(orders: pd.DataFrame, column: str, index: pd.Index[pd.Timestamp]) -> pd.DataFrame:
    """A column a symbol, as vectorbt takes it; NaN where nothing was ordered."""
    pivoted = orders.pivot(columns="symbol", values=column)
    return pivoted.reindex(index)


def closes(replayed: Replay) -> pd.DataFrame:
    result = replayed.result
    frame = pd.DataFrame(
        replayed.bars.close,
        pd.DatetimeIndex(replayed.bars.timestamps, tz="UTC"),
        list(replayed.bars.symbols),
    )
    return frame.reindex(pd.DatetimeIndex(result.equity.index))


def test_positions_add_up_to_the_equity(replayed: Replay, tables: dict[str, pd.DataFrame]) -> None:
    positions, equity = tables["positions"], replayed.result.equity
    assert list(positions.columns) == ["AAA", "BBB", "CCC", "cash"]
    assert positions.index.equals(pd.DatetimeIndex(equity.index).rename("timestamp"))
    np.testing.assert_allclose(positions.sum(axis=1), equity, rtol=1e-12)
    held = positions.drop(columns="cash").div(positions.sum(axis=1), axis=0)
    np.testing.assert_allclose(tables["weights"], held, rtol=1e-9, atol=1e-15)
    assert positions["cash"].min() >= -1e-6 and (held.abs().sum(axis=1) > 0.0).any()


def test_orders_lead_to_the_positions_and_the_cash(
    replayed: Replay, tables: dict[str, pd.DataFrame]
) -> None:
    orders, positions = tables["orders"], tables["positions"]
    assert list(orders.columns) == ["symbol", "amount", "price", "commission"]
    amounts = wide(orders, "amount", positions.index).fillna(0.0)
    values = amounts.cumsum() * closes(replayed)[amounts.columns]
    np.testing.assert_allclose(values, positions[values.columns], rtol=1e-9, atol=1e-6)
    paid = (orders["amount"] * orders["price"]).sum() + orders["commission"].sum()
    assert positions["cash"].iloc[-1] == pytest.approx(100_000.0 - paid, rel=1e-9)
    assert (orders["commission"] > 0.0).all() and len(orders) > 20


def test_trades_are_those_of_the_result(replayed: Replay, tables: dict[str, pd.DataFrame]) -> None:
    trades, expected = tables["trades"], replayed.result.trades
    assert list(trades.columns) == list(expected.columns)
    assert trades["profit"].tolist() == pytest.approx(expected["profit"].tolist())
    assert len(trades) == len(expected) > 5


def test_pyfolio_reads_them(replayed: Replay, tables: dict[str, pd.DataFrame]) -> None:
    pyfolio = pytest.importorskip("pyfolio")
    shares = pyfolio.pos.get_percent_alloc(tables["positions"])
    np.testing.assert_allclose(
        shares.drop(columns="cash"), tables["weights"], rtol=1e-9, atol=1e-12
    )
    volume = pyfolio.txn.get_txn_vol(tables["orders"])
    traded = (tables["orders"]["amount"] * tables["orders"]["price"]).abs().sum()
    assert volume["txn_volume"].sum() == pytest.approx(traded)
    returns = daily_returns(replayed)
    assert len(returns) == len(tables["positions"])


def test_vectorbt_reads_them(replayed: Replay, tables: dict[str, pd.DataFrame]) -> None:
    vectorbt = pytest.importorskip("vectorbt")
    orders, close = tables["orders"], closes(replayed)
    portfolio = vectorbt.Portfolio.from_orders(
        close,
        size=wide(orders, "amount", close.index),
        price=wide(orders, "price", close.index),
        fixed_fees=wide(orders, "commission", close.index).fillna(0.0),
        init_cash=100_000.0,
        cash_sharing=True,
        call_seq="auto",
    )
    np.testing.assert_allclose(portfolio.value(), replayed.result.equity, rtol=1e-9)


def test_nautilus_reads_them(replayed: Replay, tables: dict[str, pd.DataFrame]) -> None:
    """By the recipe of the page, word for word."""
    pytest.importorskip("nautilus_trader")
    page = (ROOT / "docs" / "results.md").read_text()
    (recipe,) = re.findall(r"```python\n(from nautilus_trader.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"orders": tables["orders"]}
    exec(recipe, names)
    last, value = closes(replayed).iloc[-1], 100_000.0
    for symbol, found in names["positions"].items():
        for position in found:
            at = names["Price"](float(last[symbol]), 9)
            value += float(position.realized_pnl) + float(position.unrealized_pnl(at))
        assert found[-1].signed_qty * last[symbol] == pytest.approx(
            tables["positions"][symbol].iloc[-1]
        )
    assert value == pytest.approx(replayed.result.equity.iloc[-1], abs=0.02 * len(tables["orders"]))


def test_the_command_writes_all_of_them_and_refuses_what_it_cannot(
    replayed: Replay, tmp_path: Path
) -> None:
    best = Path(replayed.bars.source).parent / "out" / "best.json"
    options = [part for name in TABLES for part in (f"--{name}", f"{name}.csv")]
    done = barsweep("replay", best, *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in TABLES:
        assert f"{name}: {name}.csv" in done.stdout and (tmp_path / f"{name}.csv").stat().st_size
    done = barsweep("replay", best, "--orders", "a.csv", "--trades", "a.csv", folder=tmp_path)
    assert done.returncode == 2 and "given for --orders and --trades" in done.stderr
    with pytest.raises(StudyError, match=r"a table of weights is written to a file that ends in"):
        check_table_files({"weights": tmp_path / "weights.xlsx"})
    with pytest.raises(ExportError, match="give each its own file"):
        check_table_files({"weights": tmp_path / "a.csv", "orders": tmp_path / "a.csv"})
