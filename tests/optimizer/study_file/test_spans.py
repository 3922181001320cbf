"""Lengths of time in a study file: how many bars they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.bars.per_year import infer_bars_per_year
from optimizer.catalogue import CLASSIFIERS
from optimizer.errors import StudyFileError
from optimizer.search.run import run_study
from optimizer.store.export import export_sets, load_export
from optimizer.study_file.settings import Span
from optimizer.study_file.spans import bars_in, in_bars
from optimizer.study_file.study import study_from_dict
from optimizer.types import Bars, TimeArray
from tests.support.studies import mapping, random_bars, result_hashes, small_study, write_bars

DEFAULTS = ("lookback", "horizon", "train_bars", "refit_bars")


def bars_at(timestamps: TimeArray) -> Bars:
    prices = np.full((len(timestamps), 1), 10.0)
    yearly = infer_bars_per_year(timestamps)
    times = timestamps.astype("datetime64[ns]")
    return Bars(("A",), times, prices, prices, prices, prices, prices, yearly, source="bars.csv")


def days(first: str, last: str, weekdays: bool) -> TimeArray:
    every = np.arange(first, last, dtype="datetime64[D]")
    return every[np.is_busday(every)] if weekdays else every


def within(dates: TimeArray, minutes: int, n_bars: int) -> TimeArray:
    steps = np.arange(n_bars) * np.timedelta64(minutes, "m")
    times: TimeArray = np.add.outer(dates.astype("datetime64[m]"), steps).ravel()
    return times


CLOSED = ("01-01", "01-15", "02-19", "04-02", "05-28", "07-04", "09-03", "11-22", "12-25")
HOLIDAYS = np.array(
    [f"{year}-{day}" for year in range(2018, 2023) for day in CLOSED], "datetime64[D]"
)
STOCKS = np.setdiff1d(days("2018-01-01", "2022-12-31", True), HOLIDAYS)
AROUND = days("2020-01-01", "2022-01-01", False)

CALENDARS = {
    "daily stocks": (STOCKS, (30, 5, 504, 126)),
    "5 minutes of 6.5 hours": (within(STOCKS, 5, 78), (2340, 390, 39_312, 9_828)),
    "hours of 6.5 hours": (within(STOCKS, 60, 7), (210, 35, 3_528, 882)),
    "daily coins": (AROUND, (30, 5, 730, 182)),
    "5 minutes of coins": (within(AROUND, 5, 288), (8_640, 1_440, 210_240, 52_560)),
    "weeks": (np.arange("2010-01-04", "2020-01-01", 7, dtype="datetime64[D]"), (6, 1, 104, 26)),
    "months": (np.arange("2000-01", "2020-01", dtype="datetime64[M]"), (2, 1, 30, 6)),
}


@pytest.mark.parametrize("calendar", CALENDARS)
def test_defaults_are_the_same_time_on_any_bars(calendar: str) -> None:
    timestamps, expected = CALENDARS[calendar]
    study = in_bars(study_from_dict(mapping(classifier={"name": "svm"})), bars_at(timestamps))
    (table,) = study.classifiers
    found = [table.settings[name] for name in DEFAULTS]
    assert found == pytest.approx(expected, rel=0.01)
    assert all(isinstance(number, int) for number in found)
    for one in CLASSIFIERS["svm"]:
        if calendar == "daily stocks":
            assert table.settings[one.name] == one.default
        assert one.low <= float(str(table.settings[one.name])) <= one.high


@given(
    st.integers(1, 40),
    st.sampled_from([("d", 1.0), ("w", 252 * 7 / 365.25), ("mo", 21), ("y", 252)]),
)
def test_units_of_daily_bars(number: int, unit: tuple[str, float]) -> None:
    assert bars_in(Span(number, unit[0]), bars_at(STOCKS)) == pytest.approx(number * unit[1])


def test_numbers_of_bars_keep_their_meaning() -> None:
    given_ = {"name": "svm", "lookback": 20, "horizon": {"choices": [2, 5]}, "train_bars": 504,
              "refit_bars": {"sweep": [50, 100]}}  # fmt: skip
    study = study_from_dict(mapping(classifier=given_, risk={"correlation_refresh": 5}))
    for calendar in CALENDARS:
        found = in_bars(study, bars_at(CALENDARS[calendar][0]))
        assert found.classifiers == study.classifiers
        assert found.content_hash == study.content_hash


def test_a_length_of_time_survives_a_dictionary() -> None:
    study = study_from_dict(mapping(classifier={"name": "hmm", "train_bars": "3y"}))
    written = study.to_dict()["classifier"][0]
    assert (written["train_bars"], written["refit_bars"]) == ("3y", "6mo")
    assert study_from_dict(study.to_dict()).classifiers == study.classifiers


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("train_bars", bad) for bad in ("2", "y", "2 years", "-1y", "0d", "1.5y", "2q", "5min")),
        ("train_bars", {"choices": ["1y", "2y"]}),
        ("horizon", {"sweep": ["1d"]}),
    ],
)
def test_a_length_that_is_none_is_refused_in_one_line(key: str, value: Any) -> None:
    with pytest.raises(StudyFileError) as raised:
        study_from_dict(mapping(classifier={"name": "svm", key: value}))
    assert "\n" not in str(raised.value)
    assert f"[classifier] {key}" in str(raised.value)
    assert "a length of time such as" in str(raised.value) or "whole number" in str(raised.value)


def test_other_parameters_take_no_length() -> None:
    with pytest.raises(StudyFileError, match=r"\[risk\] time_exit: got \"5d\"; expected a number"):
        study_from_dict(mapping(risk={"time_exit": "5d"}))


def test_a_length_out_of_bounds_names_its_bars() -> None:
    study = study_from_dict(mapping(classifier={"name": "hmm", "train_bars": "1mo"}))
    words = r'\[classifier\] train_bars = "1mo": 21 bars; expected 30 to 1,000,000'
    with pytest.raises(StudyFileError, match=words):
        in_bars(study, bars_at(STOCKS))


def test_a_study_records_and_exports_bars(tmp_path: Path) -> None:
    data = write_bars(tmp_path / "bars.parquet", random_bars(400))
    results = []
    for name, fit in (
        ("time", {"lookback": "5d", "train_bars": "12w", "refit_bars": "2mo"}),
        ("bars", {"lookback": 5, "train_bars": 58, "refit_bars": 42}),
    ):
        study = small_study(data, classifier={"name": "hmm", **fit})
        results.append(run_study(study, out=tmp_path / name, workers=1))
    assert result_hashes(results[0].folder) == result_hashes(results[1].folder)
    studies = [result.folder.manifest()["study"] for result in results]
    assert studies[0] == studies[1]
    (best,) = load_export(export_sets(results[0].folder.path))["sets"]
    found = [best["parameters"][f"hmm_{name}"] for name in ("lookback", "train_bars", "refit_bars")]
    assert found == [5, 58, 42]
