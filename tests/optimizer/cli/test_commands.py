"""The command line as its users run it: its output and its exit code.

What a process of its own has to show (the installed script, plain lines, a terminal, workers) runs in
one; the rest calls the same ``main`` here.
"""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tomli_w

from optimizer.catalogue import METRICS
from optimizer.cli import main
from optimizer.search.run import run_study
from optimizer.selection.record import load_selection
from optimizer.store.export import export_sets, load_export
from optimizer.store.folder import StudyFolder
from tests.support.command import Done
from tests.support.command import barsweep as barsweep_here
from tests.support.studies import (
    changed,
    mapping,
    random_bars,
    result_hashes,
    small_study,
    write_bars,
)

BARSWEEP = Path(sys.executable).with_name("barsweep")
COMMANDS = ("check", "run", "show", "report", "export", "replay")


def environment(**extra: str) -> dict[str, str]:
    """Like a user's shell, whatever the tests run under; warnings of ours would be errors."""
    kept = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "NO_COLOR", "COLUMNS")}
    return {**kept, "PYTHONWARNINGS": "error", "TERM": "xterm", **extra}


def barsweep(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BARSWEEP), *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )


def plain(text: str) -> str:
    """``text`` on one line, so that where it wraps does not matter."""
    return " ".join(text.split())


def assert_refused(found: subprocess.CompletedProcess[str] | Done, *words: str) -> None:
    """Exit code 2 and one line on stderr that holds ``words``."""
    assert found.returncode == 2, found.stdout + found.stderr
    assert "Traceback" not in found.stderr + found.stdout
    lines = found.stderr.splitlines()
    assert len(lines) == 1, found.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


class Home:
    """A folder with bars, a study file, and the study run by the command line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = write_bars(path / "data" / "bars.parquet", random_bars())
        self.study = path / "small.toml"
        self.write(self.study)
        self.ran = barsweep("run", "small.toml", "--workers", 1, cwd=path)
        self.out = path / "out" / "small"

    def write(self, path: Path, **tables: Any) -> Path:
        path.write_text(tomli_w.dumps(mapping("data/bars.parquet", **tables)))
        return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))


# --- Help -------------------------------------------------------------------------------------


def test_the_command_is_installed() -> None:
    assert BARSWEEP.is_file()


def test_commands_are_listed_in_the_order_of_use() -> None:
    """As a user meets them: from a new project to the analytics of a flow."""
    listed = barsweep("--help").stdout.split("Commands:\n")[1]
    assert re.findall(r"^  ([a-z]+) ", listed, re.MULTILINE) == [
        *(
            "new",
            "check",
            "run",
            "resume",
            "merge",
            "calibrate",
            "list",
            "show",
            "compare",
            "plot",
            "dashboard",
            "report",
            "unseal",
        ),
        *("ledger", "export", "replay", "stress", "tearsheet", "orders", "trade", "drift"),
        *("reoptimize", "combine", "flow", "trace", "bench"),
        *("data", "analytics"),
    ]


def test_help_names_the_commands() -> None:
    found = barsweep("--help")
    assert found.returncode == 0
    assert found.stderr == ""
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", found.stdout)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("check", ["STUDY", "Study file (TOML)."]),
        ("run", ["STUDY", "--workers", "--trials", "--seed", "--out", "--overwrite", "--top",
                 "[search] trials", "[study] seed", "out/<study name>"]),
        ("show", ["DIR", "--top"]),
        ("export", ["DIR", "--top", "--next", "--format", "--out", "json, toml, csv or parquet",
                    "DIR/best.<format>"]),
        ("replay", ["BEST.json", "--set", "--data"]),
    ],
)  # fmt: skip
def test_help_of_a_command_states_its_options(command: str, words: list[str]) -> None:
    found = barsweep(command, "--help")
    assert found.returncode == 0
    assert found.stderr == ""
    text = plain(re.sub(r"[│╭╮╰╯─]", " ", found.stdout))
    missing = [word for word in words if word not in text]
    assert not missing, found.stdout


def test_version() -> None:
    found = barsweep("--version")
    assert found.returncode == 0
    assert re.fullmatch(r"barsweep \d+\.\d+\.\d+\n", found.stdout)


def test_a_wrong_use_exits_with_2() -> None:
    for arguments in (["nonesuch"], ["run"], ["show", "out", "--top", "0"]):
        found = barsweep(*arguments)
        assert found.returncode == 2
        assert found.stderr
        assert "Traceback" not in found.stderr


# --- The way through --------------------------------------------------------------------------


def test_check(home: Home) -> None:
    found = barsweep_here("check", home.study, folder=home.path)
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    text = plain(found.stdout)
    assert "small.toml: valid" in text
    assert "300 x 3 symbols, 2015-01-05" in text
    assert "252 a year; warm-up 40" in text
    assert "10 trials" in text
    assert "40 parameter sets (4 a trial)" in text
    assert re.search(r"\d+ MB memory, \d+ MB disk, about \d+ s", text)


def test_run_prints_plain_lines_where_it_is_no_terminal(home: Home) -> None:
    found = home.ran
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stderr == ""
    assert "\x1b" not in found.stdout
    assert "\r" not in found.stdout
    lines = found.stdout.splitlines()
    progress = [line for line in lines if re.match(r"\d+/10 trials, ", line)]
    assert [line.split()[0] for line in progress] == ["4/10", "8/10", "10/10"]
    assert "40 sets" in progress[-1]
    assert re.search(r"best sharpe [-\d.e]+ in-sample, set \d+, ", progress[-1])
    assert "out-of-sample" not in progress[-1]
    assert progress[-1].endswith(" 0 s left")


def test_run_ends_with_the_best_sets_and_the_way_on(home: Home) -> None:
    found = home.ran.stdout
    text = plain(found)
    assert "40 parameter sets (40 distinct) in 10 trials, 40 feasible" in text
    assert "in-sample 2015-03-04" in text
    best = small_study_rows(home).sort_values("sharpe", ascending=False)
    for number in best["set"].head(5):
        assert re.search(rf"^\s*{number} ", found, re.MULTILINE)
    assert f"{best['sharpe'].iloc[0]:.4g}"[:4] in text
    assert "results: out/small/results/*.parquet" in text
    assert "barsweep export out/small && barsweep replay out/small/best.json" in text
    assert "…" not in found, "a table that is cut off"


def small_study_rows(home: Home) -> Any:
    return StudyFolder.open(home.out).results()


def test_the_command_line_is_the_python_api(home: Home, tmp_path: Path) -> None:
    study = small_study(home.data)
    result = run_study(study, out=tmp_path / "out", workers=1)
    rows = small_study_rows(home)
    assert rows.equals(result.results())
    assert StudyFolder.open(home.out).trials() == result.folder.trials()


def test_two_workers_and_overrides(home: Home, tmp_path: Path) -> None:
    arguments = ["run", home.study, "--trials", 6, "--seed", 11]
    two = barsweep(*arguments, "--workers", 2, "--out", tmp_path / "two")
    assert two.returncode == 0, two.stdout + two.stderr
    assert two.stderr == ""
    study = small_study(home.data).override(seed=11, trials=6)
    one = run_study(study, out=tmp_path / "one", workers=1).folder
    folder = StudyFolder.open(tmp_path / "two")
    assert result_hashes(folder) == result_hashes(one)
    assert folder.manifest()["study"]["study"]["seed"] == 11


def test_show(home: Home) -> None:
    found = barsweep_here("show", home.out, "--top", 3, folder=home.path)
    assert found.returncode == 0, found.stderr
    best = small_study_rows(home).sort_values("sharpe", ascending=False)["set"].tolist()
    shown = [
        int(number) for number in re.findall(r"^ {0,4}(\d+) +-?\d", found.stdout, re.MULTILINE)
    ]
    assert shown == best[:3]
    assert "small" in found.stdout
    assert "not complete" not in found.stdout


def test_export_of_the_next_set(home: Home) -> None:
    done = barsweep_here("export", home.out, "--next", folder=home.path)
    assert (done.stdout, done.stderr) == (f"exported: {home.out / 'next.json'}\n", "")
    selection = load_selection(StudyFolder.open(home.out))
    assert selection is not None
    assert selection.next_set is not None
    (one,) = load_export(home.out / "next.json")["sets"]
    assert one["set"] == selection.next_set.number
    assert one["out_of_sample"] is None
    replayed = barsweep_here("replay", home.out / "next.json", folder=home.path)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert "identical: every recorded metric is reproduced bit for bit" in replayed.stdout
    named = barsweep_here("export", home.out, "--next", "--out", "x.toml", folder=home.path)
    assert named.stdout == "exported: x.toml\n"


def test_export_and_replay(home: Home, tmp_path: Path) -> None:
    exported = barsweep_here("export", home.out, "--top", 2, folder=home.path)
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout == f"exported: {home.out / 'best.json'}\n"
    assert len(load_export(home.out / "best.json")["sets"]) == 2
    replayed = barsweep_here("replay", home.out / "best.json", "--set", 2, folder=tmp_path)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert replayed.stderr == ""
    assert "identical" in replayed.stdout


def test_replay_exits_with_1_where_a_metric_differs(home: Home, tmp_path: Path) -> None:
    path = export_sets(home.out, out=home.out / "tampered.json")
    content = json.loads(path.read_text())
    content["sets"][0]["in_sample"]["sharpe"] += 1e-9
    path.write_text(json.dumps(content))
    found = barsweep_here("replay", path, folder=tmp_path)
    assert found.returncode == 1
    text = plain(found.stdout)
    assert "differs: in-sample sharpe: recorded" in text
    assert text.count("differs:") == 1
    assert "identical" not in text
    assert "Traceback" not in found.stderr


def test_run_in_a_terminal_shows_a_bar(home: Home, tmp_path: Path) -> None:
    """The terminal that most users have: a pseudo-terminal of 100 columns."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [str(BARSWEEP), "run", str(home.study), "--workers", "1", "--out", str(tmp_path / "out")],
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
        env=environment(COLUMNS="100"),
    )
    os.close(slave)
    parts: list[bytes] = []

    def read() -> None:
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the other end is closed
                return
            if not part:
                return
            parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    code = process.wait(timeout=120)
    reader.join(timeout=30)
    os.close(master)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(parts).decode())
    assert code == 0, text[-3000:]
    assert "Traceback" not in text
    assert "10/10 trials" in text
    assert "40 parameter sets (40 distinct) in 10 trials" in plain(text)


# --- Bad input --------------------------------------------------------------------------------


def test_no_study_file(tmp_path: Path) -> None:
    found = barsweep("check", tmp_path / "none.toml")
    assert_refused(found, f"{tmp_path}/none.toml: no such file")
    assert found.stdout == ""


# What needs no process of its own: the same `main`, called here.


def refused_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> str:
    monkeypatch.setattr(sys, "argv", ["barsweep", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main.main()
    output = capsys.readouterr()
    assert end.value.code == 2
    lines = output.err.splitlines()
    assert len(lines) == 1, output.err
    return lines[0]


def test_an_unknown_key(home: Home, tmp_path: Path) -> None:
    study = home.write(tmp_path / "study.toml", search={"trails": 3})
    found = barsweep_here("run", study, folder=tmp_path)
    assert_refused(found, str(study), "trails", 'did you mean "trials"')


def test_bad_bars(home: Home, tmp_path: Path) -> None:
    bars = random_bars(100)
    bars.close.flags.writeable = True
    bars.close[57, 1] = -1.0
    write_bars(tmp_path / "data" / "bars.parquet", bars)
    study = home.write(tmp_path / "study.toml")
    found = barsweep_here("run", study, "--out", "out", folder=tmp_path)
    assert_refused(found, "bars.parquet", "BBB", "close", "-1")
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use(home: Home) -> None:
    before = sorted(path.stat().st_mtime_ns for path in home.out.rglob("*.parquet"))
    found = barsweep_here("run", home.study, "--workers", 1, folder=home.path)
    assert_refused(found, "out/small", "already holds files", "--overwrite")
    assert sorted(path.stat().st_mtime_ns for path in home.out.rglob("*.parquet")) == before


def test_no_study_in_the_folder(tmp_path: Path) -> None:
    found = barsweep_here("show", tmp_path, folder=tmp_path)
    assert_refused(found, str(tmp_path), "no study here")


def test_an_unknown_format(home: Home) -> None:
    found = barsweep_here("export", home.out, "--format", "xml", folder=home.path)
    assert_refused(found, "'xml'", "json, toml, csv, parquet")


def test_a_tampered_export(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    path.write_text('{"kind": "barsweep parameter sets", "schema_version": 1')
    found = barsweep_here("replay", path, folder=tmp_path)
    assert_refused(found, str(path), "cannot be read as JSON")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "{tmp}"], ["{tmp}", "no study here"]),
        (["show", "{tmp}/none"], ["{tmp}/none", "no study here"]),
        (["replay", "{tmp}/none.json"], ["none.json", "no such file"]),
        (["replay", "{home}/small.toml"], ["small.toml", "not an export"]),
        (["replay", "{home}/data/bars.parquet"], ["bars.parquet", ".json and .toml"]),
        (["check", "{home}"], ["{home}", "expected a study file"]),
        (["check", "{home}/data/bars.parquet"], ["bars.parquet", "not UTF-8"]),
        (["run", "{home}/small.toml", "--trials", "0", "--out", "{tmp}/out"], ["trials", "got 0"]),
        (["run", "{home}/small.toml", "--seed", "-1", "--out", "{tmp}/out"], ["seed", "got -1"]),
        (["run", "{home}/small.toml", "--out", "{home}/small.toml"], ["small.toml", "--out"]),
    ],
)
def test_what_cannot_be_used_is_one_line(
    arguments: list[str],
    words: list[str],
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"tmp": tmp_path, "home": home.path}
    line = refused_here(monkeypatch, capsys, *(one.format(**names) for one in arguments))
    assert line.startswith("error: ")
    for word in words:
        assert word.format(**names) in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("manifest", ["{}", "[]", "torn"])
def test_a_manifest_of_another_program(
    manifest: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "study.json").write_text(manifest)
    assert "study.json" in refused_here(monkeypatch, capsys, "show", tmp_path)


def test_too_few_bars(
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_bars(tmp_path / "data" / "bars.parquet", random_bars(45))
    study = home.write(tmp_path / "study.toml")
    line = refused_here(monkeypatch, capsys, "check", study)
    for word in ("45 bars", "at least 50", "warm-up"):
        assert word in line


def test_bars_that_are_not_those_of_the_export(
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = export_sets(home.out, out=tmp_path / "best.json")
    other = write_bars(tmp_path / "other.parquet", changed(random_bars(), 250))
    line = refused_here(monkeypatch, capsys, "replay", path, "--data", other)
    for word in (str(other), "other bars", "--data"):
        assert word in line


def called_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> str:
    monkeypatch.setattr(sys, "argv", ["barsweep", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main.main()
    output = capsys.readouterr()
    assert end.value.code in (0, None), output.err
    return output.out


@pytest.mark.parametrize("kind", ["json", "toml", "csv", "parquet"])
def test_export_in_every_format(
    kind: str,
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / f"sets.{kind}"
    arguments = ["export", home.out, "--format", kind, "--top", 3, "--out", path]
    assert called_here(monkeypatch, capsys, *arguments) == f"exported: {path}\n"
    rows: Any
    if kind in ("json", "toml"):
        rows = load_export(path)["sets"]
    elif kind == "csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert set(METRICS) <= set(rows[0])
    else:
        rows = pd.read_parquet(path)
    assert len(rows) == 3


def test_a_folder_whose_name_has_brackets_is_shown_as_it_is(
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run [old]"
    shutil.copytree(home.out, out)
    for arguments in (["show", out], ["export", out]):
        assert str(out) in called_here(monkeypatch, capsys, *arguments)


def test_what_is_not_complete_or_feasible_is_said(
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    search = {"trials": 2, "constraints": ["n_trades >= 10000"]}
    study = small_study(home.data, search=search)
    folder = run_study(study, out=tmp_path / "out", workers=1).folder
    manifest = {**folder.manifest(), "complete": False}
    manifest["study"]["costs"]["fill"] = "close"
    folder.write_manifest(manifest)
    text = plain(called_here(monkeypatch, capsys, "show", tmp_path / "out"))
    assert "not complete" in text
    assert "no parameter set is feasible; constraints: n_trades >= 10000" in text
    assert "optimistic" in text
    assert "barsweep export" not in text
    line = refused_here(monkeypatch, capsys, "export", tmp_path / "out")
    assert "no parameter set is feasible" in line


@pytest.mark.parametrize(
    ("change", "reason", "fix"),
    [
        ({"strategy": {"threshold": 90.0}}, "(held)", "lower thresholds"),
        ({"risk": {"min_order_size": 1e9}}, "below_minimum", "lower min_order_size"),
    ],
)
def test_where_nothing_traded_it_is_said_why(
    change: dict[str, Any],
    reason: str,
    fix: str,
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = small_study(home.data, search={"trials": 2, "constraints": []}, **change)
    run_study(study, out=tmp_path / "out", workers=1)
    text = " ".join(plain(called_here(monkeypatch, capsys, "show", tmp_path / "out")).split())
    assert "no set traded in-sample" in text
    assert reason in text
    assert fix in text


def test_without_a_holdout_no_out_of_sample_is_shown(
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = home.write(home.path / "whole.toml", validation={"holdout": 0})
    text = called_here(monkeypatch, capsys, "run", study, "--workers", 1, "--out", tmp_path / "out")
    assert "no out-of-sample" in plain(text)
    assert "nan" not in text
    assert "none feasible" not in text


def test_an_empty_result_can_be_shown(
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every tile is empty: the parameter constraints drop all."""
    search = {"trials": 2, "constraints": ["momentum_lookback > 30", "momentum_lookback < 10"]}
    run_study(small_study(home.data, search=search), out=tmp_path / "out", workers=1)
    text = plain(called_here(monkeypatch, capsys, "show", tmp_path / "out"))
    assert "no parameter set is feasible" in text


def test_a_study_that_was_killed_before_its_first_batch(
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(home.out, tmp_path / "out")
    for path in (tmp_path / "out" / "results").iterdir():
        path.unlink()
    assert "no results yet" in refused_here(monkeypatch, capsys, "show", tmp_path / "out")
