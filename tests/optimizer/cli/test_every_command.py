"""Every command with each of its options, and every pair of switches, on a real study: none crashes.

The commands and options are read from the application, so a new one is tried without a new test.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import typer

from optimizer.cli.app import app
from optimizer.study_file.tables import CLUSTERS
from tests.support.command import barsweep
from tests.support.studies import mapping, random_bars, write_bars

SERVES = ("dashboard", "trade")
"""Commands that go on until they are stopped."""

MEASURES = ("bench",)
"""Commands that take minutes; their options have tests of their own."""

ARGUMENTS = {
    "study": "study.toml",
    "folder": "out",
    "file": "out/best.json",
    "first": "out",
    "second": "out",
    "number": "0",
    "data": "bars.parquet",
    "trades": "out",
    "heatmap": "momentum_lookback kelly_fraction",
}
"""A right value of each argument by its name."""

OPTIONS = {
    "top": "2",
    "workers": "1",
    "trials": "2",
    "seed": "5",
    "where": "n_trades >= 0",
    "sort": "sharpe",
    "metric": "turnover",
    "format": "toml",
    "number": "1",
    "sets": "1",
    "copies": "2",
    "repeats": "2",
    "flow": "events",
    "benchmark": "AAA",
    "heatmap": "momentum_lookback kelly_fraction",
}
"""A right value of each option that takes one; the others get a file name that does not exist."""


def written(path: Path, study: dict[str, Any]) -> Path:
    """A study file."""
    path.write_text(tomli_w.dumps(study))
    return path


def commands() -> dict[str, Any]:
    """Every command by its words."""
    found: dict[str, Any] = {}

    def visit(words: str, command: Any) -> None:
        if hasattr(command, "commands"):
            for name, child in command.commands.items():
                visit(f"{words} {name}".strip(), child)
        else:
            found[words] = command

    visit("", typer.main.get_command(app))
    return found


COMMANDS = {
    words: command for words, command in commands().items() if words not in (*SERVES, *MEASURES)
}


def switches(command: Any) -> list[str]:
    """Options of a command that take no value."""
    return [
        one.opts[0]
        for one in command.params
        if one.param_type_name == "option" and one.is_flag and one.name != "help"
    ]


def invocations(command: Any) -> Iterator[list[str]]:
    """Arguments of a command: none, those it needs, each option, each pair of switches."""
    needed: list[str] = []
    for one in command.params:
        if one.required:
            value = ARGUMENTS.get(one.name or "", "missing").split()
            needed += value if one.param_type_name == "argument" else [one.opts[0], *value]
    yield []
    yield needed
    for one in command.params:
        if one.param_type_name == "option" and not one.is_flag and not one.required:
            yield [*needed, one.opts[0], *OPTIONS.get(one.name or "", "new/file.html").split()]
    for size in (1, 2):
        for chosen in itertools.combinations(switches(command), size):
            yield [*needed, *chosen]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars, a study file, its results and an export."""
    home = tmp_path_factory.mktemp("every")
    write_bars(home / "bars.parquet", random_bars())
    written(home / "study.toml", mapping("bars.parquet", search={"trials": 4}))
    assert (
        barsweep("run", "study.toml", "--out", "out", "--workers", "1", folder=home).returncode == 0
    )
    assert barsweep("export", "out", folder=home).returncode == 0
    return home


@pytest.mark.parametrize("words", COMMANDS)
def test_no_option_crashes(
    words: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / "ledger.db"))
    for number, given in enumerate(invocations(COMMANDS[words])):
        folder = tmp_path / str(number)
        shutil.copytree(home, folder)
        # Whatever is no error of the user's comes out of this call and fails the test.
        done = barsweep(*words.split(), *given, folder=folder)
        said = f"barsweep {words} {' '.join(given)}\n{done.stdout}{done.stderr}"
        assert done.returncode in (0, 1, 2), said
        assert "Traceback" not in done.stderr, said
        if done.returncode == 2:
            assert done.stderr.strip(), said


@pytest.mark.parametrize("backend", ["loky", *CLUSTERS])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_every_back_end_is_estimated(backend: str, count: int, home: Path) -> None:
    workers: dict[str, Any] = {"backend": backend, "count": count}
    if backend in CLUSTERS:
        workers["address"] = "tcp://127.0.0.1:1" if backend == "dask" else "auto"
    path = written(home / f"{backend}-{count}.toml", mapping("bars.parquet", workers=workers))
    done = barsweep("check", path, folder=home)
    assert done.returncode == 0, done.stderr
    if backend in CLUSTERS:
        assert f"with {max(count, 1)} worker" in done.stdout
        assert ("that is with 1 worker" in done.stdout) == (count == 0)
