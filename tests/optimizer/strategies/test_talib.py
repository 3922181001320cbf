"""Functions of TA-Lib that a strategy's file asks for by name."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import talib

import optimizer
from optimizer.errors import StrategyError
from optimizer.market.feature_keys import FeatureKey
from optimizer.market.features import compute_features
from optimizer.market.talib_features import TalibFeature, talib_warm_up
from optimizer.review.replay import replay
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.strategies.user import read_strategy
from optimizer.study_file.study import study_from_dict
from tests.support.studies import mapping, random_bars, write_bars

FILE = """
from optimizer import FLAT, LONG, feature, top

PARAMETERS = {"days": (5, 2, 100), "least": (20.0, 0.0, 100.0)}
FEATURES = {
    "trend": ("talib.ADX", "days"),
    "histogram": ("talib.MACD.macdhist", 4, "days", 3),
    "upper": ("talib.BBANDS.upperband", "days", 1.5),
    "parabolic": ("talib.SAR",),
    "pattern": ("talib.CDLENGULFING",),
    "strong": top("talib.RSI", "days", n=2),
    "weekly": feature("talib.EMA", 3, timeframe="1w"),
}


def signal(trend, histogram, upper, parabolic, pattern, strong, weekly, close, least):
    up = histogram > 0.0 or close > upper or (pattern > 0.0 and close > parabolic)
    return (LONG if up and trend > least and (strong > 0.0 or close > weekly) else FLAT), 0.001, 1.0
"""


def test_the_values_are_those_of_talib() -> None:
    bars = random_bars(200)
    keys: list[FeatureKey] = [("talib.ADX", 7), ("talib.MACD.macdsignal", 4, 9, 3), ("talib.OBV",)]
    given = {key[0]: TalibFeature(key[0], "", "") for key in keys}
    columns = compute_features(bars, keys, given)
    for s in range(bars.n_symbols):
        high, low, close, volume = (
            np.array(getattr(bars, name)[:, s]) for name in ("high", "low", "close", "volume")
        )
        for key, expected in (
            (keys[0], talib.ADX(high, low, close, timeperiod=7)),
            (keys[1], talib.MACD(close, fastperiod=4, slowperiod=9, signalperiod=3)[1]),
            (keys[2], talib.OBV(close, volume)),
        ):
            found = columns.values[:, s, columns.index(key)]
            np.testing.assert_array_equal(found, expected)
            assert np.isfinite(found).argmax() == talib_warm_up(key[0], tuple(key[1:]))


def test_a_study_is_replayed_bar_by_bar(tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.parquet", random_bars(300))
    (tmp_path / "mine.py").write_text(FILE)
    table = {"name": "mine", "path": "mine.py", "days": {"choices": [5, 9]}}
    table["least"] = {"sweep": [10.0, 25.0]}
    risk = {"kelly_fraction": 0.3, "max_exposure": 1.0, "volatility_lookback": 10}
    content = {**mapping(search={"sampler": "grid"}, risk=risk), "strategy": table}
    study = study_from_dict(content, tmp_path)
    assert study_from_dict(study.to_dict(), tmp_path).content_hash == study.content_hash
    run_study(study, out=tmp_path / "out", workers=1)
    file = export_sets(tmp_path / "out")
    found = replay(file, events=True)
    assert found.differences == ()
    assert found.parity is not None and found.parity.differences == ()
    assert len(optimizer.backtest(random_bars(300), file).fills) > 10
    assert not optimizer.look_ahead_check(study, random_bars(300))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            '("talib.ADXX", "days")',
            r"TA-Lib has no function 'ADXX' of bars; did you mean ADX, .{,160}$",
        ),
        ('("talib.MAVP", 2, 9)', "TA-Lib has no function 'MAVP' of bars"),
        ('("talib.MACD", 4)', r"talib\.MACD gives macd, macdsignal, macdhist; name one, such as"),
        ('("talib.MACD.signal", 4)', "MACD gives macd, macdsignal, macdhist"),
        ('("talib.ADX", 4, 5)', r"takes 1 parameter \(timeperiod\), and 2 are given; leave out 1"),
        ('("talib.OBV", 4)', "takes no parameter, and 1 are given"),
        ('("talib.ADX", 4.5)', "timeperiod must be a whole number, got 4.5"),
        ('("talib.ADX", 1)', "timeperiod = 1: .*[Bb]ad [Pp]arameter"),
        ('("talib.ADX", "weeks")', "'weeks' is not in PARAMETERS"),
    ],
)
def test_what_talib_does_not_have_is_refused(tmp_path: Path, entry: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(FILE.replace('("talib.ADX", "days")', entry))
    with pytest.raises(StrategyError, match=rf"mine\.py:6: FEATURES: trend: .*{message}"):
        read_strategy(tmp_path / "mine.py", "mine")


@pytest.mark.parametrize(
    ("length", "given", "message"),
    [
        (1, ["days"], "timeperiod = 1: .*[Bb]ad [Pp]arameter.*; take other values of days in"),
        (1, [1], "timeperiod = 1: .*[Bb]ad [Pp]arameter.*; take other numbers there"),
        (5, ["days"], "timeperiod = 5: .*lengths.*; take other values of days in"),
    ],
)
def test_what_talib_refuses_while_it_runs_is_said_with_its_place(
    length: int, given: list[str | float], message: str
) -> None:
    feature = TalibFeature("talib.ADX", "mine.py:6", "trend", given)
    bars = {name: np.ones(40) for name in ("open", "high", "low", "close", "volume")}
    bars["high"] = np.ones(39)
    with pytest.raises(
        StrategyError, match=rf"^mine\.py:6: FEATURES: trend: talib\.ADX: {message}"
    ):
        feature(bars, (length,))


def test_without_the_extra_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(FILE.replace('"talib.ADX"', '"talib.DX"'))
    monkeypatch.setitem(sys.modules, "talib", None)
    with pytest.raises(StrategyError, match=r"mine\.py:6: .*pip install 'barsweep\[talib\]'"):
        read_strategy(tmp_path / "mine.py", "mine")
