"""Wrong use of the commands: one line that says how to fix it, exit code 2, and nothing written."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tomli_w

from optimizer.catalogue import METRICS
from optimizer.review.records import list_studies
from optimizer.review.replay import replay
from optimizer.review.rerun import open_positions
from optimizer.search.run import run_study
from optimizer.selection.verdict import VERDICTS
from optimizer.store.export import export_sets
from optimizer.store.folder import StudyFolder
from optimizer.store.query import find_sets
from optimizer.study_file.load import load_study
from optimizer.text import counted, probability
from tests.support.command import barsweep
from tests.support.studies import mapping, random_bars, small_study, write_bars


class Home:
    """A folder with bars, a study with two classifiers that was run, and its export."""

    def __init__(self, path: Path) -> None:
        self.path = path
        bars = write_bars(path / "data" / "bars.parquet", random_bars())
        self.out = path / "out"
        fit = {"train_bars": 60, "refit_bars": 60, "lookback": 10}
        study = small_study(bars, classifier=[{"name": "none"}, {"name": "hmm", **fit}])
        run_study(study, out=self.out, workers=1)
        export_sets(self.out)
        (path / "a.csv").write_text(
            "Date,Open,High,Low,Close,Volume\n2020-01-02,1,2,0.5,1.5,9\n2020-01-03,1,2,0.5,1.5,9\n"
        )
        (path / "link.csv").symlink_to("a.csv")

    def files(self) -> list[str]:
        return sorted(str(path) for path in self.path.rglob("*"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("mistakes"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        # Options and arguments.
        ("shwo out", "barsweep: no such command 'shwo'; did you mean 'show'? see `barsweep --help`"),
        ("qqqqqq", "barsweep: no such command 'qqqqqq'; see `barsweep --help`"),
        ("data improt a", "barsweep data: no such command 'improt'; did you mean 'import'? see"),
        ("show out --tpo 3", "barsweep show: no such option: --tpo (Possible options: --pareto, --top)"),
        ("show out --top 0", "barsweep show: invalid value for '--top': should be greater than or"),
        ("show out x", "barsweep show: invalid value for '[SET]': should be a valid integer"),
        ("flow s.toml --risk al", "'--risk': 'al' is not one of 'first', 'all'; see `barsweep flow"),
        ("run", "barsweep run: missing argument 'STUDY'; see `barsweep run --help`"),
        ("plot out", "barsweep plot: missing option '--heatmap'; see `barsweep plot --help`"),
        ("show out --top", "barsweep show: option '--top' requires an argument; see `barsweep show"),
        ("trade out/best.json", "trade: missing option '--broker', one of paper, alpaca, ccxt; see"),
        # Conditions.
        ("show out --where |", "show: --where is empty; give a condition such as"),
        ("show out --where |  ", "show: --where is empty; give a condition such as"),
        ("show out --where |classifier == 'hmn'", 'no classifier "hmn" in this study; did you mean'),
        ("show out --where |classifier < hmm", "compare it so: classifier == none, or with !="),
        # Files that are not what they should be.
        ("run out/best.json", "what `barsweep export` wrote is for `barsweep replay`"),
        ("tearsheet gone", "gone: no such file; give an export, which `barsweep export` writes, or the"),
        ("check .", ".: a folder; expected a study file (TOML)"),
        ("data import data --out o.parquet", "data: is a folder; name its files"),
        ("data import a.csv a.csv --symbol X --out o.parquet", "a.csv: given twice; name each file"),
        ("data import a.csv link.csv --symbol X --out o.parquet",
         "link.csv: given twice, also as a.csv; name each file once"),
        ("data fetch nosource X --start 2020-01-01 --out o.parquet",
         "valid: yahoo, or an exchange of ccxt, such as binance"),
        ("data import a.csv --out o.parquet --symbol |", "--symbol: empty; name the symbol"),
        ("data import a.csv --symbol X --timezone Nowhere --out o.parquet",
         "--timezone: no time zone 'Nowhere'"),
        ("data fetch --start 2020-01-01 --out o.parquet yahoo |", "a source or a symbol is empty"),
        ("show out --where |n_trades > 5 or sharpe > 1", "; several are joined by and"),
        # Endings.
        ("plot out --heatmap lookback threshold --out x.png",
         "x.png: a figure is written to a file that ends in .html or .htm"),
        ("report out --out x.pdf", "x.pdf: a report is written to a file that ends in .html or .htm"),
        ("export out --format json --out x.pdf", "x.pdf: an export in the format json is written to"),
        ("export out --out x.pdf", "ends in one of .json, .toml, .csv, .parquet"),
        ("export out --next --top 2", "export: give one of --top, --set and --next"),
        ("export out --out x", "x: an export is written to a file that ends in one of .json"),
        ("tearsheet out/best.json --out x.txt", "x.txt: a tearsheet is written to a file that ends"),
        ("replay out/best.json --returns x.xls",
         "x.xls: a table of returns is written to a file that ends in .csv or .parquet"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_the_fix(arguments: str, line: str, home: Home) -> None:
    before = home.files()
    plain, bar, last = arguments.partition("|")
    words = [*plain.split(), *([last] if bar else [])]
    done = barsweep(*words, folder=home.path)
    assert done.returncode == 2, done
    assert done.stdout == "", "refused before anything is computed"
    assert re.fullmatch(r"error: [^\n]+\n", done.stderr), done.stderr
    assert line in done.stderr
    assert home.files() == before


def test_what_a_user_typed_cannot_break_the_line(home: Home) -> None:
    done = barsweep("sh\now", folder=home.path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def command(*arguments: object, folder: Path, **given: Any) -> subprocess.CompletedProcess[str]:
    """In a process of its own, with the output that is given."""
    return subprocess.run(
        [sys.executable, "-m", "optimizer", *map(str, arguments)],
        cwd=folder, stderr=subprocess.PIPE, text=True, timeout=120, check=False, **given,
    )  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_output_that_cannot_be_written_is_one_line(home: Home) -> None:
    with open("/dev/full", "w") as full:
        done = command("list", ".", folder=home.path, stdout=full)
    assert done.returncode == 2
    words = "error: standard output: cannot be written: No space left on device\n"
    assert done.stderr == words


def test_what_a_terminal_cannot_spell_is_escaped(home: Home, tmp_path: Path) -> None:
    ascii_alone = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = command("data", "import", home.path / "a.csv", "--symbol", "\u00fc", "--out", "o.parquet",
                   folder=tmp_path, env=ascii_alone, stdout=subprocess.PIPE)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xfc: 2 bars" in done.stdout
    assert pd.read_parquet(tmp_path / "o.parquet")["symbol"].unique().tolist() == ["\u00fc"]


@pytest.mark.parametrize("key", ["data_hash", "study_folder", "span"])
def test_a_manifest_that_lacks_a_key_is_named(key: str, home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.out, tmp_path / "out")
    manifest = json.loads((home.out / "study.json").read_text())
    del manifest[key]
    (tmp_path / "out" / "study.json").write_text(json.dumps(manifest))
    for arguments in (
        ["show", "out"],
        ["show", "out", 0],
        ["export", "out"],
        ["report", "out"],
        ["resume", "out"],
        ["plot", "out", "--heatmap", "lookback", "threshold"],
    ):
        done = barsweep(*arguments, folder=tmp_path)
        assert done.returncode == 2, arguments
        assert done.stderr.count("\n") == 1
        assert f"out/study.json: '{key}' is missing; put the file back" in done.stderr


def test_a_torn_batch_names_the_command_that_repairs_it(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.out, tmp_path / "out")
    batch = StudyFolder.open(tmp_path / "out").batch_paths()[0]
    batch.write_bytes(batch.read_bytes()[:100])
    done = barsweep("show", "out", folder=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(
        r"error: out/results/batch-000000\.parquet: cannot be read: .*; `barsweep resume out`"
        r" computes it again\n",
        done.stderr,
    )


@pytest.mark.parametrize("arguments", [[], ["data"], ["analytics"]])
def test_nothing_given_shows_the_help(arguments: list[str], home: Home) -> None:
    done = barsweep(*arguments, folder=home.path)
    assert done.returncode == 2
    assert "Commands:" in done.stderr
    assert "error:" not in done.stderr


def test_a_name_is_compared_with_and_without_quotes(home: Home) -> None:
    frame = StudyFolder.open(home.out).results()
    for where, wanted in (
        ("classifier == 'hmm'", frame[frame["classifier"] == "hmm"]),
        ('classifier=="hmm"', frame[frame["classifier"] == "hmm"]),
        ("classifier != hmm", frame[frame["classifier"] != "hmm"]),
        ("'none' != classifier and n_trades > 2",
         frame[(frame["classifier"] != "none") & (frame["n_trades"] > 2)]),
        ("n_trades != 3", frame[frame["n_trades"] != 3]),
        ("profit_factor != 0", frame[frame["profit_factor"].notna() & (frame["profit_factor"] != 0)]),
    ):  # fmt: skip
        found = find_sets(home.out, where=where, sort="set", top=1000, infeasible=True)
        assert 0 < len(wanted) < len(frame) or "profit_factor" in where
        distinct = wanted.drop_duplicates(["score", *METRICS])
        assert found["set"].to_list() == distinct["set"].to_list(), where


def test_sets_that_are_left_out_are_counted(home: Home, tmp_path: Path) -> None:
    """Where no position grows to the greatest weight, sets of two such weights trade alike."""
    risk = {"max_exposure": 0.5, "max_weight": {"sweep": [0.9, 1.0]}}
    study = small_study(home.path / "data" / "bars.parquet", risk=risk)
    run_study(study, out=tmp_path / "twice", workers=1)
    n_sets = len(StudyFolder(tmp_path / "twice").results(["set"]))
    shown = barsweep("show", tmp_path / "twice", "--top", n_sets, folder=tmp_path)
    n_alike = n_sets - len(find_sets(tmp_path / "twice", top=n_sets))
    assert n_alike > 5
    assert (
        f"{counted(n_alike, 'more feasible set')} left out: each has the same metrics as one of these"
        in shown.stdout
    )
    for top, said in ((1, False), (n_sets, True)):
        given = ("--top", top, "--where", "n_trades > 0")
        shown = barsweep("show", tmp_path / "twice", *given, folder=tmp_path)
        assert ("no other set meets the condition" in shown.stdout) is said


def test_one_file_of_several_is_named_as_it_is(home: Home, tmp_path: Path) -> None:
    """The place of a row of several files is that of its own file."""
    for name in ("a.csv", "b.csv"):
        shutil.copy(home.path / "a.csv", tmp_path / name)
    done = barsweep("data", "import", "a.csv", "b.csv", "--symbol", "X", "--out", "o.parquet",
                    folder=tmp_path)  # fmt: skip
    assert done.returncode == 2
    assert "first line 2 of b.csv (X, 2020-01-02)" in done.stderr
    assert "2 files" not in done.stderr


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"start": "2031-01-01"}, "no bars from start 2031-01-01; the file has 2015-01-05"),
        ({"end": "2001-01-01"}, "no bars to end 2001-01-01; the file has 2015-01-05"),
    ],
)
def test_a_limit_that_is_not_given_is_not_named(
    data: dict[str, str], words: str, home: Home, tmp_path: Path
) -> None:
    study = mapping(home.path / "data" / "bars.parquet", data=data)
    (tmp_path / "s.toml").write_text(tomli_w.dumps(study))
    done = barsweep("check", "s.toml", folder=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr


def test_positions_that_are_open_at_the_end_are_named(home: Home) -> None:
    found = {n: open_positions(home.out, n) for n in range(0, 40, 7)}
    assert any(found.values())
    best = replay(home.out / "best.json")
    number = best.recorded["set"]
    # An independent count: of each symbol, what was bought less what was sold.
    held: dict[str, float] = {}
    for fill in best.result.fills.to_dict("records"):
        held[fill["symbol"]] = held.get(fill["symbol"], 0.0) + fill["quantity"]
    held = {symbol: units for symbol, units in held.items() if abs(units) > 1e-9}
    assert open_positions(home.out, number) == held
    done = barsweep("show", home.out, number, folder=home.path)
    (line,) = [one for one in done.stdout.splitlines() if one.startswith("open after")]
    if held:
        assert f": {counted(len(held), 'position')} (" in line
        assert "count closed trades only" in line
    else:
        assert line.endswith("no position")


def test_what_is_open_is_unknown_where_the_bars_are_gone(home: Home, tmp_path: Path) -> None:
    bars = write_bars(tmp_path / "bars.parquet", random_bars())
    run_study(small_study(bars, search={"trials": 1}), out=tmp_path / "out", workers=1)
    bars.unlink()
    done = barsweep("show", "out", 0, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search("open after the last bar.*: unknown: ", done.stdout)
    assert "bars.parquet" in done.stdout
    # One trial of four sets, so that the singular is seen.
    shown = barsweep("show", "out", folder=tmp_path).stdout
    assert "small: 4 parameter sets (4 distinct) in 1 trial, " in shown
    assert "barsweep replay out/best.json, or barsweep report out\n" in shown


def test_what_is_counted_is_singular_once() -> None:
    assert counted(1, "trial") == "1 trial"
    assert counted(0, "trial") == "0 trials"
    assert counted(2048, "parameter set") == "2,048 parameter sets"


def test_returns_in_capitals_are_what_they_say(home: Home, tmp_path: Path) -> None:
    for name in ("r.CSV", "r.Parquet"):
        done = barsweep("replay", home.out / "best.json", "--returns", tmp_path / name,
                        folder=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "r.CSV")
    assert len(table) == len(pd.read_parquet(tmp_path / "r.Parquet")) > 0


# --- What is missing ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 2])
def test_a_complete_study_without_a_batch_has_no_verdict(
    number: int, tmp_path: Path, data: Path
) -> None:
    """Whichever batch it is; resume computes it again."""
    run_study(small_study(data, search={"trials": 6, "batch": 2}), out=tmp_path / "out", workers=1)
    line = (
        f"out/results/batch-{number:06d}.parquet: missing, so there is no verdict; `barsweep resume out`"
        " computes it again"
    )
    whole = barsweep("show", "out", folder=tmp_path).stdout
    assert "probability of backtest overfitting" in whole and "missing" not in whole
    (tmp_path / line.split(":")[0]).unlink()
    for arguments in (["show", "out"], ["list", "."]):
        done = barsweep(*arguments, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines().count(line) == 1, done.stdout
        assert not any(f": {word}" in done.stdout for word in VERDICTS)
        assert "complete" not in done.stdout
    done = barsweep("report", "out", folder=tmp_path)
    assert done.returncode == 0, done
    page = html.unescape((tmp_path / "out" / "report.html").read_text())
    assert line in page and not any(f": {word}" in page for word in VERDICTS)
    (summary,) = list_studies(tmp_path)
    assert (summary.state, summary.verdict) == ("stopped", None)
    assert "odds: unknown" in barsweep("show", "out", 9, folder=tmp_path).stdout
    assert barsweep("resume", "out", "--workers", 1, folder=tmp_path).returncode == 0
    assert barsweep("show", "out", folder=tmp_path).stdout == whole


def test_a_study_that_was_killed_before_its_first_batch(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.out, tmp_path / "k5")
    for batch in StudyFolder(tmp_path / "k5").batch_paths():
        batch.unlink()
    for arguments in (["show", "k5"], ["show", "k5", 0], ["show", "k5", "--sort", "sharpe"]):
        done = barsweep(*arguments, folder=tmp_path)
        assert done.returncode == 2
        assert done.stderr == (
            "error: k5: no results yet; `barsweep resume k5` continues the study\n"
        )


def exported(home: Home, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The export after a change, next to what it names."""
    content = json.loads((home.out / "best.json").read_text())
    content["data"]["path"] = str(home.path / "data" / "bars.parquet")
    change(content)
    (folder / "best.json").write_text(json.dumps(content))
    return folder / "best.json"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: one["sets"][0]["parameters"].pop("momentum_lookback"),
         "sets #1 parameters: momentum_lookback is missing; "),
        (lambda one: one["sets"][0]["parameters"].pop("stop_loss"),
         "sets #1 parameters: stop_loss is missing; "),
        (lambda one: one["sets"][0]["in_sample"].pop("sharpe"),
         "sets #1 in_sample: sharpe is missing; "),
        (lambda one: one["sets"][0]["out_of_sample"].pop("volatility"),
         "sets #1 out_of_sample: volatility is missing; "),
        (lambda one: one.update(first_bar=295),
         "first_bar = 295: the bars have only 300, and 10 must follow it; "),
    ],
)  # fmt: skip
def test_an_export_that_lacks_a_value_is_no_replay(
    change: Callable[[dict[str, Any]], object], words: str, home: Home, tmp_path: Path
) -> None:
    exported(home, tmp_path, lambda one: None)
    assert barsweep("replay", "best.json", folder=tmp_path).returncode == 0
    exported(home, tmp_path, change)
    done = barsweep("replay", "best.json", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: best.json: {words}put the file back as it was, or export the study again\n"
    )


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_flow_leaves_the_folder_of_a_study_alone(
    overwrite: list[str], home: Home, tmp_path: Path
) -> None:
    study = mapping(home.path / "data" / "bars.parquet", search={"sampler": "grid"})
    del study["search"]["trials"]
    study["strategy"] = {"name": "momentum", "lookback": 10}
    study["risk"] = {"volatility_lookback": 10, "correlation_lookback": 20}
    (tmp_path / "f.toml").write_text(tomli_w.dumps(study))
    before = {path: path.read_bytes() for path in home.out.rglob("*") if path.is_file()}
    done = barsweep("flow", "f.toml", "--out", home.out, *overwrite, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {home.out}: holds a study, which a flow does not replace; give another --out\n"
    )
    assert {path: path.read_bytes() for path in home.out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("cut", [0.5, None])
def test_a_broken_manifest_comes_with_the_fix(
    cut: float | None, home: Home, tmp_path: Path
) -> None:
    shutil.copytree(home.out, tmp_path / "out")
    content = (home.out / "study.json").read_bytes()
    broken = b"\xff\xfe" if cut is None else content[: int(len(content) * cut)]
    (tmp_path / "out" / "study.json").write_bytes(broken)
    done = barsweep("show", "out", folder=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(
        r"error: out/study\.json: cannot be read: .*; put the file back as it was, or rerun the study"
        r" with another --out\n",
        done.stderr,
    )
    assert "codec" not in done.stderr
    (tmp_path / "best.json").write_bytes(broken)
    done = barsweep("replay", "best.json", folder=tmp_path)
    assert done.returncode == 2
    assert "; put the file back as it was, or export the study again\n" in done.stderr


@pytest.mark.parametrize("gone", [False, True])
def test_a_study_that_is_resumed_is_called_by_its_file(
    gone: bool, tmp_path: Path, data: Path
) -> None:
    """By the study file, or by the record where that is gone."""
    study = mapping(data, search={"trials": 2, "batch": 1}, workers={"tile_seconds": 9})
    (tmp_path / "study.toml").write_text(tomli_w.dumps(study))
    run_study(load_study(tmp_path / "study.toml"), out=tmp_path / "out", workers=2)
    StudyFolder(tmp_path / "out").batch_paths()[0].unlink()
    if gone:
        (tmp_path / "study.toml").unlink()
    done = barsweep("resume", "out", "--workers", 1, folder=tmp_path)
    assert done.returncode == 2
    name = "out/study.json" if gone else "study.toml"
    assert f"{name}: [workers] tile_seconds = 9 needs processes" in done.stderr
    assert "<study>" not in done.stderr


def test_lengths_of_time_in_the_study_file_are_those_of_the_record(
    tmp_path: Path, data: Path
) -> None:
    study = mapping(data, search={"trials": 2, "batch": 1}, classifier={"name": "hmm"})
    (tmp_path / "study.toml").write_text(tomli_w.dumps(study))
    run_study(load_study(tmp_path / "study.toml"), out=tmp_path / "out", workers=1)
    StudyFolder(tmp_path / "out").batch_paths()[0].unlink()
    done = barsweep("resume", "out", "--workers", 1, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    StudyFolder(tmp_path / "out").batch_paths()[0].unlink()
    study["classifier"] = {"name": "hmm", "train_bars": "3y"}
    (tmp_path / "study.toml").write_text(tomli_w.dumps(study))
    done = barsweep("resume", "out", "--workers", 1, folder=tmp_path)
    assert done.returncode == 2
    assert "train_bars" in done.stderr


def test_a_strategy_that_is_missing_is_named_with_its_study(home: Home, tmp_path: Path) -> None:
    study = mapping(
        home.path / "data" / "bars.parquet", strategy={"path": "nope.py", "name": "mine"}
    )
    (tmp_path / "study.toml").write_text(tomli_w.dumps(study))
    done = barsweep("check", "study.toml", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        'error: study.toml: [strategy] path = "nope.py": no such file: nope.py; it is relative to the'
        " study file's folder\n"
    )


@pytest.mark.parametrize(
    "arguments",
    ["export out --out nodir/best.json", "report out --out nodir/r.html",
     "plot out --heatmap lookback threshold --out nodir/p.html",
     "replay out/best.json --returns nodir/r.csv"],
)  # fmt: skip
def test_no_folder_is_made_for_an_output(arguments: str, home: Home) -> None:
    before = home.files()
    done = barsweep(*arguments.split(), folder=home.path)
    assert done.returncode == 2
    path = arguments.split()[-1]
    assert done.stderr == (
        f"error: {path}: there is no folder nodir; make it first, or give another --out\n"
    )
    assert home.files() == before


def test_a_report_says_that_it_has_started(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.out, tmp_path / "out")
    done = barsweep("report", "out", folder=tmp_path)
    assert done.stderr == "out: writing the report, which may take a minute\n"
    assert done.stdout == "report: out/report.html\n"
    done = barsweep("report", "out", "--quiet", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (float("nan"), "-"), (0.0, "<0.001"), (0.0009, "<0.001"), (0.001, "0.001"),
     (0.5, "0.5"), (0.999, "0.999"), (0.9998, ">0.999"), (1.0, ">0.999")],
)  # fmt: skip
def test_no_probability_is_certain(value: float | None, text: str) -> None:
    assert probability(value) == text


def test_odds_are_never_shown_as_certain(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.out, tmp_path / "out")
    file = tmp_path / "out" / "selection.json"
    selection = json.loads(file.read_text())
    best = selection["sets"][0]
    best.update(psr=0.9998, oos_psr=0.0002)
    file.write_text(json.dumps(selection))
    shown = barsweep("show", "out", best["number"], folder=tmp_path).stdout
    assert "PSR >0.999 in-sample, PSR <0.001 out-of-sample" in shown
