"""The seal: the holdout of sets other than the winner leaves no trace outside its own files.

Two studies run on bars that are the same up to the holdout and go another way from there on. Whatever a
user can see of them without unsealing must be the same, but for the winner's own figures. And of one
study the true figures are searched for in every file that any command has written.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tomli_w

from optimizer.catalogue import METRICS
from optimizer.errors import StudyError
from optimizer.review.notebook import study_html
from optimizer.review.records import list_studies, set_record
from optimizer.review.replay import replay
from optimizer.review.unseal import unseal_study
from optimizer.search.result import StudyResult
from optimizer.selection.record import load_selection
from optimizer.store.columns import OUT_OF_SAMPLE
from optimizer.store.folder import StudyFolder
from optimizer.store.ledger import read_ledger
from optimizer.store.query import find_sets
from optimizer.store.seal import is_sealed, with_holdout
from optimizer.study_file.study import recorded_study
from optimizer.types import Bars
from optimizer.views.dashboard import dashboard_server
from optimizer.views.heatmap import heatmap
from tests.support.command import Done, barsweep
from tests.support.studies import changed, mapping, random_bars, write_bars

IRREGULAR = (
    *("oos_total_return", "oos_cagr", "oos_volatility", "oos_sharpe", "oos_sortino", "oos_calmar"),
    *("oos_max_drawdown", "oos_turnover", "oos_final_equity", "oos_costs_paid", "oos_skewness"),
    *("oos_kurtosis", "oos_exposure"),
)
"""Metrics that no other figure equals by chance."""

SPLIT = 300 - int((300 - 40) * 0.25)
BEST = ("show", "out")


class Home:
    """A folder of bars and of a study on them that the command has run, with a ledger of its own."""

    def __init__(self, path: Path, bars: Bars) -> None:
        self.path = path
        path.mkdir()
        write_bars(path / "bars.parquet", bars)
        (path / "small.toml").write_text(tomli_w.dumps(mapping("bars.parquet")))
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("BARSWEEP_LEDGER", str(path / "ledger.db"))
            self.said = self("run", "small.toml", "--out", "out", "--workers", 1)
        self.folder = StudyFolder.open(path / "out")
        winner = self.folder.manifest()["winner"]
        assert isinstance(winner, int)
        self.winner = winner
        self.others = [n for n in range(self.folder.n_sets()) if n != winner]
        # What is true of the others, as no command has shown it.
        self.true = self.folder.holdout(self.others)

    def __call__(self, *arguments: object) -> Done:
        done = barsweep(*arguments, folder=self.path)
        assert done.returncode == 0, done.stderr
        return done


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Home]:
    """Two studies whose bars are the same before the holdout."""
    path, bars = tmp_path_factory.mktemp("sealed"), random_bars()
    return Home(path / "one", bars), Home(path / "two", changed(bars, SPLIT, 1.4))


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / "ledger.db"))
    return tmp_path / "ledger.db"


@pytest.fixture
def home(homes: tuple[Home, Home], tmp_path: Path) -> Home:
    """A copy of the first study, for a test to unseal."""
    shutil.copytree(homes[0].path, tmp_path / "home")
    shutil.copy(homes[0].path / "ledger.db", tmp_path / "ledger.db")
    copy = object.__new__(Home)
    copy.path, copy.folder = tmp_path / "home", StudyFolder.open(tmp_path / "home" / "out")
    copy.winner, copy.others, copy.true = homes[0].winner, homes[0].others, homes[0].true
    return copy


def stopped(home: Home) -> None:
    """The study of a home as it is when its process was killed before the verdict."""
    home.folder.batch_paths()[-1].unlink()
    (home.folder.path / "selection.json").unlink()
    (home.folder.path / "benchmark.parquet").unlink()
    home.folder.write_manifest({**home.folder.manifest(), "complete": False})


def plain(text: str) -> str:
    """What a command prints, without times of day and the names of the bars."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", text)
    return re.sub(r"ledger: .*", "", text)


def same(homes: tuple[Home, Home], *arguments: object) -> str:
    """What a command prints, which must be the same for both studies."""
    one, two = (plain(home(*arguments).stdout) for home in homes)
    assert one == two
    return one


# --- Nothing depends on the holdout ---------------------------------------------------------------


def test_the_studies_differ_in_the_holdout_alone(homes: tuple[Home, Home]) -> None:
    one, two = homes
    assert one.winner == two.winner
    for name in ("oos_sharpe", "oos_final_equity", "oos_max_drawdown"):
        assert (one.true[name] != two.true[name]).all()


def test_what_is_on_disk_apart_from_the_holdout_is_the_same(homes: tuple[Home, Home]) -> None:
    one, two = homes
    for first, second in zip(one.folder.batch_paths(), two.folder.batch_paths(), strict=True):
        assert pq.read_table(first).equals(pq.read_table(second))
        assert set(OUT_OF_SAMPLE).isdisjoint(pq.read_schema(first).names)
    assert one.folder.trials() == two.folder.trials()
    names = [path.name for path in (one.folder.path / "moments").iterdir()]
    for name in names:
        first, second = (home.folder.path / "moments" / name for home in homes)
        assert first.read_bytes() == second.read_bytes()
    journals = [
        re.sub(r'"(datetime_\w+|worker_id)": ?"[^"]*"', "", home.folder.journal_path.read_text())
        for home in homes
    ]
    assert journals[0] == journals[1]
    selections = [json.loads((h.folder.path / "selection.json").read_text()) for h in homes]
    known = {"held", "holdout", "look", "search", "oos_sharpe_interval", "sets"}
    assert {k: v for k, v in selections[0].items() if k not in known} == {
        k: v for k, v in selections[1].items() if k not in known
    }
    assert selections[0]["sets"][1:] == selections[1]["sets"][1:]
    assert selections[0]["sets"][0]["oos_sharpe"] != selections[1]["sets"][0]["oos_sharpe"]
    assert [one["oos_sharpe"] for one in selections[0]["sets"][1:]] == [None] * 9


def test_what_a_run_prints_as_it_goes_is_the_same(homes: tuple[Home, Home]) -> None:
    batches = [
        re.findall(r"^.*trials, .*best .*$", home.said.stdout, re.MULTILINE) for home in homes
    ]
    shown = [[re.sub(r"[\d,]+/s|\d+ s left", "", line) for line in lines] for lines in batches]
    assert shown[0] == shown[1] and len(shown[0]) == 3
    assert not any("out-of-sample" in line for line in shown[0])


def test_what_commands_show_of_other_sets_is_the_same(homes: tuple[Home, Home]) -> None:
    other = homes[0].others[0]
    said = same(homes, "show", "out", other)
    assert "the holdout is sealed" in said and "open after the last bar in-sample" in said
    # Tables of sets, of which the winner and buy and hold are the only ones to differ.
    for more in ((), ("--sort", "n_trades"), ("--where", "n_trades > 3", "--top", 30)):
        tables = [plain(home("show", "out", *more).stdout) for home in homes]
        rows = [
            [line for line in text.splitlines() if re.match(r" *\d+  .* / ", line)]
            for text in tables
        ]
        assert len(rows[0]) > 4
        for line, its in zip(*rows, strict=True):
            if int(line.split()[0]) != homes[0].winner:
                # Where the parameters are folded depends on the width of the winner's cells.
                cells, others = line.split(), its.split()
                shown = min(len(cells), len(others))
                assert cells[:shown] == others[:shown] and shown > 10 and " / -" in line
    for home in homes:
        winner = home("show", "out", home.winner).stdout
        assert "open after the last bar:" in winner and "sealed" not in winner


def test_an_export_and_its_replay_are_the_same(homes: tuple[Home, Home], tmp_path: Path) -> None:
    contents = []
    for home in homes:
        home("export", "out", "--top", 4)
        home("export", "out", "--top", 4, "--format", "csv")
        contents.append(json.loads((home.path / "out" / "best.json").read_text())["sets"])
        for one in contents[-1]:
            # Of the terms only the bars may differ.
            assert len(one["terms"]["data"].pop("hash")) == 64
        table = pd.read_csv(home.path / "out" / "best.csv")
        assert table["set"].tolist() == [one["set"] for one in contents[-1]]
        assert table.loc[0, list(OUT_OF_SAMPLE)].notna().any()
        assert table.loc[1:, list(OUT_OF_SAMPLE)].isna().all().all()
    assert contents[0][1:] == contents[1][1:]
    assert [one["out_of_sample"] for one in contents[0][1:]] == [None] * 3
    assert contents[0][0]["set"] == homes[0].winner
    assert contents[0][0]["out_of_sample"] != contents[1][0]["out_of_sample"]
    best = "out/best.json"
    said = same(homes, "replay", best, "--set", 2, "--flow", "events", "--returns", "returns.csv")
    assert "everything here is in-sample" in said and "agree bit for bit" in said
    returns = [(home.path / "returns.csv").read_text() for home in homes]
    assert returns[0] == returns[1]
    days = pd.read_csv(homes[0].path / "returns.csv", index_col="date", parse_dates=True).index
    assert days[-1].date() == random_bars().timestamps[SPLIT - 1].astype("datetime64[D]").item()
    # A set that is held back is simulated to the holdout and not beyond.
    result = replay(homes[0].path / best, number=3)
    assert result.sealed and result.result.out_of_sample is None and result.differences == ()
    assert len(result.result.equity) == len(result.result.regimes) == SPLIT - 40
    assert result.result.equity.iloc[-1] == result.result.in_sample["final_equity"]
    assert result.result.fills["timestamp"].max() <= result.result.equity.index[-1]
    whole = replay(homes[0].path / best, number=1)
    assert not whole.sealed and len(whole.result.equity) == 300 - 40


def figures(path: Path) -> dict[str, Any]:
    found = re.search(
        r'<script type="application/json" id="spec">(.*?)</script>', path.read_text(), re.DOTALL
    )
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


def test_the_report_and_heatmaps_are_the_same(homes: tuple[Home, Home]) -> None:
    specs = []
    for home in homes:
        home("report", "out")
        specs.append(figures(home.path / "out" / "report.html"))
    one, two = specs
    assert one["heatmaps"] == two["heatmaps"]
    assert "scatter" not in one["figures"]
    for name in ("overfitting", "walk_forward", "importance", "parallel", "history"):
        assert one["figures"][name] == two["figures"][name], name
    medians = [
        [trace for trace in spec["figures"]["equity"]["data"] if "median" in trace["name"]]
        for spec in specs
    ]
    assert medians[0] == medians[1] and len(medians[0]) == 2
    drawn = [heatmap(home.folder.path, "lookback", "threshold").to_plotly_json() for home in homes]
    assert repr(drawn[0]) == repr(drawn[1])
    kinds = [trace["type"] for trace in drawn[0]["data"]]
    assert kinds.count("heatmap") == 1  # one panel


def test_a_study_that_is_not_complete_shows_nothing_of_the_holdout(
    homes: tuple[Home, Home], tmp_path: Path
) -> None:
    copies = []
    for number, source in enumerate(homes):
        shutil.copytree(source.path, tmp_path / f"{number}")
        copy = object.__new__(Home)
        copy.path, copy.folder = (
            tmp_path / f"{number}",
            StudyFolder.open(tmp_path / f"{number}/out"),
        )
        copy.winner = source.winner
        stopped(copy)
        copies.append(copy)
    both = (copies[0], copies[1])
    for arguments in (
        ("show", "out"), ("list", "."), ("show", "out", 3), ("export", "out", "--top", 2),
        ("replay", "out/best.json"), ("compare", "out", "out"),
    ):  # fmt: skip
        same(both, *arguments)
    for copy in both:
        copy("report", "out")
    one, two = (figures(copy.path / "out" / "report.html") for copy in both)
    assert one == two
    assert {"equity", "refusals"} <= one["figures"].keys()
    assert study_html(both[0].folder) == study_html(both[1].folder)


def test_a_flow_ends_before_the_holdout(homes: tuple[Home, Home]) -> None:
    strategy = {"lookback": {"choices": [10, 20]}}
    for home in homes:
        text = tomli_w.dumps(mapping("bars.parquet", strategy=strategy, risk={"max_exposure": 0.8}))
        (home.path / "flow.toml").write_text(text)
    said = [re.sub(r"in [\d.]+ s, [\d,]+ a second", "", home("flow", "flow.toml", "--out", "flow").stdout)
            for home in homes]  # fmt: skip
    # IDs are hashes of the bars.
    cut = [re.sub(r"\b[0-9a-f]{8}\.", "", text[: text.index("trace:")]) for text in said]
    assert cut[0] == cut[1] and "is sealed; --unseal opens it" in cut[0]
    with sqlite3.connect(homes[0].path / "flow" / "analytics.db") as database:
        tables = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        latest = [
            value
            for name in tables
            for _, column, kind, *_ in database.execute(f"PRAGMA table_info({name})")
            if column == "bar"
            for (value,) in database.execute(f"SELECT max({column}) FROM {name}")
            if value is not None
        ]
    split = 300 - int((300 - 20) * 0.25)  # the longest lookback is 20
    assert latest and max(latest) == split - 1
    assert read_ledger().looks() == []
    refused = barsweep("flow", "flow.toml", "--out", "flow", "--unseal", folder=homes[0].path)
    assert refused.returncode == 2 and read_ledger().looks() == []  # nothing was seen
    done = homes[0]("flow", "flow.toml", "--no-trace", "--unseal")
    assert "a look at the holdout is noted" in done.stdout
    ((_, look),) = read_ledger().looks()
    times = random_bars().timestamps.astype(np.int64)
    assert (look.why, look.start_ns, look.stop_ns) == ("unsealed", times[split], times[-1])


# --- The true figures are nowhere -----------------------------------------------------------------


def numbers_in(path: Path) -> Iterator[str]:
    """Every number in a file that is no holdout, as Python writes it."""
    if path.suffix == ".parquet":
        for column in pq.read_table(path).columns:
            for value in column.to_pylist():
                if isinstance(value, float):
                    yield repr(value)
    elif path.suffix == ".db":
        with sqlite3.connect(path) as database:
            yield from numbers_of("\n".join(database.iterdump()))
    elif path.suffix == ".npy":
        yield from map(repr, np.load(path).ravel().tolist())
    else:
        yield from numbers_of(path.read_text(encoding="utf-8"))


def numbers_of(text: str) -> Iterator[str]:
    for found in re.findall(r"-?\d+\.\d{6,}(?:e[+-]?\d+)?", text):
        yield repr(float(found))


def test_no_file_and_no_output_holds_a_figure_of_another_set(homes: tuple[Home, Home]) -> None:
    home = homes[0]
    kept = home.folder.holdout([home.winner]).iloc[0].tolist()
    inside = home.folder.results(list(METRICS)).to_numpy().ravel().tolist()
    known = {repr(float(value)) for value in (*kept, *inside)}
    true = home.true[list(IRREGULAR)].to_numpy(np.float64).ravel()
    needles = {repr(float(value)) for value in true if np.isfinite(value)} - known
    needles = {one for one in needles if len(one) > 12}  # not what anything might be, such as 0.5
    assert len(needles) > 300
    said = []
    for arguments in (
        ("run", "small.toml", "--out", "again", "--workers", 2, "--json-lines"), ("resume", "out"),
        ("list", "."), BEST, ("show", "out", home.others[3]), ("show", "out", home.winner),
        ("show", "out", "--sort", "sharpe", "--top", 40), ("compare", "out", "again"), ("ledger",),
        ("ledger", 1), ("export", "out", "--top", 9), ("export", "out", "--top", 9, "--format", "toml"),
        ("export", "out", "--top", 9, "--format", "csv"),
        ("export", "out", "--top", 9, "--format", "parquet"),
        ("replay", "out/best.json", "--set", 2, "--returns", "out/returns.csv"), ("report", "out"),
        ("plot", "out", "--heatmap", "lookback", "threshold"), ("check", "small.toml"),
        ("show", "out", "--survivors"), ("show", "out", "--contenders"),
    ):  # fmt: skip
        done = home(*arguments)
        said.append(done.stdout + done.stderr)
    result = StudyResult(recorded_study(home.folder.manifest()["study"]), home.folder)
    said += [result._repr_html_(), repr(list_studies(home.path)), result.results().to_json()]
    said += [repr(set_record(home.folder.path, number)) for number in home.others]
    said += [find_sets(home.folder.path, top=99, infeasible=True).to_json(double_precision=15)]
    leaked = needles.intersection(number for text in said for number in numbers_of(text))
    assert leaked == set()
    files = [path for path in (home.path / "out").rglob("*") if path.is_file()]
    files = [path for path in files if path.parent.name != "holdout"]
    assert {path.suffix for path in files} >= {
        ".json",
        ".parquet",
        ".html",
        ".csv",
        ".toml",
        ".npy",
    }
    for path in files:
        assert needles.intersection(numbers_in(path)) == set(), path
    # Nor does the number of workers change what is sealed.
    for path in (home.path / "out" / "holdout").iterdir():
        assert path.read_bytes() == (home.path / "again" / "holdout" / path.name).read_bytes()
    # The search would find them: the holdout's own files hold them all.
    batches = sorted((home.path / "out" / "holdout").iterdir())
    assert needles <= {number for path in batches for number in numbers_in(path)}


def test_the_dashboard_serves_nothing_of_the_holdout(homes: tuple[Home, Home]) -> None:
    pytest.importorskip("optuna_dashboard")
    answers = []
    for home in homes:
        with dashboard_server(home.folder.path, 0) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            url = f"http://127.0.0.1:{server.server_port}/api/studies/0"
            with urllib.request.urlopen(url) as answer:
                answers.append(re.sub(rb'"datetime_\w+": ?"[^"]*"', b"", answer.read()))
            server.shutdown()
    assert b"in_sample" in answers[0] and answers[0] == answers[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "out", "--sort", "oos_sharpe"),
        ("show", "out", "--where", "oos_max_drawdown < 0.2"),
        ("plot", "out", "--heatmap", "lookback", "threshold", "--metric", "oos_sharpe"),
    ],
)
def test_what_needs_the_holdout_names_the_command_that_opens_it(
    arguments: tuple[str, ...], home: Home
) -> None:
    done = barsweep(*arguments, folder=home.path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "`barsweep unseal out`" in done.stderr
    assert "oos_" in done.stderr
    with pytest.raises(StudyError, match="barsweep unseal"):
        with_holdout(home.folder, home.folder.results())


# --- Opening it -----------------------------------------------------------------------------------


def test_unsealing_shows_all_and_is_noted_once(home: Home, ledger: Path) -> None:
    before = home("show", "out").stdout
    assert is_sealed(home.folder)
    said = home("unseal", "out").stdout
    selection = load_selection(home.folder)
    assert selection is not None and selection.holdout is not None
    p = selection.holdout.p
    assert "this is look 2 at these bars" in said
    found = re.search(r"p out-of-sample of the winner: ([\d.]+), it was ([\d.]+)", said)
    assert found is not None
    assert float(found[1]) == pytest.approx(1.0 - (1.0 - p) ** 2, abs=6e-4)
    assert float(found[2]) == pytest.approx(p, abs=6e-4)
    noted = [(entry.number, look.why) for entry, look in read_ledger().looks()]
    assert [why for _, why in noted] == ["verdict", "unsealed"]
    mark = json.loads((home.folder.path / "unsealed.json").read_text())
    assert mark["ledger_entry"] == noted[1][0]
    # Once more, and of a copy: nothing is noted.
    shutil.copytree(home.path / "out", home.path / "copy")
    for folder in ("out", "copy"):
        assert "unsealed already" in home("unseal", folder).stdout
    assert len(read_ledger().looks()) == 2
    # Everything is shown, and the verdict pays for it.
    after = home("show", "out").stdout
    assert "after 2 looks at these bars" in after and "after 2 looks" not in before
    order = find_sets(home.folder.path, sort="oos_sharpe", top=99, infeasible=True)
    assert order["oos_sharpe"].dropna().is_monotonic_decreasing
    for row in order.to_dict("records"):
        if row["set"] != home.winner:
            true = home.true.loc[row["set"]]
            assert all(row[name] == true[name] or pd.isna(true[name]) for name in OUT_OF_SAMPLE)
    home("export", "copy", "--top", 3)
    exported = json.loads((home.path / "copy" / "best.json").read_text())["sets"]
    assert all(one["out_of_sample"] is not None for one in exported)
    assert replay(home.path / "copy" / "best.json", number=2).differences == ()
    home("report", "copy")
    drawn = figures(home.path / "copy" / "report.html")["figures"]
    assert "scatter" in drawn
    names = [trace["name"] for trace in drawn["history"]["data"]]
    assert names == ["trial", "best so far", "the same out-of-sample"]
    last = drawn["history"]["data"][2]["y"][-1]
    kept = home.folder.holdout([home.winner])["oos_sharpe"].iloc[0]
    assert last == pytest.approx(kept)
    home("plot", "copy", "--heatmap", "lookback", "threshold", "--metric", "oos_sharpe")
    assert order["oos_final_equity"].notna().all()
    one = set_record(home.folder.path, home.others[0])
    assert one.out_of_sample is not None and one.odds is not None


def test_a_set_that_was_exported_before_is_still_without_its_holdout(home: Home) -> None:
    home("export", "out", "--top", 2)
    home("unseal", "out")
    assert "everything here is in-sample" in home("replay", "out/best.json", "--set", 2).stdout
    home("export", "out", "--top", 2)
    assert "sealed" not in home("replay", "out/best.json", "--set", 2).stdout


def test_a_study_without_a_holdout_has_nothing_to_unseal(home: Home) -> None:
    (home.path / "whole.toml").write_text(
        tomli_w.dumps(mapping("bars.parquet", validation={"holdout": 0.0}, search={"trials": 3}))
    )
    home("run", "whole.toml", "--out", "whole", "--workers", 1)
    before = len(read_ledger().entries)
    done = barsweep("unseal", "whole", folder=home.path)
    assert (done.returncode, done.stdout) == (2, "") and "nothing to unseal" in done.stderr
    missing = barsweep("unseal", "none", folder=home.path)
    assert missing.returncode == 2 and "no study here" in missing.stderr
    assert len(read_ledger().entries) == before
    assert not (home.path / "whole" / "unsealed.json").exists()
    assert "sealed" not in home("show", "whole").stdout


def test_windows_are_unsealed_and_resumed_with_their_study(home: Home) -> None:
    tables = {"search": {"sampler": "tpe", "trials": 6},
              "validation": {"method": "walk_forward", "blocks": 4}}  # fmt: skip
    (home.path / "walk.toml").write_text(tomli_w.dumps(mapping("bars.parquet", **tables)))
    home("run", "walk.toml", "--out", "walk", "--workers", 1)
    done = barsweep("unseal", "walk/folds/00", folder=home.path)
    assert done.returncode == 2 and "a window of the study in" in done.stderr
    for window in ("00", "next"):
        done = barsweep("resume", f"walk/folds/{window}", folder=home.path)
        assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
        whole = home.path.resolve() / "walk"
        assert f"folds/{window}: a window of the study in {whole}; resume that one" in done.stderr
    assert {one.state for one in list_studies(home.path / "walk" / "folds")} == {"window"}
    assert list_studies(home.path / "walk")[0].state == "complete"
    # What the walk-forward shows ends where the holdout begins.
    joined = pd.read_parquet(home.path / "walk" / "walk_forward.parquet")
    assert joined["timestamp"].iloc[-1] == pd.Timestamp(
        random_bars().timestamps[SPLIT - 1], tz="UTC"
    )
    selection = load_selection(StudyFolder(home.path / "walk"))
    assert selection is not None
    assert max(window.stop for window in selection.windows) == SPLIT


def test_a_ledger_that_cannot_be_used_leaves_the_seal(home: Home, ledger: Path) -> None:
    ledger.write_bytes(b"no database" * 100)
    done = barsweep("unseal", "out", folder=home.path)
    assert done.returncode == 2 and "the ledger cannot be used" in done.stderr
    assert is_sealed(home.folder)
    with pytest.raises(StudyError, match="ledger"):
        unseal_study(home.folder.path)


def test_a_replaced_study_is_sealed_again(home: Home) -> None:
    home("unseal", "out")
    home("run", "small.toml", "--out", "out", "--overwrite", "--workers", 1)
    assert is_sealed(home.folder)
    # The same winner on the same bars: the verdict has seen nothing new, and the unsealing stays noted.
    assert [look.why for _, look in read_ledger().looks()] == ["verdict", "unsealed"]


# --- Looks ----------------------------------------------------------------------------------------


def test_a_verdict_is_noted_once_however_often_it_is_shown(home: Home) -> None:
    (before,) = read_ledger().looks()
    for arguments in (BEST, ("resume", "out"), BEST, ("list", "."), ("report", "out")):
        home(*arguments)
    home.folder.batch_paths()[0].unlink()
    (home.folder.path / "selection.json").unlink()
    home("resume", "out", "--workers", 1)
    assert "looks" not in home("show", "out").stdout
    ((entry, look),) = read_ledger().looks()
    assert entry.number == before[0].number
    times = random_bars().timestamps.astype(np.int64)
    assert (look.why, look.start_ns, look.stop_ns) == ("verdict", times[SPLIT], times[-1])
    assert look.data_hash == home.folder.manifest()["data_hash"]


STUDIES: dict[str, dict[str, Any]] = {
    "one": {},
    "two": {"study": {"name": "two", "seed": 9}, "risk": {"kelly_fraction": {"sweep": [0.1, 0.3]}}},
    "whole": {"study": {"name": "whole", "seed": 4}, "validation": {"holdout": 0.0}},
}


REASONS = r"^set \d+: .*\nSharpe ratio to expect .*(?:\n  [+~-] .*)+"


def test_p_values_do_not_depend_on_the_order_of_the_studies(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two with overlapping holdouts, and one that searched the bars of both."""
    for name, tables in STUDIES.items():
        text = tomli_w.dumps(mapping("bars.parquet", search={"trials": 4}, **tables))
        (home.path / f"{name}.toml").write_text(text)
    verdicts = []
    for order in (("one", "two", "whole"), ("whole", "two", "one"), ("two", "whole", "one")):
        monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / f"{'-'.join(order)}.db"))
        for name in order:
            home("run", f"{name}.toml", "--out", f"{order[0]}{order[1]}/{name}", "--workers", 1)
        for name in order:  # a second time, to be counted once
            home("resume", f"{order[0]}{order[1]}/{name}")
        shown = [home("show", f"{order[0]}{order[1]}/{name}").stdout for name in STUDIES]
        verdicts.append([re.findall(REASONS, text, re.MULTILINE)[0] for text in shown])
    assert verdicts[0] == verdicts[1] == verdicts[2]
    for reasons in verdicts[0][:2]:
        assert "after 3 looks at these bars" in reasons
    assert "no holdout" in verdicts[0][2]
    # What the holdout can still show is said before a study runs, too.
    assert "after 3 looks at its bars" in home("check", "one.toml").stdout
