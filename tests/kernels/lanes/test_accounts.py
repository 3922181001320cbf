"""Interest, margin calls and the end of an account, by hand; see ``tests/support/by_hand.py``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.reference.simulation import SUMS, Instrument
from tests.support.by_hand import ALL_IN, FREE, cash_of, equity_of, lots_of, scenario


def test_cash_earns_interest() -> None:
    path = scenario([[0, 0, 0]], [[10, 10, 10]], rates=(0.01, 0.05, 0.1))
    assert equity_of(path) == pytest.approx([1000, 1010, 1020.1], abs=1e-9)
    assert path.sweep.row("carry")[0, 0] == pytest.approx(20.1, abs=1e-9)


def test_borrowed_cash_pays_interest() -> None:
    # 200 lots at 10 for 1000: cash is -1000, and pays 5 % from bar 1 to bar 2.
    rules = replace(FREE, leverage=2.0)
    chosen = replace(ALL_IN, max_weight=2.0, max_exposure=2.0)
    path = scenario([[1, 0, 0]], [[10] * 3], chosen=chosen, rules=rules, rates=(0.0, 0.05, 0.1))
    assert lots_of(path) == [0, 200, 200]
    assert cash_of(path) == pytest.approx([1000, -1000, -1050], abs=1e-9)


def test_a_short_position_pays_its_loan_and_its_proceeds_earn_nothing() -> None:
    # 100 lots sold short at 10: cash 2000, of which 1000 are collateral. The other 1000 earn 1 %;
    # the loan of 1000 costs 30 % a year for a tenth of a year.
    rules = replace(FREE, instruments=(Instrument(borrow=0.3),))
    path = scenario([[-1, 0, 0]], [[10] * 3], rules=rules, rates=(0.01, 0.05, 0.1), options="short")
    # Bar 1: 10 of interest on 1000, before the fill.
    assert lots_of(path) == [0, -100, -100]
    free = 2010.0 - 1000.0
    assert cash_of(path) == pytest.approx([1000, 2010, 2010 + 0.01 * free - 30], abs=1e-9)


@pytest.mark.parametrize(("low", "kept"), [(7.0, 200), (6.0, 0)], ids=["above", "below"])
def test_a_margin_call_by_hand(low: float, kept: int) -> None:
    # 200 lots at 10, cash -1000. At 7 equity is 400 and a quarter of gross 350; at 6 they are 200
    # and 300, so that all is sold at 6.
    rules = replace(FREE, leverage=2.0, maintenance=0.25)
    path = scenario(
        [[1, 0, 0]],
        [[10, 10, 9]],
        lows=[[10, 10, low]],
        chosen=replace(ALL_IN, max_weight=2.0, max_exposure=2.0),
        rules=rules,
    )
    assert lots_of(path) == [0, 200, kept]
    assert equity_of(path)[2] == (800 if kept else 200)
    assert path.sweep.row("n_liquidations")[0, 0] == (0 if kept else 1)


def test_a_margin_call_closes_what_trades() -> None:
    # Long 100 lots of each at 10, cash -1000. Symbol 1 does not trade in bar 2: it counts at its
    # open of 9, and stays. At the low of 2 equity is 200 + 900 - 1000 = 100, gross 1100.
    rules = replace(FREE, leverage=2.0, maintenance=0.25)
    path = scenario(
        [[1, 0, 0], [1, 0, 0]],
        [[10, 10, 9], [10, 10, 9]],
        opens=[[10, 10, 9], [10, 10, 9]],
        lows=[[10, 10, 2], [10, 10, 0.5]],
        chosen=replace(ALL_IN, max_exposure=2.0),
        rules=rules,
        volumes=[[1e9, 1e9, 1e9], [1e9, 1e9, 0.0]],
    )
    assert (lots_of(path), lots_of(path, 1)) == ([0, 100, 0], [0, 100, 100])
    assert cash_of(path)[2] == -800
    assert equity_of(path)[2] == 100


def test_the_end_closes_everything_and_leaves_the_debt() -> None:
    # Short 100 lots at 10, cash 2000. At 25 they cost 2500 to buy back: a debt of 500.
    path = scenario([[-1, -1, -1, -1, -1]], [[10, 10, 25, 5, 5]], options="short")
    assert lots_of(path) == [0, -100, 0, 0, 0]
    assert equity_of(path) == [1000, 1000, -500, -500, -500]
    assert cash_of(path) == [1000, 2000, -500, -500, -500]
    row = {name: float(path.sweep.row(name)[0, 0]) for name in (*SUMS, "ruined", "variance")}
    assert all(np.isfinite(list(row.values())))
    assert (row["ruined"], row["n_trades"], row["n_wins"], row["gross_loss"]) == (1, 1, 0, 1500)
    assert (row["sum_return"], row["sum_return_2"], row["max_drawdown"]) == (-1.5, 2.25, 1.5)


def test_an_ended_account_pays_no_interest() -> None:
    path = scenario([[-1] * 4], [[10, 10, 25, 5]], options="short", rates=(0.0, 0.05, 0.1))
    assert equity_of(path) == [1000, 1000, -500, -500]
