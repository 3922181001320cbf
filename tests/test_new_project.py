"""`barsweep new`: all that it writes runs as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from optimizer.errors import StudyError
from optimizer.new_project import FILES, write_project

ROOT = Path(__file__).parent.parent


def run(folder: Path, *arguments: str, module: str = "optimizer") -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_new_project_is_checked_run_exported_replayed_and_tested(tmp_path: Path) -> None:
    assert "next:" in run(tmp_path, "new", "project")
    folder = tmp_path / "project"
    checked = run(folder, "check", "study.toml", "--look-ahead")
    assert "look-ahead: none" in checked and "study.toml: valid" in checked
    ran = run(folder, "run", "study.toml", "--out", "out", "--trials", "8")
    assert "runs code from my_strategy.py" in ran
    assert "my_study: 512 parameter sets" in ran
    run(folder, "export", "out")
    exported = json.loads((folder / "out" / "best.json").read_text())
    assert exported["strategies"]["my_strategy"]["path"] == "../my_strategy.py"
    replayed = run(folder, "replay", "out/best.json", "--flow", "events")
    assert "agree bit for bit" in replayed and "identical" in replayed
    assert "2 passed" in run(folder, "-q", "-p", "no:cacheprovider", module="pytest")
    # The test that comes with it does find a strategy that cheats.
    strategy = folder / "my_strategy.py"
    text = strategy.read_text()
    assert text.count("return close / ") == 1
    strategy.write_text(
        text.replace("return close / ", "close = pd.Series(close).shift(-1)\n    return close / ")
    )
    done = subprocess.run(
        [sys.executable, "-m", "optimizer", "check", "study.toml", "--look-ahead"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "look-ahead: feature my_strategy.near_peak_60 of " in done.stdout
    assert "Traceback" not in done.stderr


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("mine")
    with pytest.raises(StudyError, match="already holds files"):
        write_project(tmp_path)
    assert (tmp_path / "study.toml").read_text() == "mine"
    assert [path.name for path in write_project(tmp_path / "a" / "b")] == list(FILES)
