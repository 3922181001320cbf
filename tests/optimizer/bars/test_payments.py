"""Columns of funding and dividends: by hand, through both kinds of file, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w

from optimizer.bars.load import load_bars
from optimizer.errors import DataError
from optimizer.review.replay import replay
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.sweep.inputs import Inputs
from optimizer.types import Bars
from tests.reference.selection import inputs_of
from tests.support.command import barsweep
from tests.support.studies import mapping, random_bars, small_study, write_bars

COLUMNS: dict[str, Any] = {"funding": "rate", "dividends": "Cash Dividend"}


def frame(**columns: Any) -> pd.DataFrame:
    """Four days of A, which closes at 10, 20, 40 and 80, and the last three of B at half of that."""
    days = pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-06"])
    close = [10.0, 20.0, 40.0, 80.0]
    a = pd.DataFrame({"symbol": "A", "date": days, "close": close})
    b = pd.DataFrame({"symbol": "B", "date": days[1:], "close": [5.0, 10.0, 20.0]})
    rows = pd.concat([a, b], ignore_index=True)
    return rows.assign(
        open=rows["close"], high=rows["close"], low=rows["close"], volume=1.0, **columns
    )


def written(path: Path, table: pd.DataFrame) -> Path:
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)
    return path


@pytest.mark.parametrize("name", ["bars.csv", "bars.parquet"])
def test_payments_by_hand(tmp_path: Path, name: str) -> None:
    table = frame(
        **{
            "Rate": [0.5, 0.01, None, -0.02, 0.1, None, 0.2],
            "cash dividend": [9.0, None, 1.5, 0.0, 7.0, 0.25, None],
        }
    )
    bars = load_bars(written(tmp_path / name, table), align="outer", **COLUMNS)
    # The first row of a symbol pays nothing. A: 1% of 10; 1.5; -2% of 40. B: 0.25; 20% of 10.
    assert bars.payments is not None
    assert bars.payments[:, 0].tolist() == pytest.approx([0.0, -0.1, 1.5, 0.8])
    assert bars.payments[:, 1].tolist() == pytest.approx([0.0, 0.0, 0.25, -2.0])
    assert not bars.payments.flags.writeable
    # One of them alone, and neither.
    funding = load_bars(tmp_path / name, align="outer", funding="Rate").payments
    assert funding is not None
    assert funding[:, 0].tolist() == pytest.approx([0.0, -0.1, 0.0, 0.8])
    plain = load_bars(tmp_path / name, align="outer")
    assert plain.payments is None
    assert plain.content_hash != bars.content_hash


def test_payments_of_a_bar_that_is_left_out_come_in_the_next(tmp_path: Path) -> None:
    table = frame(paid=[0.0, 1.0, 2.0, 4.0, 0.0, 0.0, 0.0])
    table = table[~((table["symbol"] == "B") & (table["date"] == "2020-01-03"))]
    bars = load_bars(written(tmp_path / "bars.csv", table), dividends="paid")
    assert bars.n_bars == 2
    assert bars.payments is not None
    assert bars.payments[:, 0].tolist() == [1.0, 6.0]


def test_columns_that_pay_nothing_leave_the_bars_as_they_are(tmp_path: Path) -> None:
    path = written(tmp_path / "bars.csv", frame(paid=[0.0, None, 0.0, 0.0, 5.0, 0.0, 0.0]))
    assert load_bars(path, dividends="paid").payments is None


@pytest.mark.parametrize(
    ("columns", "given", "parts"),
    [
        (
            {"paid": [0.0, -1.0, *[0.0] * 5]},
            {"dividends": "paid"},
            ["line 3", "paid is -1", "0 or"],
        ),
        ({"rate": [0.0, 1.0, *[0.0] * 5]}, {"funding": "rate"}, ["line 3", "rate is 1;", "0.0001"]),
        ({"rate": [0.0] * 6 + [-1.5]}, {"funding": "rate"}, ["line 8 (B, 2020-01-06)", "-1.5"]),
        ({"rate": ["x", *["0"] * 6]}, {"funding": "rate"}, ["line 2", "rate is not a number: 'x'"]),
        ({"rate": ["inf", *["0"] * 6]}, {"funding": "rate"}, ["line 2", "must be finite"]),
        ({}, {"funding": "close"}, ["funding", '"close" is read for something else']),
        (
            {"rate": [0.0] * 7},
            {"funding": "rate", "dividends": "rate"},
            ["dividends", '"rate" is read for something else'],
        ),
        ({"rate": [0.0] * 7}, {"funding": "rats"}, ['no column "rats"', 'did you mean "rate"?']),
        (
            {"rate": [0.0] * 7, "Rate": [0.0] * 7},
            {"funding": "rate"},
            ["several columns", "keep one"],
        ),
    ],
)
def test_what_is_refused(
    tmp_path: Path, columns: dict[str, Any], given: dict[str, Any], parts: list[str]
) -> None:
    path = written(tmp_path / "bars.csv", frame(**columns))
    with pytest.raises(DataError) as caught:
        load_bars(path, align="outer", **given)
    text = str(caught.value)
    assert text.startswith(str(path))
    for part in parts:
        assert part in text


def with_columns(path: Path, bars: Bars) -> Path:
    """Bars in a file with funding of 0.1% a bar and a dividend of 1 in bar 200."""
    write_bars(path, bars)
    table = pd.read_parquet(path)
    day = bars.timestamps[200]
    paid = np.where(table["timestamp"] == day, 1.0, 0.0)
    table.assign(rate=0.001, paid=paid).to_parquet(path, index=False)
    return path


def test_a_missing_column_is_one_line_at_check(tmp_path: Path) -> None:
    path = with_columns(tmp_path / "bars.parquet", random_bars())
    study = mapping(path.name, data={"funding": "fundingRate"})
    (tmp_path / "study.toml").write_text(tomli_w.dumps(study))
    done = barsweep("check", "study.toml", folder=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    for part in (str(path), '"fundingRate"', "[data] funding", "rate, paid", "leave funding out"):
        assert part in lines[0]


def test_a_study_pays_in_its_workers_and_its_export_replays(tmp_path: Path) -> None:
    bars = random_bars()
    path = with_columns(tmp_path / "bars.parquet", bars)
    study = small_study(path, data={"funding": "rate", "dividends": "paid"}, search={"trials": 2})
    out = tmp_path / "out"
    result = run_study(study, out=out, workers=2)
    previous = np.vstack([bars.close[:1], bars.close[:-1]])
    expected = -0.001 * previous
    expected[200] += 1.0
    expected[0] = 0.0
    inputs = inputs_of(result)[1]
    assert inputs.bars.payments == pytest.approx(expected)
    inputs.save(tmp_path / "inputs")
    mapped = Inputs.load(tmp_path / "inputs")
    assert mapped.bars.content_hash == inputs.bars.content_hash
    assert mapped.payments.tolist() == inputs.payments.tolist()
    assert inputs.window(50, 60, 70).payments.tolist() == inputs.payments[:70].tolist()
    again = replay(export_sets(out), events=True)
    assert again.recorded["in_sample"]["carry"] != 0.0
    assert again.differences == ()
    assert again.parity is not None
    assert again.parity.differences == ()
