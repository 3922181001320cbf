"""What reads ahead is found and named; what does not passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimizer
from optimizer.errors import DataError
from optimizer.flow import look_ahead
from optimizer.flow.look_ahead import LookAhead
from optimizer.study_file.study import study_from_dict
from optimizer.sweep.inputs import MarketRegime, RegimeKey
from optimizer.types import Bars
from tests.support.studies import mapping, random_bars

FILE = """
import numpy as np
import pandas as pd
from optimizer import HOLD, LONG

PARAMETERS = {"lookback": (10, 2, 50), "threshold": (0.0, -10.0, 10.0)}


def honest(close, lookback):
    return pd.Series(close).pct_change(lookback).to_numpy()


def suspect(open, high, low, close, volume, lookback):
    x = pd.Series(close)
    return %s


FEATURES = {"moved": (honest, "lookback"), "seen": (suspect, "lookback")}


def signal(moved, seen, threshold):
    return (LONG if seen > threshold else HOLD), abs(moved), 1.0
"""


def found_in(tmp_path: Path, suspect: str, bars: Bars) -> list[LookAhead]:
    (tmp_path / "mine.py").write_text(FILE % suspect)
    content = mapping(
        strategy=[
            {"name": "mine", "path": "mine.py", "lookback": {"choices": [10, 20]}},
            {"name": "momentum"},
        ]
    )
    return optimizer.look_ahead_check(study_from_dict(content, tmp_path), bars)


@pytest.mark.parametrize(
    "suspect",
    [
        "x.pct_change(lookback)",
        "x.rolling(lookback).std() + high - low",
        "x / x.expanding().mean()",
        "np.log(volume) - open",
        "x.shift(1).fillna(0.0) / close",
    ],
)
def test_what_reads_no_bar_ahead_passes(tmp_path: Path, suspect: str) -> None:
    assert found_in(tmp_path, suspect, random_bars()) == []


@pytest.mark.parametrize(
    ("suspect", "reach"),
    [
        ("x.shift(-1) / x", 1),
        ("np.roll(close, -1) / close", 1),
        ("x.rolling(5, center=True).mean() / x", 2),
        ("(x - x.mean()) / x.std()", None),
        ("close / close[-1]", None),
        ("x[::-1].cummax()[::-1] / x", 299),
        ("np.roll(volume, -3) / volume", 3),
    ],
)
def test_a_feature_that_reads_ahead_is_named_with_its_bar(
    tmp_path: Path, suspect: str, reach: int | None
) -> None:
    bars = random_bars()
    found = found_in(tmp_path, suspect, bars)
    features = {one.name: one for one in found if one.kind == "feature"}
    assert set(features) == {"mine.suspect_10", "mine.suspect_20"}
    for name, one in features.items():
        lookback = int(name.rpartition("_")[2])
        assert one.symbol in bars.symbols
        assert one.time == str(bars.timestamps[one.bar])[:16]
        if reach is None:  # of the whole series: wrong from its first bar on
            assert one.bar == lookback
        else:
            assert max(lookback, one.cut - reach) <= one.bar < one.cut
        assert f"feature {name} of {one.symbol} at {one.time} (bar {one.bar})" in str(one)
    # The strategy that takes it; momentum does not.
    assert {one.name for one in found if one.kind == "signal"} <= {"mine"}


def test_a_strategy_whose_signal_rests_on_a_later_bar_is_named(tmp_path: Path) -> None:
    found = found_in(tmp_path, "x.shift(-1) - x", random_bars())
    assert [one.name for one in found if one.kind == "signal"] == ["mine"]


def test_a_classifier_that_reads_ahead_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit_on_everything(
        bars: Bars, key: RegimeKey, probabilities: bool
    ) -> tuple[MarketRegime, str]:
        index = bars.close.mean(axis=1)
        return MarketRegime(np.sign(index - index.mean()).astype(np.int8)), ""

    content: dict[str, Any] = mapping(
        classifier={"name": "svm", "lookback": 5, "train_bars": 60, "refit_bars": 40}
    )
    study, bars = study_from_dict(content, tmp_path), random_bars()
    assert optimizer.look_ahead_check(study, bars) == []
    monkeypatch.setattr(look_ahead, "fit_key", fit_on_everything)
    found = optimizer.look_ahead_check(study, bars)
    assert [(one.kind, one.name, one.symbol) for one in found] == [("regime", "svm", "")]
    assert "regime svm at 20" in str(found[0])


def test_too_few_bars(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="look-ahead check needs 65"):
        found_in(tmp_path, "x", random_bars(50))
