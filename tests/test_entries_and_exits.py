"""Entries inside the bar, exits and finer bars: the sweep and the broker against values by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.support.accounts import Case, both, plain_case
from tests.support.entries_and_exits import bars_of
from tests.support.universe import with_present

Row = tuple[float, float, float, float]
"""Open, high, low and close of a bar."""

PRICES = ("open", "high", "low", "close")

BUY_ALL = {"weight": 1.0, "stop_loss": 0.99}


def case_of(
    last: list[Row],
    volume: dict[int, float] | None = None,
    still: tuple[str, ...] = (),
    **keys: Any,
) -> Case:
    """Bars of A that end with ``last``, all at 100 before; long from the first rise on.

    Other symbols are ``still``, and so never bought.
    """
    case = plain_case(
        {"A": [row[3] for row in last], **dict.fromkeys(still, [50.0] * len(last))},
        parameters={**BUY_ALL, **keys.pop("parameters", {})},
        sizing="weight",
        **keys,
    )
    bars = case.bars
    tables = {name: getattr(bars, name).copy() for name in PRICES}
    volumes = bars.volume.copy()
    for name, column in zip(tables, range(4), strict=True):
        tables[name][-len(last) :, 0] = [row[column] for row in last]
        tables[name][: -len(last), 0] = 100.0
    for bar, units in (volume or {}).items():
        volumes[bar] = units
    return replace(case, bars=replace(bars, **tables, volume=volumes))


UP: Row = (100.0, 101.0, 100.0, 101.0)
"""A rise, at whose close the first order is decided; ATR over 2 bars is 0.5 if all was still before."""


@pytest.mark.parametrize(
    ("bar", "price"),
    [
        ((101.0, 102.0, 99.99, 101.0), None),
        ((101.0, 102.0, 99.98, 101.0), 99.99),
        ((98.0, 99.0, 97.0, 99.0), 98.0),
    ],
    ids=["touched", "passed", "gap"],
)
def test_limit_entry(bar: Row, price: float | None) -> None:
    """The order to buy waits at 101 less 1%, which is 99.99."""
    fills, _ = both(case_of([UP, bar], parameters={"entry_offset": 0.01}, entry="limit"))
    assert [fill[4] for fill in fills] == ([pytest.approx(price)] if price else [])


@pytest.mark.parametrize(
    ("bar", "price"),
    [
        ((101.0, 102.0, 100.0, 101.0), None),
        ((101.0, 102.02, 100.0, 101.0), 102.01),
        ((104.0, 105.0, 103.0, 104.0), 104.0),
    ],
    ids=["missed", "reached", "gap"],
)
def test_stop_entry(bar: Row, price: float | None) -> None:
    """The order to buy waits at 101 and 1% more, which is 102.01."""
    fills, _ = both(case_of([UP, bar], parameters={"entry_offset": 0.01}, entry="stop"))
    assert [fill[4] for fill in fills] == ([pytest.approx(price)] if price else [])


def test_short_entries_are_mirrored() -> None:
    down: Row = (100.0, 100.0, 99.0, 99.0)
    for entry, bar, price in (
        ("limit", (99.0, 99.99, 98.0, 98.5), None),
        ("limit", (99.0, 100.0, 98.0, 98.5), 99.99),
        ("stop", (99.0, 99.5, 98.0, 98.5), 98.01),
        ("stop", (97.0, 97.5, 96.0, 96.5), 97.0),
    ):
        fills, _ = both(
            case_of([down, bar], entry=entry, allow_short=True, parameters={"entry_offset": 0.01})
        )
        assert [fill[4] for fill in fills] == ([pytest.approx(price)] if price else [])
        assert all(fill[3] < 0.0 for fill in fills)


def test_distances_of_entry_by_atr() -> None:
    """1% of 101 and two times an ATR of 0.5: 101 - 1.01 - 1 is 98.99."""
    parameters = {"entry_offset": 0.01, "entry_offset_atr": 2.0, "atr_lookback": 2}
    fills, _ = both(case_of([UP, (101.0, 101.0, 98.0, 99.0)], parameters=parameters, entry="limit"))
    assert [fill[4] for fill in fills] == [pytest.approx(98.99)]


@pytest.mark.parametrize(
    ("entry_bars", "closes", "close"),
    [
        (1, [101.0, 103.0], 103.0),
        (2, [101.0, 103.0], 101.0),
        (2, [101.0, 103.0, 104.0], 104.0),
        (3, [101.0, 103.0, 104.0], 101.0),
    ],
)
def test_a_price_is_good_for_its_bars(entry_bars: int, closes: list[float], close: float) -> None:
    """The first order is decided at 101, with a distance of 2% of the close that sets its price."""
    rows: list[Row] = [(at, at, at, at) for at in closes]
    rows.append((closes[-1], closes[-1], 98.9, closes[-1]))
    case = case_of(rows, parameters={"entry_offset": 0.02, "entry_bars": entry_bars}, entry="limit")
    fills, _ = both(case)
    assert [fill[4] for fill in fills] == [pytest.approx(close * 0.98)]


@pytest.mark.parametrize(("entry_bars", "filled_at"), [(1, []), (2, [98.98])])
def test_an_order_waits_on_hold(entry_bars: int, filled_at: list[float]) -> None:
    rows = [UP, (101.0, 101.0, 101.0, 101.0), (101.0, 101.0, 98.0, 99.0)]
    case = case_of(rows, parameters={"entry_offset": 0.02, "entry_bars": entry_bars}, entry="limit")
    fills, _ = both(case)
    assert [fill[4] for fill in fills] == pytest.approx(filled_at)


def test_a_filled_order_leaves_no_price() -> None:
    """The first order fills at 101 x 0.98; the next one, of the close at 102, waits at 99.96."""
    rows = [
        UP,
        (101.0, 102.0, 98.0, 102.0),
        (102.0, 104.0, 101.0, 104.0),
        (104.0, 104.0, 98.5, 104.0),
    ]
    case = case_of(
        rows,
        parameters={"entry_offset": 0.02, "entry_bars": 5, "weight": 0.5},
        # Interest of 30% a bar makes every close add.
        account={"cash_rate": 3.0},
        days=36.525,
        entry="limit",
    )
    fills, _ = both(case)
    assert [fill[4] for fill in fills] == pytest.approx([98.98, 99.96])


def test_a_turn_that_the_volume_cuts_leaves_no_price() -> None:
    """49 lots are to be turned around at 99; 20 are sold, so what waited at 99 x 1.01 is gone.

    The close at 98 decides anew, and 98 x 1.01 is 98.98.
    """
    rows = [
        UP,
        (101.0, 101.0, 99.0, 99.0),
        (99.0, 99.0, 98.0, 98.0),
        (98.0, 99.5, 98.0, 98.0),
        (98.0, 98.0, 98.0, 98.0),
    ]
    parameters = {"entry_offset": 0.01, "entry_bars": 5, "weight": 0.5}
    case = case_of(
        rows,
        {-3: 40.0},
        still=("B",),
        n_bars=13,
        parameters=parameters | {"correlation_penalty": 0.5, "correlation_lookback": 3},
        costs={"max_volume_share": 0.5},
        entry="limit",
        allow_short=True,
    )
    fills, _ = both(case)
    assert [fill[:4] for fill in fills] == [
        (-4, "A", "entry", 49.0),
        (-3, "A", "order", -20.0),
        (-2, "A", "order", -29.0),
        (-2, "A", "entry", -50.0),
    ]
    assert [fill[4] for fill in fills] == pytest.approx([99.99, 99.0, 98.0, 98.98])


def test_no_trade_lets_the_order_wait() -> None:
    rows = [UP, (101.0, 101.0, 90.0, 101.0), (101.0, 101.0, 98.0, 99.0)]
    parameters = {"entry_offset": 0.02, "entry_bars": 2}
    fills, _ = both(case_of(rows, {10: 0.0}, parameters=parameters, entry="limit"))
    assert [fill[0] for fill in fills] == [-1]
    assert fills[0][4] == pytest.approx(98.98)


@pytest.mark.parametrize(("entry", "price"), [("limit", 99.99), ("stop", 102.01)])
def test_stopped_in_the_bar_of_the_entry(entry: str, price: float) -> None:
    parameters = {"entry_offset": 0.01, "stop_loss": 0.05}
    fills, _ = both(case_of([UP, (101.0, 103.0, 90.0, 95.0)], parameters=parameters, entry=entry))
    assert [fill[2] for fill in fills] == ["entry", "stop"]
    assert [fill[4] for fill in fills] == pytest.approx([price, price * 0.95])


def test_no_target_in_the_bar_of_the_entry() -> None:
    """The target is 102.01 x 1.02, which is 104.0502; the next bar opens beyond it, at 105."""
    rows = [UP, (101.0, 106.0, 101.0, 105.0), (105.0, 106.0, 104.0, 104.0)]
    parameters = {"entry_offset": 0.01, "take_profit": 0.02}
    fills, _ = both(case_of(rows, parameters=parameters, entry="stop"))
    assert [(fill[0], fill[2]) for fill in fills][1:] == [(-1, "stop")]
    assert [fill[4] for fill in fills] == pytest.approx([102.01, 105.0])


@pytest.mark.parametrize(
    ("multiple", "fraction", "level"), [(2.0, 0.05, 100.0), (20.0, 0.05, 95.95)]
)
def test_the_smaller_distance_counts(multiple: float, fraction: float, level: float) -> None:
    """Bought at 101; the ATR of the bar before is 0.5."""
    parameters = {"stop_loss": fraction, "stop_loss_atr": multiple, "atr_lookback": 2}
    fills, _ = both(case_of([UP, (101.0, 101.0, 95.0, 96.0)], parameters=parameters))
    assert [fill[4] for fill in fills] == pytest.approx([101.0, level])


def test_trailing_distance_and_target_by_atr() -> None:
    """An ATR of 0.5: the target is 101 + 10 x 0.5; the stop 106 - 4 x 0.5 from a high of 106."""
    rows = [UP, (101.0, 106.0, 101.0, 105.5), (105.5, 105.5, 103.0, 105.0)]
    trailing = {"trailing_stop_atr": 4.0, "atr_lookback": 2}
    fills, _ = both(case_of(rows, parameters=trailing))
    assert [(fill[0], fill[4]) for fill in fills] == [(-2, 101.0), (-1, 104.0)]
    fills, _ = both(case_of(rows, parameters={"take_profit_atr": 10.0, "atr_lookback": 2}))
    assert [(fill[0], fill[4]) for fill in fills] == [(-2, 101.0), (-2, 106.0)]


def rising(n: int) -> list[Row]:
    """Bars that open at the close before and rise by 1, from 100 on."""
    return [(100.0 + i, 101.0 + i, 100.0 + i, 101.0 + i) for i in range(n)]


def test_time_exit() -> None:
    """Bought in bar -5; bar -4 has its second close. The signal stays, so nothing is bought again."""
    fills, _ = both(case_of(rising(6), parameters={"time_exit": 2}))
    assert [(fill[0], fill[3] > 0.0) for fill in fills] == [(-5, True), (-3, False)]


@pytest.mark.parametrize(("cooldown", "again"), [(0, None), (1, -2), (2, -1), (3, None)])
def test_cooldown(cooldown: int, again: int | None) -> None:
    """Bought and stopped in bar -4; its close would decide to enter again in bar -3."""
    rows = rising(5)
    rows[1] = (101.0, 102.0, 90.0, 102.0)
    fills, _ = both(case_of(rows, parameters={"stop_loss": 0.05, "cooldown": cooldown}))
    assert [fill[0] for fill in fills] == [-4, -4] + ([] if again is None else [again])


def test_closes_without_a_bar_count_for_no_exit() -> None:
    """Of a time exit after two closes, A lacks the second; so it does of a cooldown of two."""
    rows = rising(6)
    fills, _ = both(lacking(case_of(rows, still=("B",), parameters={"time_exit": 2}), -4))
    assert [fill[0] for fill in fills] == [-5, -2]
    rows[1] = (101.0, 102.0, 90.0, 102.0)
    parameters = {"stop_loss": 0.05, "cooldown": 2}
    fills, _ = both(lacking(case_of(rows, still=("B",), parameters=parameters), -4))
    assert [fill[0] for fill in fills] == [-5, -5, -1]


def lacking(case: Case, bar: int) -> Case:
    """A case in which A has no bar at one of the bars."""
    present = np.ones(case.bars.close.shape)
    present[bar, 0] = 0
    return replace(case, bars=replace(with_present(case.bars, present), has_volume=None))


@pytest.mark.parametrize(("fill", "wanted"), [("next_open", [-6, -5, -4]), ("close", [-7, -5, -4])])
def test_session_exit(fill: str, wanted: list[int]) -> None:
    """Four bars a day: bars -8 to -5 are one, the last four another; prices rise from bar -7 on.

    Whether bar -1 is the last one of its session is not known.
    """
    case = case_of(rising(7), session_exit=True, days=0.25, costs={"fill": fill})
    fills, _ = both(case)
    assert [(one[0], one[3] > 0.0) for one in fills] == list(
        zip(wanted, (True, False, True), strict=True)
    )


def test_maker_fee() -> None:
    """49 lots at 99.99, of which 10 bps are paid, and no spread, slippage or impact."""
    case = case_of(
        [UP, (101.0, 102.0, 99.0, 101.0)],
        parameters={"entry_offset": 0.01, "weight": 0.5},
        costs={"commission_bps": 50.0, "maker_bps": 10.0, "slippage_bps": 20.0, "spread_bps": 8.0},
        entry="limit",
    )
    _, equity = both(case)
    assert case.broker().fills[0].cost == pytest.approx(49.0 * 0.09999)
    assert equity[-1] == pytest.approx(10_000.0 + 49.0 * (101.0 - 99.99) - 49.0 * 0.09999)


def test_maker_rebate() -> None:
    case = case_of(
        [UP, (101.0, 102.0, 99.0, 101.0)],
        parameters={"entry_offset": 0.01, "weight": 0.5},
        costs={"commission_bps": 50.0, "maker_bps": -10.0},
        entry="limit",
    )
    _, equity = both(case)
    assert case.broker().fills[0].cost == pytest.approx(-49.0 * 0.09999)
    assert equity[-1] == pytest.approx(10_000.0 + 49.0 * (101.0 - 99.99) + 49.0 * 0.09999)


def with_finer(case: Case, pieces: dict[tuple[int, str], list[tuple[int, Row]]]) -> Case:
    """A case with finer bars in some of its bars, each at an hour of its bar's day."""
    bars = case.bars
    hours = 24
    shape = (bars.n_bars * hours, bars.n_symbols)
    tables = {name: np.ones(shape) for name in PRICES}
    volume, present = np.zeros(shape), np.zeros(shape, dtype=np.uint8)
    for (bar, name), rows in pieces.items():
        s = bars.symbols.index(name)
        for hour, row in rows:
            at = (bars.n_bars + bar) * hours + hour
            for table, price in zip(tables.values(), row, strict=True):
                table[at, s] = price
            volume[at, s], present[at, s] = 1e5, 1
    times = bars.timestamps[:, np.newaxis] + np.arange(hours) * np.timedelta64(1, "h")
    times = times.astype("datetime64[ns]").ravel()
    return replace(case, finer=bars_of(bars, times, tables, volume, present))


def test_finer_bars_decide_what_comes_first() -> None:
    """Bought at 101, with a stop at 95.95 and a target at 106.05; the bar reaches both."""
    parameters = {"stop_loss": 0.05, "take_profit": 0.05}
    case = case_of([UP, (101.0, 107.0, 95.0, 100.0)], parameters=parameters)
    fills, _ = both(case)
    assert [fill[4] for fill in fills] == pytest.approx([101.0, 95.95])
    path: list[tuple[int, Row]] = [
        (0, (101.0, 107.0, 101.0, 106.5)),
        (1, (106.0, 106.0, 95.0, 100.0)),
    ]
    fills, _ = both(with_finer(case, {(-1, "A"): path}))
    assert [fill[4] for fill in fills] == pytest.approx([101.0, 106.05])


def test_an_entry_and_its_target_in_two_finer_bars_of_one_bar() -> None:
    """The stop order fills at 102.01; the next finer bar reaches the target at 104.0502."""
    case = case_of(
        [UP, (101.0, 106.0, 101.0, 105.0)],
        parameters={"entry_offset": 0.01, "take_profit": 0.02},
        entry="stop",
    )
    path: list[tuple[int, Row]] = [
        (3, (101.0, 103.0, 101.0, 103.0)),
        (7, (103.0, 106.0, 102.0, 105.0)),
    ]
    fills, _ = both(with_finer(case, {(-1, "A"): path}))
    assert [fill[4] for fill in fills] == pytest.approx([102.01, 102.01 * 1.02])


def test_a_finer_bar_after_the_end_of_its_bar_is_left_out() -> None:
    """Half a day after its start the bar is over, though the next one begins a day later."""
    rows: list[Row] = [UP, (101.0, 101.0, 90.0, 100.0), (100.0, 100.0, 100.0, 100.0)]
    case = case_of(rows, days=0.5, parameters={"stop_loss": 0.05})
    times = case.bars.timestamps.copy()
    times[-1] += np.timedelta64(1, "D")
    case = replace(case, bars=replace(case.bars, timestamps=times))
    last: Row = (100.0, 100.0, 90.0, 100.0)
    for hour, stopped in ((11, True), (12, False)):
        path: list[tuple[int, Row]] = [(1, (101.0, 101.0, 96.0, 100.0)), (hour, last)]
        fills, _ = both(with_finer(case, {(-2, "A"): path}))
        assert [fill[2] for fill in fills] == ["order", "stop" if stopped else "order"]


def test_stops_in_several_finer_bars_are_one_fill() -> None:
    """99 lots, of which each finer bar's volume of 100,000 takes 40: 95.95, then twice the open."""
    case = case_of(
        [UP, (101.0, 101.0, 90.0, 90.0)],
        parameters={"stop_loss": 0.05},
        volume={-1: 3e5},
        costs={"max_volume_share": 4e-4},
    )
    path: list[tuple[int, Row]] = [
        (0, (101.0, 101.0, 95.0, 95.0)),
        (1, (94.0, 94.0, 93.0, 93.0)),
        (2, (92.0, 92.0, 90.0, 90.0)),
    ]
    fills, _ = both(with_finer(case, {(-1, "A"): path}))
    assert fills[1][3] == -99.0
    assert fills[1][4] == pytest.approx((40.0 * 95.95 + 40.0 * 94.0 + 19.0 * 92.0) / 99.0)


def test_a_symbol_without_a_finer_bar_is_worth_its_last_close() -> None:
    """200 A and 200 B at 100 on 30,000 borrowed; B falls to 90 in a bar that has no finer ones.

    At A's low of 72 the account has 14,400 + 18,000 - 30,000 = 2,400 for 32,400 of positions, less than
    a tenth; were B worth 100 as before, it would have 4,400 for 34,400.
    """
    case = plain_case(
        {"A": [86.0, 100.0, 100.0, 100.0, 100.0], "B": [86.0, 100.0, 100.0, 90.0, 90.0]},
        parameters={
            **{"weight": 2.0, "max_weight": 2.0, "max_exposure": 4.0, "stop_loss": 0.99},
            "momentum_threshold": 0.12,
        },
        account={"leverage": 4.0, "maintenance_margin": 0.1},
        sizing="weight",
    )
    lows = case.bars.low.copy()
    lows[-1, 0] = 72.0
    case = replace(case, bars=replace(case.bars, low=lows))
    still = (100.0, 100.0, 100.0, 100.0)
    case = with_finer(
        case,
        {
            (-3, "A"): [(0, still)],
            (-3, "B"): [(0, still)],
            (-1, "A"): [(0, (100.0, 100.0, 72.0, 100.0))],
            (-1, "B"): [(2, (90.0, 90.0, 90.0, 90.0))],
        },
    )
    fills, _ = both(case)
    assert fills[2:] == [(-1, "A", "liquidation", -200.0, 72.0)]
