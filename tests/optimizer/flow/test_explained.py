"""A trace explains sizes, from the size before all factors to the target; numbers fills, and so on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer import flow
from optimizer.analytics.tables import TABLES
from optimizer.study_file.study import study_from_dict
from tests.support.studies import mapping, random_bars

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module", params=["kelly", "volatility_target"])
def traced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A flow in a database, and its rows by table."""
    bars = random_bars(260)
    content = mapping(
        strategy={"lookback": 10, "threshold": 0.0},
        classifier={"name": "hmm", "lookback": 10, "train_bars": 60, "refit_bars": 60},
        risk={
            "sizing": request.param,
            "kelly_fraction": 0.4,
            "max_exposure": 0.9,
            "max_weight": 0.5,
            "volatility_lookback": 20,
            "correlation_penalty": 0.8,
            "bear_multiplier": 0.5,
            "lot_size": 0.5,
            "stop_loss": 0.03,
        },
        validation={"holdout": 0.0},
    )
    if request.param != "kelly":
        del content["risk"]["kelly_fraction"]
    folder: Path = tmp_path_factory.mktemp("trace")
    url = f"sqlite:///{folder / 'trace.db'}"
    plan = flow.prepare_flow(study_from_dict(content), bars)
    with flow.AnalyticsWriter(url, folder / "spill.jsonl") as trace:
        result = plan.run(trace)
    return plan, result, url, rows_of(folder / "trace.db")


def rows_of(database: Path) -> Rows:
    import sqlite3

    with sqlite3.connect(database) as connection:
        connection.row_factory = sqlite3.Row
        return {
            name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")]
            for name in TABLES
        }


def test_the_size_of_an_order_follows_from_its_row(traced: Any) -> None:
    plan, _, _, rows = traced
    (spec,) = plan.specs
    own = spec.parameters
    closes = {(row["bar"], row["symbol"]): row["close"] for row in rows["bars"]}
    signals = {row["signal_id"]: row for row in rows["signals"]}
    codes = {row["regime_id"]: row["code"] for row in rows["regimes"]}
    states = {row["bar"]: row for row in rows["equity"]}
    seen: set[float] = set()
    n_correlated = n_cut = 0
    for order in rows["orders"]:
        signal = signals[order["signal_id"]]
        factors = ("size", "regime_factor", "rho", "correlation_factor", "portfolio_variance")
        if signal["direction"] == 0:
            assert [order[name] for name in (*factors, "equity")] == [None] * 6
            assert order["target"] == 0.0
            continue
        assert order["equity"] == states[order["bar"]]["equity"]
        name = {-1: "bear", 0: "neutral", 1: "bull"}[codes[order["regime_id"]]]
        assert order["regime_factor"] == own[f"{name}_multiplier"]
        seen.add(order["regime_factor"])
        assert -1.0 <= order["rho"] <= 1.0
        n_correlated += order["rho"] != 0.0
        penalty = own["correlation_penalty"] * max(0.0, order["rho"])
        assert order["correlation_factor"] == 1.0 - penalty
        sigma = json.loads(signal["features"])["volatility_20"]
        if plan.study.risk.sizing == "kelly":
            variance = max(sigma**2, order["portfolio_variance"])
            edge = signal["strength"] * signal["confidence"]
            assert order["size"] == pytest.approx(own["kelly_fraction"] * edge / variance)
        else:
            a_bar = own["volatility_target"] / np.sqrt(252.0)
            assert order["size"] == pytest.approx(a_bar * signal["confidence"] / sigma)
        whole = order["size"] * order["regime_factor"] * order["correlation_factor"]
        fraction = min(whole, own["max_weight"])
        lot = 0.5 * closes[order["bar"], order["symbol"]]
        lots = fraction * order["equity"] / lot
        # A stop keeps a direction closed: then nothing is wanted, whatever the size.
        if order["wanted"] != 0.0:
            assert order["wanted"] == 0.5 * np.floor(lots * (1.0 + 1e-12))
        n_cut += order["budget_share"] < 1.0
    assert len(rows["orders"]) > 50
    assert len(seen) > 1
    assert n_correlated > 20
    assert n_cut > 5


def test_rejects_carry_their_regime(traced: Any) -> None:
    _, _, _, rows = traced
    regimes = {row["regime_id"]: row for row in rows["regimes"]}
    orders = {row["order_id"]: row for row in rows["orders"]}
    assert len(rows["rejects"]) > 50
    for row in rows["rejects"]:
        if row["order_id"] is None:
            assert regimes[row["regime_id"]]["bar"] == row["bar"]
        else:
            assert row["regime_id"] == orders[row["order_id"]]["regime_id"]


def test_the_fills_of_a_bar_are_numbered(traced: Any) -> None:
    plan, result, url, rows = traced
    fills = {row["fill_id"]: row for row in rows["fills"]}
    assert {row["kind"] for row in rows["fills"]} >= {"order", "stop"}
    by_bar: dict[int, list[int]] = {}
    for fill in result.views[0].transactions:
        row = fills[fill.id]
        by_bar.setdefault(fill.bar, []).append(row["number"])
        assert row["time"] == str(plan.bars.timestamps[fill.bar])
    assert max(len(numbers) for numbers in by_bar.values()) > 2
    for numbers in by_bar.values():
        assert numbers == list(range(1, len(numbers) + 1))
    last = result.views[0].transactions[-1]
    with flow.open_reader(url) as reader:
        chain = reader.chain(last.id)
    assert chain["fill"]["number"] == fills[last.id]["number"]
    decided = chain["order"] or chain["opening_order"]
    assert {"size", "rho", "portfolio_variance"} <= decided.keys()
