"""How a study that runs is shown: to people on a terminal, to machines, or not at all."""

from __future__ import annotations

import io
import json
import shutil
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import tomli_w
from rich.console import Console

from optimizer.search.progress import Progress
from optimizer.search.run import run_study
from optimizer.selection.verdict import LUCK, PROMISING, SKILL
from optimizer.store.folder import StudyFolder
from optimizer.views.live import _View, batch_event, live_view, plain_line
from tests.support.command import barsweep
from tests.support.processes import Command
from tests.support.studies import mapping, random_bars, small_study, write_bars

KEYS = [
    "event", "trials", "n_trials", "sets", "sets_per_second", "best",
    "seconds_left", "worker_use", "memory_mb",
]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("live")
    write_bars(path / "bars.parquet", random_bars())
    (path / "small.toml").write_text(tomli_w.dumps(mapping()))
    return path


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def progress(**values: Any) -> Progress:
    known: dict[str, Any] = {
        "trials": 16, "n_trials": 64, "sets": 32_000, "distinct": 32_000, "best": 1.25,
        "objective": "sharpe", "best_set": 4711, "seconds": 8.0,
        "worker_use": 0.87, "memory_bytes": 812_000_000,
    }  # fmt: skip
    return Progress(**{**known, **values})


# --- For machines ---------------------------------------------------------------------------------


def test_json_lines_of_a_run_and_of_what_is_taken_up(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = barsweep("run", "small.toml", "--workers", 1, "--out", out, "--json-lines", folder=home)
    assert (done.returncode, done.stderr) == (0, "")
    *batches, end = events(done.stdout)
    folder = StudyFolder.open(out)
    results = folder.results()
    assert [one["trials"] for one in batches] == [4, 8, 10]
    assert [one["sets"] for one in batches] == [16, 32, 40]
    for one in batches:
        assert list(one) == KEYS
        assert (one["event"], one["n_trials"]) == ("batch", 10)
        assert one["sets_per_second"] > 0
        assert one["seconds_left"] >= 0
        assert 0 < one["worker_use"] <= 1
    best = results.sort_values("sharpe").iloc[-1]
    assert batches[-1]["best"] == best["sharpe"]
    assert batches[-1]["seconds_left"] == 0
    assert list(end) == ["event", "folder", "verdict", "seconds"]
    assert (end["event"], end["folder"]) == ("done", str(out))
    assert end["verdict"] in (SKILL, PROMISING, LUCK)
    assert {"load", "kernels", "storage", "other"} <= end["seconds"].keys()

    folder.batch_paths()[-1].unlink()
    folder.write_manifest({**folder.manifest(), "complete": False})
    done = barsweep("resume", out, "--workers", 1, "--json-lines", folder=home)
    assert (done.returncode, done.stderr) == (0, "")
    first, last, end = events(done.stdout)
    assert (first["trials"], first["sets"]) == (8, 32)
    assert [first[name] for name in ("sets_per_second", "seconds_left", "worker_use")] == [None] * 3
    assert (last["trials"], last["best"]) == (10, best["sharpe"])
    assert end["event"] == "done"

    done = barsweep("resume", out, "--json-lines", folder=home)
    (end,) = events(done.stdout)
    assert (end["event"], end["seconds"]) == ("done", {})


def test_what_is_unknown_is_null(home: Path, tmp_path: Path) -> None:
    (tmp_path / "none.toml").write_text(
        tomli_w.dumps(
            mapping(
                str(home / "bars.parquet"),
                search={"constraints": ["n_trades >= 100000"], "trials": 4},
            )
        )
    )
    done = barsweep("run", "none.toml", "--workers", 1, "--json-lines", folder=tmp_path)
    batch, end = events(done.stdout)
    assert (batch["best"], end["verdict"]) == (None, None)


def test_an_error_leaves_standard_output_empty(home: Path, tmp_path: Path) -> None:
    for arguments in (["none.toml", "--json-lines"], ["small.toml", "--json-lines", "--quiet"]):
        done = barsweep("run", *arguments, "--out", tmp_path / "out", folder=home)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert not (tmp_path / "out").exists()


def test_each_line_comes_when_its_batch_is_done(home: Path, tmp_path: Path) -> None:
    """Read from the file that another process writes to: whole lines, in order, at once."""
    out = tmp_path / "out"
    command = Command("run", home / "small.toml", "--workers", 2, "--out", out, "--json-lines",
                      output=tmp_path / "said")  # fmt: skip
    assert command.wait() == 0, command.text()
    *batches, end = events(command.text())
    assert [one["trials"] for one in batches] == [4, 8, 10]
    assert end["event"] == "done"
    assert batches[-1]["memory_mb"] > 100  # three processes that have numba loaded


# --- For people -----------------------------------------------------------------------------------


def test_quiet_prints_what_show_prints(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = barsweep("run", "small.toml", "--workers", 1, "--out", out, "--quiet", folder=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == barsweep("show", out, "--top", 5, folder=home).stdout
    again = barsweep("resume", out, "--quiet", folder=home)
    assert again.stdout == done.stdout


def test_lines_for_what_is_not_a_terminal() -> None:
    assert plain_line(progress()) == (
        "16/64 trials, 32,000 sets, 4,000/s, best sharpe 1.25 in-sample, set 4711, 24 s left"
    )
    taken_up = progress(trials_before=16, sets_before=32_000, seconds=0.0, best=None)
    assert plain_line(taken_up) == "16/64 trials, 32,000 sets on disk, none feasible yet"
    assert batch_event(taken_up)["worker_use"] is None


def test_a_terminal_shows_all_that_is_known() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, color_system=None)
    with live_view(console) as told:
        told(progress(trials=8, sets=16_000, seconds=4.0, best=None))
        told(progress())
    text = file.getvalue()
    for words in ("none feasible yet", "16/64 trials", "24 s left", "32,000 sets",
                  "4,000 sets/s, 2 trials/s", "best sharpe 1.25 in-sample, set 4711",
                  "workers 87% in kernels", "812 MB memory"):  # fmt: skip
        assert words in text


def test_a_terminal_says_what_is_waited_for() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, color_system=None)
    with live_view(console, lambda: "compiling kernels"):
        pass
    assert "compiling kernels, 0 s" in file.getvalue()


def test_the_time_left_runs_on_between_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    view = _View(lambda: "first batch")
    view.tell(progress())
    now[0] += 10.0
    assert view._left(progress()) == "14 s left"
    now[0] += 100.0
    assert view._left(progress()) == "0 s left"


# --- What is measured -----------------------------------------------------------------------------


def test_use_of_workers_and_memory(home: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    own = psutil.Process().memory_info().rss
    study = small_study(home / "bars.parquet")
    run_study(study, out=tmp_path / "out", workers=1, on_progress=seen.append)
    assert [one.trials for one in seen] == [4, 8, 10]
    rows = StudyFolder.open(tmp_path / "out").results().set_index("set")
    for one in seen:
        assert one.best_set is not None and one.best == rows.loc[one.best_set, "sharpe"]
        assert 0.0 < one.worker_use <= 1.0
        assert 0.3 * own < one.memory_bytes < 1e12
    shutil.rmtree(tmp_path / "out")
