"""No message of an import leads to a loss of data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimizer.bars.fixes import Fixes
from optimizer.bars.import_report import Finding, ImportRefusedError, advice_on
from optimizer.bars.importing import import_bars
from optimizer.bars.load import load_bars
from optimizer.errors import DataError

DROPS = ("--drop-duplicates", "--drop-bad-rows", "--sort")


def coins(column: str | None, names: Sequence[str] = ("BTC", "ETH", "SOL")) -> pd.DataFrame:
    """Three coins one below the other, each with prices of its own."""
    days = pd.date_range("2023-01-01", periods=30).astype(str)
    parts = []
    for number, name in enumerate(names, 1):
        close = np.arange(30.0) + 100.0 * number
        part = pd.DataFrame({"date": days, "open": close, "high": close + 1, "low": close - 1})
        part = part.assign(close=close, volume=5.0)
        parts.append(part if column is None else part.assign(**{column: name}))
    return pd.concat(parts)


def refusal(path: Path, fixes: Fixes | None = None) -> str:
    out = path.with_name("out.parquet")
    with pytest.raises(ImportRefusedError) as caught:
        import_bars([path], out, fixes=fixes)
    text = str(caught.value)
    assert not out.exists() and "\n" not in text
    # The lines of the report name no option that the message does not.
    shown = " ".join(caught.value.report.lines())
    assert all(option in text for option in re.findall(r"--[a-z-]+", shown))
    return text


def following(message: str) -> Fixes:
    """The options that a message asks to add."""
    added = re.search(r"or add ((?:--[a-z-]+ ?)+)", message)
    names = added[1].split() if added else []
    return Fixes(**{name[2:].replace("-", "_"): True for name in names})


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("column", ["pair", "Pair", "coin", "tic", "instrument", "asset", "Code"])
def test_columns_of_symbols_under_other_names(tmp_path: Path, column: str, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    frame = coins(column)
    if kind == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    report = import_bars([path], tmp_path / "out.parquet")
    assert [(one.symbol, one.bars) for one in report.symbols] == [
        ("BTC", 30), ("ETH", 30), ("SOL", 30),
    ]  # fmt: skip
    assert load_bars(path).content_hash == load_bars(tmp_path / "out.parquet").content_hash


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("column", ["underlying", "venue", "Kontrakt"])
@pytest.mark.parametrize("by_time", [False, True])
def test_a_column_that_tells_rows_apart_is_suspected(
    tmp_path: Path, column: str, kind: str, by_time: bool
) -> None:
    path = tmp_path / f"x.{kind}"
    frame = coins(column)
    frame = frame.sort_values("date", kind="stable") if by_time else frame
    if kind == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    said = f"column {column} (BTC, ETH, SOL) tells apart rows of one time"
    text = refusal(path)
    assert said in text and "call it symbol" in text
    assert not any(option in text for option in DROPS)
    with pytest.raises(DataError, match=re.escape(said)):
        load_bars(path)
    # What the message says leads to the three coins.
    renamed = frame.rename(columns={column: "symbol"})
    renamed.to_csv(tmp_path / "y.csv", index=False)
    report = import_bars([tmp_path / "y.csv"], tmp_path / "out.parquet")
    assert [one.bars for one in report.symbols] == [30, 30, 30]


def test_a_second_column_may_tell_rows_apart(tmp_path: Path) -> None:
    frame = pd.concat([coins("symbol").assign(exchange=name) for name in ("A", "B")])
    path = tmp_path / "x.csv"
    frame.to_csv(path, index=False)
    text = refusal(path)
    assert "column exchange (A, B) tells apart rows of one time" in text
    assert not any(option in text for option in DROPS)


def test_symbols_without_any_column(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    coins(None).to_csv(path, index=False)
    text = refusal(path)
    assert "as those of several symbols do" in text and not any(one in text for one in DROPS)


def test_several_files_keep_what_tells_their_rows_apart(tmp_path: Path) -> None:
    paths = []
    for name in ("a", "b"):
        frame = coins("venue", ["X", "Y"])
        paths.append(tmp_path / f"{name}.csv")
        frame.to_csv(paths[-1], index=False)
    with pytest.raises(ImportRefusedError, match=r"column venue \(X, Y\)") as caught:
        import_bars(paths, tmp_path / "out.parquet")
    assert not any(option in str(caught.value) for option in DROPS)


def test_a_text_that_repeats_no_time_is_mentioned(tmp_path: Path) -> None:
    """Two contracts one after the other read as one symbol; the report says so."""
    contracts = pd.Series(["ESH3"] * 15 + [None] + ["ESM3"] * 14)
    frame = coins(None)[:30].assign(contract=contracts)
    path = tmp_path / "x.csv"
    frame.to_csv(path, index=False)
    report = import_bars([path], tmp_path / "out.parquet")
    assert "not read: contract (ESH3, ESM3); if it names symbols" in report.sources[0]


def test_rows_that_are_alike_are_still_dropped_on_advice(tmp_path: Path) -> None:
    frame = coins("symbol")
    path = tmp_path / "x.csv"
    pd.concat([frame, frame[:10]]).to_csv(path, index=False)
    text = refusal(path)
    assert "--drop-duplicates would drop 10 of 100 rows" in text
    import_bars([path], tmp_path / "out.parquet", fixes=following(text))
    assert load_bars(tmp_path / "out.parquet").n_bars == 30


@pytest.mark.parametrize(("bad", "said"), [(1, False), (2, True), (40, True)])
def test_a_hint_that_drops_more_than_a_hundredth_says_so(
    tmp_path: Path, bad: int, said: bool
) -> None:
    frame = coins(None)[:30]
    frame = pd.concat([frame] * 5).assign(date=pd.date_range("2023-01-01", periods=150).astype(str))
    frame["high"] = frame["high"].where((np.arange(150) < 5) | (np.arange(150) >= 5 + bad), 1.0)
    path = tmp_path / "x.csv"
    frame.to_csv(path, index=False)
    text = refusal(path)
    assert "add --drop-bad-rows" in text
    assert (f"--drop-bad-rows would drop {bad} of 150 rows" in text) is said


def test_no_hint_to_drop_most_rows(tmp_path: Path) -> None:
    frame = coins(None)[:30].rename(columns={"high": "low", "low": "high"})
    path = tmp_path / "x.csv"
    frame.to_csv(path, index=False)
    text = refusal(path)
    assert "most rows are no bars" in text and "--drop" not in text


def test_rows_without_any_price_may_be_dropped(tmp_path: Path) -> None:
    """Minutes without a trade, as rows without a value, are no data."""
    frame = coins(None)[:30].set_index("date")
    frame.iloc[::2] = np.nan
    frame = frame.reset_index()
    path = tmp_path / "x.csv"
    frame.to_csv(path, index=False)
    text = refusal(path)
    assert "add --drop-bad-rows; --drop-bad-rows would drop 15 of 30 rows" in text


def test_newest_first_is_turned_round_and_anything_else_is_not(tmp_path: Path) -> None:
    frame = coins("symbol")
    path = tmp_path / "x.csv"
    frame.to_csv(path, index=False)
    content = load_bars(path).content_hash
    for turned in (frame[::-1], frame.sort_values("date", ascending=False, kind="stable")):
        turned.to_csv(path, index=False)
        assert load_bars(path).content_hash == content
        import_bars([path], tmp_path / "turned.parquet", overwrite=True)
        assert load_bars(tmp_path / "turned.parquet").content_hash == content
    # One symbol with its newest row first, another with its oldest: not turned.
    pd.concat([frame[:30][::-1], frame[30:]]).to_csv(path, index=False)
    assert "out of order in time" in refusal(path.rename(tmp_path / "z.csv"))


def test_advice_in_words() -> None:
    few = Finding("bad", 1, "line 2", "--drop-bad-rows", False, 1)
    assert advice_on([few], 100) == "correct the file, or add --drop-bad-rows"
    assert advice_on([few, few], 100).endswith("; --drop-bad-rows would drop 2 of 100 rows")
