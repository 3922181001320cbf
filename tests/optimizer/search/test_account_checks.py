"""What an account cannot trade on its bars, and what it is warned of."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from optimizer.errors import StudyFileError
from optimizer.search.account_checks import check_account
from optimizer.study_file.study import study_from_dict
from optimizer.types import Bars
from tests.support.studies import mapping, random_bars

BARS = random_bars(120)


def priced(*closes: float, bars: Bars = BARS) -> Bars:
    """Bars of one price for each symbol."""
    flat = np.tile(np.array(closes), (bars.n_bars, 1))
    return replace(bars, open=flat, high=flat.copy(), low=flat.copy(), close=flat.copy())


def check(bars: Bars, **tables: Any) -> None:
    check_account(study_from_dict(mapping(**tables)), bars)


def refused(bars: Bars, **tables: Any) -> str:
    with pytest.raises(StudyFileError) as caught:
        check(bars, **tables)
    message = str(caught.value)
    assert message.splitlines() == [message]
    return message


def test_a_lot_dearer_than_the_cash_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    dear = priced(60_000.0, 20.0, 20.0)
    cash = {"initial_cash": 10_000}
    message = refused(dear, costs=cash)
    for part in (
        "[instruments.AAA] lot_size: one lot of AAA",
        "60,000",
        "initial_cash = 10,000",
        "set it to 0.0001, or [risk] lot_size = 0.0001",
    ):
        assert part in message
    check(dear, costs=cash, risk={"lot_size": 0.0001})
    check(dear, costs=cash, instruments={"AAA": {"lot_size": 0.0001}})
    assert not caplog.records
    # A future whose value is borrowed can be traded, but not in fine steps.
    check(dear, costs=cash, account={"leverage": 7, "maintenance_margin": 0.1})
    assert "AAA 600.0%" in caplog.text
    assert "(and 2 more)" in refused(dear, costs={"initial_cash": 10})
    assert "multiplier" in refused(priced(100, 1, 1), instruments={"AAA": {"multiplier": 5_000}})


def test_a_coarse_lot_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    check(priced(999.0, 1_000.0, 10.0))
    assert not caplog.records
    check(priced(999.0, 1_001.0, 2_000.0))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "BBB 1.0%, CCC 2.0%; where fractions are traded set [instruments.CCC]" in caplog.text


def test_symbols_that_the_file_lacks_are_refused() -> None:
    assert '"aaa" is not among' in refused(BARS, costs={"impact": {"aaa": 1.0}})
    assert 'did you mean "AAA"?' in refused(BARS, instruments={"aaa": {}})
    assert "tick size of AAA, BBB, CCC" in refused(BARS, costs={"spread_ticks": 1.0})
    other = refused(BARS, classifier=[{"name": "none"}, {"name": "hmm", "market": "VIX"}])
    assert '[[classifier]] #2 market: "VIX" is not among the symbols of [data]' in other


def test_a_back_end_that_joblib_does_not_know_is_refused() -> None:
    message = refused(BARS, workers={"backend": "threads"})
    assert '[workers] backend: got "threads"; did you mean "threading"?' in message
    check(BARS, workers={"backend": "threading"})


def test_costs_that_need_volume_are_refused_without() -> None:
    volume = BARS.volume.copy()
    volume[:, 1] = 0.0
    bars = replace(BARS, volume=volume)
    for name in ("impact", "max_volume_share"):
        varied = {name: {"sweep": [0.0, 0.5]}}
        check(BARS, costs=varied)
        message = refused(bars, costs=varied)
        assert f"[costs] {name}: needs volume, and the bars of BBB have none" in message
        assert f"{name} = {{BBB = 0.0" in message
        check(bars, costs={name: {"BBB": 0.0, "default": 0.5}})


def test_a_symbol_like_cash_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    close = BARS.close.copy()
    close[:, 2] = 100.0 * 1.02 ** (np.arange(BARS.n_bars) / BARS.bars_per_year)
    bars = replace(BARS, close=close)
    check(BARS)
    check(bars, account={"risk_free": 0.02})
    check(bars, account={"cash_rate": 0.02})
    assert not caplog.records
    check(bars)
    assert "CCC behaves like cash" in caplog.text
    assert "set [account] risk_free, such as 0.020" in caplog.text
    caplog.clear()
    fallen = close.copy()
    fallen[60:, 2] *= 0.98
    check(replace(BARS, close=fallen))
    assert not caplog.records


def test_a_rate_in_percent_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    check(BARS, account={"cash_rate": 4.25})
    assert len(caplog.records) == 1
    assert "[account] cash_rate: 4.25 is 425% a year" in caplog.text


@pytest.mark.parametrize(
    ("tables", "place", "why"),
    [
        ({"risk": {"weight": 0.2}}, "[risk] weight", 'sizing = "kelly" does not read it'),
        ({"risk": {"bear_multiplier": 0.0}}, "[risk] bear_multiplier", "every bar is neutral"),
        ({"risk": {"max_positions": 3}}, "[risk] max_positions", "there are 3 symbols"),
        ({"risk": {"max_weight": 2.0}}, "[risk] max_weight", "max_exposure = 1 allows no"),
        ({"risk": {"atr_lookback": 5}}, "[risk] atr_lookback", "multiple of the ATR"),
        (
            {"risk": {"correlation_penalty": 0.0, "correlation_lookback": 30}},
            "[risk] correlation_lookback",
            "correlation_penalty is 0",
        ),
        ({"account": {"financing_bps_year": 1.0}}, "[account] financing_bps_year", "leverage is 1"),
        ({"validation": {"train_blocks": 4}}, "[validation] train_blocks", 'method is "none"'),
    ],
)
def test_what_has_no_effect_is_said(
    tables: dict[str, Any], place: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    check(BARS, **tables)
    (record,) = caplog.records
    message = record.getMessage()
    assert f"<study>: {place} has no effect here: " in message and why in message


@pytest.mark.parametrize(
    "tables",
    [
        {"risk": {"sizing": "weight", "weight": 0.2, "kelly_fraction": 0.25}},
        {"risk": {"max_positions": 2, "atr_lookback": 5, "stop_loss_atr": 2.0}},
        {"account": {"financing_bps_year": 1.0, "leverage": 2.0}},
        {"validation": {"train_blocks": 4, "method": "walk_forward"}},
    ],
)
def test_what_has_an_effect_is_not(
    tables: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    check(BARS, **tables)
    assert not caplog.records


@pytest.mark.parametrize("name", ["stop_loss", "trailing_stop"])
def test_a_stop_that_no_price_reaches_is_refused(name: str) -> None:
    with pytest.raises(StudyFileError, match=rf"\[risk\] {name}: 1 is a fall to a price of 0"):
        study_from_dict(mapping(risk={name: {"sweep": [0.05, 1.0]}}))
    study_from_dict(mapping(risk={name: 1.0, "allow_short": True}))
