"""`barsweep new`: all that it writes runs as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from optimizer.errors import StudyError
from optimizer.project.new import FILES, write_project
from tests.support.processes import Command

ROOT = Path(__file__).resolve().parents[3]


def ran(folder: Path, *arguments: str, code: int = 0) -> str:
    """What a command says."""
    output, ledger = folder / "said.txt", folder / "ledger.db"
    prepare, own = "tests.support.command:settle", (str(folder), str(ledger))
    done = Command(*arguments, output=output, prepare=prepare, own=own)
    assert done.wait() == code, done.text()
    assert "Traceback" not in done.text()
    return done.text()


def test_a_new_project_is_checked_run_exported_replayed_and_tested(tmp_path: Path) -> None:
    assert "next:" in ran(tmp_path, "new", "project")
    folder = tmp_path / "project"
    checked = ran(folder, "check", "study.toml", "--look-ahead")
    assert "look-ahead: none" in checked and "study.toml: valid" in checked
    said = ran(folder, "run", "study.toml", "--out", "out", "--trials", "8")
    assert "runs code from my_strategy.py" in said
    assert "my_study: 512 parameter sets" in said
    ran(folder, "export", "out")
    exported = json.loads((folder / "out" / "best.json").read_text())
    assert exported["strategies"]["my_strategy"]["path"] == "../my_strategy.py"
    replayed = ran(folder, "replay", "out/best.json", "--flow", "events")
    assert "agree bit for bit" in replayed and "identical" in replayed
    # What only looks at results runs no code of the user's.
    best = str(exported["sets"][0]["set"])
    assert "open after the last bar: " in replayed
    seen = ran(folder, "show", "out", best)
    assert "unknown: its strategy is your own, whose code only `barsweep replay` runs" in seen
    ran(folder, "run", "study.toml", "--out", "less", "--trials", "1")
    compared = ran(folder, "compare", "out", "less")
    assert "cannot be tried in less: its strategy is your own" in compared.replace("\n", " ")
    assert "declared" not in compared
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0 and "2 passed" in tested.stdout, tested.stdout + tested.stderr
    # The test that comes with it does find a strategy that cheats.
    strategy = folder / "my_strategy.py"
    text = strategy.read_text()
    assert text.count("return close / ") == 1
    strategy.write_text(
        text.replace("return close / ", "close = pd.Series(close).shift(-1)\n    return close / ")
    )
    found = ran(folder, "check", "study.toml", "--look-ahead", code=1)
    assert "look-ahead: feature my_strategy.near_peak_60 of " in found


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("mine")
    with pytest.raises(StudyError, match="already holds files"):
        write_project(tmp_path)
    with pytest.raises(StudyError, match="is a file"):
        write_project(tmp_path / "study.toml")
    assert (tmp_path / "study.toml").read_text() == "mine"
    assert [path.name for path in write_project(tmp_path / "a" / "b")] == list(FILES)
