"""Names from files: one rule wherever one is read, escaped wherever one is shown."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.text import Text

from optimizer.bars.load import load_bars
from optimizer.cli import console
from optimizer.errors import DataError, ExportError, StudyError, StudyFileError, escaped
from optimizer.review.replay import replay
from optimizer.search.run import run_study
from optimizer.store.export import export_sets, load_export
from optimizer.store.folder import StudyFolder
from optimizer.study_file.study import study_from_dict
from optimizer.text import name_problem
from optimizer.views.tearsheet import write_tearsheet
from tests.support.command import barsweep
from tests.support.studies import mapping, random_bars, small_study, write_bars

ODD = (
    "a\x1b[2Jb",
    "a\rb",
    "a\x07b",
    "a\nb",
    "a\x00b",
    "a\x9bb",
    "a\u202eb",
    "a\u2066b",
    "a\u200bb",
    "a\ufeffb",
    "a\u2028b",
    "x" * 201,
)
"""Names that no file may hold: they act on a terminal, show another name, or have no end."""

MARKUP = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize(
    "name", ["AAA", "BTC/USDT:USDT", "^GSPC", "BRK.B", "é" * 200, "日経", MARKUP]
)
def test_what_is_a_name(name: str) -> None:
    assert name_problem(name) == ""
    assert escaped(name) == name


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_one_rule_at_every_reading(name: str, tmp_path: Path) -> None:
    assert name_problem(name)
    bars = random_bars(30, ("AAA", name))
    if "\x00" not in name:
        path = write_bars(tmp_path / "bars.parquet", bars)
        with pytest.raises(DataError) as refused:
            load_bars(path)
        assert "bars.parquet, row 31: symbol" in str(refused.value)
        assert str(refused.value).isprintable()
    for tables in (
        {"data": {"symbols": ["AAA", name]}},
        {"classifier": {"name": "hmm", "market": name}},
    ):
        with pytest.raises(StudyFileError) as wrong:
            study_from_dict(mapping(**tables))
        assert "it has " in str(wrong.value)
        assert str(wrong.value).isprintable()
    for tables in (
        {"study": {"name": name}},
        {"data": {"path": name * (1 if len(name) < 9 else 30)}},
    ):
        with pytest.raises(StudyFileError) as wrong:
            study_from_dict(mapping(**tables))
        assert str(wrong.value).isprintable()


def test_a_file_whose_name_would_be_the_symbol(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2Jb.csv"
    path.write_text("date,open,high,low,close,volume\n2020-01-01,1,1,1,1,1\n2020-01-02,1,1,1,1,1\n")
    with pytest.raises(DataError, match="cannot be printed"):
        load_bars(path)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of symbols whose names are markup, and its export."""
    home = tmp_path_factory.mktemp("names")
    data = write_bars(home / "bars.parquet", random_bars(150, ("AAA", MARKUP, "[red]x[/red]")))
    run_study(small_study(data, search={"trials": 2, "batch": 2}), out=home / "out", workers=1)
    export_sets(home / "out")
    return home / "out"


@pytest.mark.parametrize("name", [one for one in ODD if "\n" not in one], ids=ascii)
def test_a_folder_and_an_export_with_such_names(name: str, out: Path, tmp_path: Path) -> None:
    manifest = json.loads((out / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps({**manifest, "symbols": [name]}))
    with pytest.raises(StudyError, match=r"study\.json: symbols #1: got") as refused:
        StudyFolder.open(tmp_path).manifest()
    assert str(refused.value).isprintable()
    for key, value in (("study", {"name": name, "hash": "", "seed": 0}),
                       ("sets", [{"set": 1, "strategy": name}])):  # fmt: skip
        path = tmp_path / "best.json"
        path.write_text(json.dumps({**load_export(out / "best.json"), key: value}))
        with pytest.raises(ExportError, match=rf"best\.json: {key}.*got") as wrong:
            load_export(path)
        assert str(wrong.value).isprintable()
    done = barsweep("replay", path, folder=tmp_path)
    assert done.returncode == 2
    assert all(c.isprintable() or c == "\n" for c in done.stdout + done.stderr)


# --- What is printed ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [one for one in ODD if len(one) < 200], ids=ascii)
def test_every_output_escapes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    console.say(f"line {name}")
    console.say_error(f"line {name}")
    table = console.new_table()
    table.add_column(f"title {name}")
    table.add_column(Text(name))
    table.add_row(f"cell {name}", Text(name, "bold"))
    console.console.print(table)
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert "a" in text
        bad = {c for c in text if not c.isprintable() and c != "\n"}
        assert not bad
    assert escaped(name) in said.err
    assert said.err.count("\n") == 1


def test_cells_and_titles_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = console.new_table()
    table.add_column("[bold]title")
    table.add_row("[red]cell[/red]")
    console.console.print(table)
    said = capsys.readouterr().out
    assert "[bold]title" in said and "[red]cell[/red]" in said


def test_warnings_are_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: Any, **__: Any) -> None:
        logging.getLogger("barsweep").warning("%s: odd", "a\x1b[2Jb\u202e")

    monkeypatch.setattr("optimizer.cli.results.show_study", warn)
    done = barsweep("show", tmp_path, folder=tmp_path)
    assert done.stderr == "a\\x1b[2Jb\\u202e: odd\n"


# --- Pages ------------------------------------------------------------------------------------


def test_a_tearsheet_escapes_names(out: Path, tmp_path: Path) -> None:
    pytest.importorskip("quantstats")
    content = load_export(out / "best.json")
    content["study"]["name"] = MARKUP
    path = out / "named.json"
    path.write_text(json.dumps(content))
    page = write_tearsheet(replay(path), tmp_path / "page.html", MARKUP).read_text()
    assert MARKUP not in page
    assert "&lt;img src=x" in page


def test_symbols_of_markup_do_no_harm(out: Path, tmp_path: Path) -> None:
    for arguments in (
        ("show", out),
        ("show", out, 0),
        ("report", out, "--out", tmp_path / "r.html"),
    ):
        done = barsweep(*arguments, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    assert MARKUP not in (tmp_path / "r.html").read_text()


# --- Prices -----------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["open", "high", "low", "close"])
@pytest.mark.parametrize("price", [5e-324, 1e-310, 9e-13, 2e15, 1e300])
def test_a_price_outside_the_range_is_named(column: str, price: float, tmp_path: Path) -> None:
    rows = [{"date": f"2020-01-0{day}", "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1}
            for day in (1, 2, 3)]  # fmt: skip
    rows[1][column] = price
    path = tmp_path / "bars.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    with pytest.raises(DataError) as refused:
        load_bars(path)
    message = str(refused.value)
    assert "bars.csv, line 3" in message
    assert f"column {column} is {price!r}; prices must be from 1e-12 to 1e+15" in message


@pytest.mark.parametrize("level", [1e-12, 1e15])
def test_prices_at_the_ends_of_the_range_give_numbers(level: float, tmp_path: Path) -> None:
    bars = random_bars(150)
    low, high = bars.low.min(), bars.high.max()
    factor = level / low * (1 + 1e-9) if level < 1 else level / high * (1 - 1e-9)
    names = ("open", "high", "low", "close")
    scaled = {name: getattr(bars, name) * factor for name in names}
    from dataclasses import replace

    path = write_bars(tmp_path / "bars.parquet", replace(bars, **scaled))
    result = run_study(
        small_study(path, search={"trials": 2, "batch": 2},
                    risk={"lot_size": 1e-12, "min_order_size": 1e-12}),
        out=tmp_path / "out", workers=1,
    )  # fmt: skip
    frame = result.folder.results()
    assert frame["final_equity"].notna().all()
    assert frame["total_return"].notna().all()
