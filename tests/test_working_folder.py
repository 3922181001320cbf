"""The working folder may be a stranger's: nothing in it is imported, and nothing in it sets numba up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import tomli_w

from optimizer.isolation import NUMBA_FILE, safe_children
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.store.folder import StudyFolder
from optimizer.study_file.load import load_study
from tests.support.studies import mapping, random_bars, result_hashes, write_bars

MODULES = (
    *("__future__", "_strptime", "bisect", "colorsys", "ctypes", "dataclasses", "hashlib", "heapq"),
    *("joblib", "json", "kernels", "llvmlite", "logging", "multiprocessing", "numba", "numpy"),
    *("optuna", "pandas", "pickle", "pkgutil", "pyarrow", "random", "runpy", "signal", "sklearn"),
    *("socket", "subprocess", "tempfile", "threading", "typer", "typing", "uuid", "yaml"),
)
"""Names that the program, or Python as it starts it, imports."""

CODE = "import os\nos.close(os.open({!r}, os.O_CREAT | os.O_WRONLY))\nraise SystemExit(77)\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a study of two batches, run to its end."""
    home = tmp_path_factory.mktemp("made")
    write_bars(home / "bars.parquet", random_bars(120))
    content = mapping("bars.parquet", search={"trials": 4, "batch": 2})
    (home / "study.toml").write_text(tomli_w.dumps(content))
    run_study(load_study(home / "study.toml"), out=home / "out", workers=1)
    return home


@pytest.fixture
def unfinished(made: Path, tmp_path: Path) -> Path:
    """The folder of the study as a stranger hands it over, without its second batch."""
    shutil.copytree(made / "out", tmp_path / "out")
    StudyFolder(tmp_path / "out").batch_paths()[-1].unlink()
    return tmp_path / "out"


@pytest.fixture
def script(tmp_path: Path) -> list[str]:
    """The command as pip installs it: Python puts the script's own folder on the path."""
    file = tmp_path / "bin" / "barsweep"
    file.parent.mkdir()
    file.write_text("import sys\nfrom optimizer.cli.main import main\nsys.exit(main())\n")
    return [sys.executable, str(file)]


def command(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, words)), cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("door", ["script", "module"])
def test_nothing_is_imported_from_the_working_folder(
    door: str, script: Sequence[str], unfinished: Path
) -> None:
    """The parent, its workers and the processes that look after their memory."""
    ran = unfinished / "ran"
    for name in MODULES:
        (unfinished / f"{name}.py").write_text(CODE.format(str(ran)))
    start = script if door == "script" else [sys.executable, "-m", "optimizer"]
    done = command(*start, "resume", ".", "--workers", 2, folder=unfinished)
    assert not ran.exists()
    assert done.returncode == 0, done
    assert len(result_hashes(StudyFolder(unfinished))) == 2


def test_what_a_stranger_says_to_numba_is_ignored(script: Sequence[str], unfinished: Path) -> None:
    victim = unfinished.parent / "victim"
    victim.write_text("precious")
    (unfinished / NUMBA_FILE).write_text(f"chrome_trace: {victim}\ndisable_jit: 1\nopt: '0'\n")
    done = command(*script, "resume", ".", "--workers", 2, folder=unfinished)
    assert done.returncode == 0, done
    assert victim.read_text() == "precious"
    assert done.stderr.splitlines()[0] == (
        f"{NUMBA_FILE}: not read; barsweep takes numba's settings from variables NUMBA_... only"
    )


IGNORED = """
import os, pathlib, sys, yaml
{first}
pathlib.Path({name!r}).write_text("opt: '1'")
import optimizer, kernels.metrics
import numba
from numba.core import config
assert config.OPT == 3, config.OPT
os.environ["NUMBA_SHOW_HELP"] = "1"  # a user's own word, which is read at the next compilation
numba.njit(lambda x: x + 1)(1)
assert (config.OPT, config.SHOW_HELP) == (3, 1)
assert sys.modules["yaml"] is yaml and yaml.safe_load("a: 1") == {{"a": 1}}
"""


@pytest.mark.parametrize("first", ["", "import numba"], ids=["imported later", "imported before"])
def test_numba_ignores_its_file_in_any_order_of_imports(first: str, tmp_path: Path) -> None:
    """Also at a compilation, when it would look again; variables count as ever."""
    code = IGNORED.format(first=first, name=NUMBA_FILE)
    done = command(sys.executable, "-W", "error", "-c", code, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_tearsheet_is_drawn_with_the_defaults(
    script: Sequence[str], made: Path, tmp_path: Path
) -> None:
    """A file of matplotlib's settings in the working folder could have LaTeX started."""
    pytest.importorskip("quantstats")
    ran = tmp_path / "ran"
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("latex", "kpsewhich", "dvipng"):
        (tools / name).write_text(f"#!/bin/sh\ntouch {ran}\nexit 1\n")
        (tools / name).chmod(0o700)
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    best = export_sets(made / "out")
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    words = [*script, "tearsheet", str(best), "--out", "t.html"]
    done = subprocess.run(
        words,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )
    assert not ran.exists()
    assert done.returncode == 0, done
    assert (tmp_path / "t.html").exists()


HERE = """
import sys
sys.argv = ["barsweep", "--version"]
sys.path.append("a_placeholder")
from optimizer.cli.main import main
try:
    main()
except SystemExit as end:
    assert end.code == 0
import surely_not_installed
"""


def test_the_command_line_leaves_the_working_folder(tmp_path: Path) -> None:
    """However it was started: what is not installed is not found there either."""
    (tmp_path / "a_placeholder").mkdir()
    for folder in (tmp_path, tmp_path / "a_placeholder"):
        (folder / "surely_not_installed.py").write_text(CODE.format(str(tmp_path / "ran")))
    done = command(sys.executable, "-c", HERE, folder=tmp_path)
    assert "No module named 'surely_not_installed'" in done.stderr, done
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("own", [None, "", "1", "yes"])
def test_children_are_safe_for_the_time_of_a_block(
    own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = "PYTHONSAFEPATH"
    monkeypatch.delenv(variable, raising=False)
    if own is not None:
        monkeypatch.setenv(variable, own)
    seen, first_is_open, second_is_open = [], threading.Event(), threading.Event()

    def first() -> None:
        with safe_children():
            first_is_open.set()
            second_is_open.wait(60)
        seen.append(os.environ.get(variable))

    thread = threading.Thread(target=first)
    thread.start()
    first_is_open.wait(60)
    with safe_children():
        second_is_open.set()
        thread.join()
        assert seen == [own or "1"]
    assert os.environ.get(variable) == own


def test_a_study_leaves_the_environment_as_it_was(made: Path, tmp_path: Path) -> None:
    before = dict(os.environ)
    run_study(load_study(made / "study.toml"), out=tmp_path / "out", workers=2)
    assert dict(os.environ) == before
