"""What goes wrong inside a user's strategy file: exit code, message, no process left, nothing lost.

One strategy has every fault that strikes while it runs; its parameter ``fault`` chooses one. Each row
of ``docs/reliability.md`` names its test here, in ``test_custom`` or in ``test_faults``.
"""

from __future__ import annotations

import json
import re
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from optimizer.errors import StrategyError, StudyError
from optimizer.review.replay import replay
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.store.folder import StudyFolder
from optimizer.strategies.bound_kernels import strategies_folder
from optimizer.strategies.user import read_strategy
from optimizer.study_file.load import load_study
from optimizer.study_file.study import study_from_dict
from tests.support.processes import Command, survivors, wait_until
from tests.support.studies import mapping, random_bars, result_hashes, write_bars
from tests.test_faults import errors_of, has_batches

NONE, ONE_MORE, TUPLE, ARRAY, ENDLESS, NAN, INF, MINUS_INF = (
    0.0,
    0.5,
    1.0,
    2.0,
    3.0,
    4.0,
    5.0,
    6.0,
)

FAULTY = """
import math

import numpy as np

from optimizer import HOLD, LONG

PARAMETERS = {"lookback": (10, 1, 500), "fault": (0.0, 0.0, 10.0)}
FEATURES = {"momentum": ("momentum", "lookback")}
TUPLE = (0.1, 0.2)
ARRAY = np.array([0.1, 0.2])


def signal(momentum, volatility, fault):
    strength = 0.05 * volatility
    if fault == 1.0:
        strength = TUPLE[int(fault) + 2]
    if fault == 2.0:
        strength = ARRAY[int(fault)]
    while fault == 3.0 and strength < math.inf:
        strength = 0.5 * strength + 0.001
    if fault == 4.0:
        strength = math.nan
    if fault == 5.0:
        strength = math.inf
    if fault == 6.0:
        strength = -math.inf
    return (LONG if momentum > 0.0 else HOLD), strength, 1.0
"""
SIGNAL_LINE = FAULTY.splitlines().index("def signal(momentum, volatility, fault):") + 1


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_bars(tmp_path / "bars.parquet", random_bars())
    (tmp_path / "mine.py").write_text(FAULTY)
    return tmp_path


def write_study(home: Path, *faults: float, batch: int = 8, **workers: Any) -> Path:
    """A grid over faults, each a trial of two sets."""
    content = mapping(
        strategy={"path": "mine.py", "name": "mine", "lookback": 10,
                  "fault": {"choices": list(faults)}},
        risk={"max_exposure": 1.0, "volatility_lookback": 20},
        search={"sampler": "grid", "batch": batch},
        workers=workers,
    )  # fmt: skip
    del content["strategy"]["threshold"]
    file = home / "study.toml"
    file.write_text(tomli_w.dumps(content))
    return file


def command(home: Path, *arguments: object, prepare: str = "") -> Command:
    return Command(*arguments, output=home / "text", prepare=prepare)


def assert_one_line(command: Command, code: int = 2) -> str:
    assert command.wait() == code, command.text()
    usual = re.compile("runs code from |.* portfolios x |the holdout, from |compiling kernels")
    lines = [line for line in errors_of(command) if not usual.match(line)]
    assert len(lines) == 1, command.text()
    return lines[0]


def states(folder: StudyFolder) -> list[str]:
    return [trial["state"] for trial in folder.trials()]


# --- When the file is run -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "statement", "said"),
    [
        ("module", "raise ValueError('boom')", "ValueError: boom"),
        ("module", "import sys; sys.exit(0)", "SystemExit: 0"),
        ("module", "exit()", "SystemExit: None"),
        ("module", "import os; os._exit(0)", "SystemExit: 0"),
        ("feature", "raise ValueError('boom')", "ValueError: boom"),
        ("feature", "import os; os._exit(0)", "SystemExit: 0"),
    ],
)
def test_what_would_end_the_program_is_one_line(
    place: str, statement: str, said: str, home: Path
) -> None:
    text, line = f"{statement}\n{FAULTY}", 1
    if place == "feature":
        start, end = FAULTY.split("\nFEATURES")
        text = f"{start}\ndef own(close):\n    {statement}\nFEATURES" + end.replace(
            '("momentum",', "(own,"
        )
        line = start.count("\n") + 3
    (home / "mine.py").write_text(text)
    file = write_study(home, NONE)
    found = assert_one_line(command(home, "run", file, "--out", home / "out"))
    assert re.match(rf"error: \S*mine\.py:{line}: .*{re.escape(said)}$", found), found
    assert not (home / "out").exists()


@pytest.mark.parametrize("place", ["module", "feature"])
def test_ctrl_c_ends_a_loop_in_python(place: str, home: Path) -> None:
    loop = 'print("it loops", flush=True)\n{0}while True:\n{0}    pass\n'
    text = f"{loop.format('')}\n{FAULTY}"
    if place == "feature":
        start, end = FAULTY.split("\nFEATURES")
        text = f"{start}\ndef own(close):\n    {loop.format('    ')}\nFEATURES" + end.replace(
            '("momentum",', "(own,"
        )
    (home / "mine.py").write_text(text)
    check = command(home, "check", write_study(home, NONE))
    assert wait_until(lambda: "it loops" in check.text())
    family = check.family()
    check.signal(signal.SIGINT)
    assert check.wait() == 130
    assert check.text().splitlines()[-1] == "interrupted"
    assert survivors(family) == []


def test_running_a_file_leaves_the_program_as_it_was(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results would go to another folder, and standard output may be read by a program."""
    folder, errors = Path.cwd(), np.geterr()
    effects = "import os\nprint('hello')\nos.chdir('/')\nnp.seterr(all='raise')\n"
    (home / "mine.py").write_text(FAULTY.replace("\nPARAMETERS", f"{effects}\nPARAMETERS", 1))
    read_strategy(home / "mine.py", "mine")
    assert (Path.cwd(), np.geterr()) == (folder, errors)
    said = capsys.readouterr()
    assert said.out == "" and "hello" in said.err


def test_json_lines_are_all_that_is_on_standard_output(home: Path) -> None:
    file = write_study(home, NONE)
    run = Command(
        *("run", file, "--out", home / "out", "--workers", 1, "--json-lines"),
        output=home / "text",
        prepare="tests.support.faults:errors_elsewhere",
        own=[str(home / "errors")],
    )
    assert run.wait() == 0
    assert all(line.startswith("{") for line in run.text().splitlines()), run.text()
    assert (home / "errors").read_text().splitlines()[0].startswith("runs code from ")


def test_a_file_that_may_not_be_read(home: Path) -> None:
    file = write_study(home, NONE)
    (home / "mine.py").chmod(0)
    found = assert_one_line(
        command(home, "check", file, prepare="tests.support.faults:respect_permissions")
    )
    assert re.match(r"error: \S*mine\.py: cannot be read: Permission denied$", found), found


# --- While a study runs -------------------------------------------------------------------------


def test_a_signal_that_raises_fails_its_trial_alone(home: Path) -> None:
    """An index out of range: of a tuple, and of an array, where numba would read what lies there."""
    file = write_study(home, NONE, TUPLE, ARRAY, ONE_MORE)
    run = command(home, "run", file, "--out", home / "out", "--workers", 2)
    assert wait_until(lambda: len(run.workers()) > 0)
    family = run.family()
    assert run.wait() == 0, run.text()
    assert "Traceback" not in run.text()
    assert survivors(family) == []
    folder = StudyFolder(home / "out")
    assert states(folder) == ["COMPLETE", "FAIL", "FAIL", "COMPLETE"]
    for trial, words in zip(folder.trials()[1:3], ("tuple index", "index"), strict=True):
        reason = trial["user_attrs"]["reason"]
        assert re.match(
            rf"\S*mine\.py:{SIGNAL_LINE}: signal: IndexError: {words}.* out of ", reason
        ), reason
        assert f"1 trial failed: {reason}" in run.text()
    assert np.isfinite(folder.results()["final_equity"]).all()
    study = load_study(file)
    alone = run_study(study, out=home / "alone", workers=1)
    assert result_hashes(alone.folder) == result_hashes(folder)
    # Whatever ends the study after its first batches, the failed trials stay failed.
    steps = run_study(
        load_study(write_study(home, NONE, TUPLE, ARRAY, ONE_MORE, batch=1)),
        out=home / "steps", workers=1,
    )  # fmt: skip
    whole = result_hashes(steps.folder)
    for path in steps.folder.batch_paths()[2:]:
        path.unlink()
    steps.folder.write_manifest({**steps.folder.manifest(), "complete": False})
    assert result_hashes(resume_study(home / "steps", workers=1).folder) == whole


@pytest.mark.parametrize("fault", [ARRAY, NAN, INF, MINUS_INF])
def test_a_fault_of_the_first_set_is_named_before_anything_is_written(
    fault: float, home: Path
) -> None:
    file = write_study(home, fault, NONE)
    said = "IndexError" if fault == ARRAY else f"strength {'-' * (fault == 6)}(nan|inf)"
    found = assert_one_line(command(home, "run", file, "--out", home / "out", "--workers", 2))
    assert re.match(rf"error: \S*mine\.py:{SIGNAL_LINE}: signal: .*{said}.* at 20", found), found
    assert not (home / "out").exists()


def test_what_is_not_finite_never_comes_into_results(home: Path) -> None:
    """A later set whose signal is none holds what it has: nothing. It is never the best."""
    study = load_study(write_study(home, NONE, NAN, INF, MINUS_INF))
    result = run_study(study, out=home / "out", workers=1)
    rows = result.results()
    assert len(rows) == 8
    empty = rows[rows["mine_fault"] >= NAN]
    assert (empty["n_trades"] == 0).all() and (empty["final_equity"] == 100_000.0).all()
    assert rows[["final_equity", "max_drawdown"]].notna().all().all()
    assert states(result.folder) == ["COMPLETE", "FAIL", "FAIL", "FAIL"]
    assert result.folder.trials()[1]["user_attrs"]["reason"].startswith("sharpe: not finite")
    exported = export_sets(home / "out")
    assert replay(exported, events=True).differences == ()


def test_the_event_flow_names_a_signal_that_raises(home: Path) -> None:
    """Its line, the bar and the symbol; the record and the trace say so too."""
    file = write_study(home, NONE, ARRAY)
    out = home / "flow"
    found = assert_one_line(command(home, "flow", file, "--out", out))
    line = FAULTY.splitlines().index("        strength = ARRAY[int(fault)]") + 1
    where = r"at bar \d+ at 20\S+ of AAA$"
    assert re.match(rf"error: \S*mine\.py:{line}: signal: IndexError: .*; {where}", found), found
    record = json.loads((out / "flow.json").read_text())
    assert record["state"] == "failed"
    assert found == f"error: {record['error']}"
    traced = command(home, "trace", out, "--rejects")
    assert traced.wait() == 0
    said = f"this flow ended by an error; later bars are missing: {record['error']}"
    assert traced.text().splitlines()[0] == said


def test_ctrl_c_ends_a_loop_in_compiled_code_and_a_limit_resumes_it(home: Path) -> None:
    """With one worker no process can be ended: the loop is in the only one, and Python waits."""
    out = home / "out"
    run = command(home, "run", write_study(home, NONE, ENDLESS, ONE_MORE, batch=1),
                  "--out", out, "--workers", 1)  # fmt: skip
    assert wait_until(partial(has_batches, out, 1))
    time.sleep(1.0)
    family = run.family()
    run.signal(signal.SIGINT)
    found = assert_one_line(run, 130)
    assert found.startswith("interrupted; ") and f"`barsweep resume {out}`" in found
    assert survivors(family) == []
    kept = result_hashes(StudyFolder(out))
    assert len(kept) == 1
    write_study(home, NONE, ENDLESS, ONE_MORE, batch=1, tile_seconds=3)
    resumed = command(home, "resume", out, "--workers", 2)
    assert resumed.wait() == 0, resumed.text()
    folder = StudyFolder(out)
    assert states(folder) == ["COMPLETE", "FAIL", "COMPLETE"]
    reason = folder.trials()[1]["user_attrs"]["reason"]
    assert reason == "took longer than [workers] tile_seconds = 3"
    assert kept.items() <= result_hashes(folder).items()


def test_a_limit_ends_the_first_set_too(home: Path) -> None:
    file = write_study(home, ENDLESS, tile_seconds=3)
    run = command(home, "run", file, "--out", home / "out", "--workers", 2)
    assert wait_until(lambda: len(run.workers()) > 0)
    family = run.family()
    found = assert_one_line(run)
    assert re.match(r"error: \S*mine\.py: .* took longer than \[workers\] tile_seconds = 3;", found)
    assert survivors(family) == []


def test_a_limit_ends_a_classifier_too(home: Path) -> None:
    (home / "slow.py").write_text(
        "import time\nPARAMETERS = {}\ndef fit(returns):\n    while True:\n        time.sleep(0.1)\n"
        "def classify(model, returns):\n    return 0\n"
    )
    table = {"name": "slow", "path": "slow.py", "train_bars": 60, "lookback": 20}
    content = mapping("bars.parquet", classifier=table)
    content["workers"] = {"tile_seconds": 2}
    (home / "slow.toml").write_text(tomli_w.dumps(content))
    run = command(home, "run", home / "slow.toml", "--out", home / "out", "--workers", 2)
    assert wait_until(lambda: len(run.workers()) > 0)
    family = run.family()
    assert "cannot be fitted: took longer than [workers] tile_seconds = 2" in assert_one_line(run)
    assert survivors(family) == []


# --- The file while a study runs ----------------------------------------------------------------


def test_a_file_that_goes_or_changes_after_the_start(home: Path) -> None:
    file = write_study(home, NONE, ONE_MORE)
    study = load_study(file)
    whole = run_study(study, out=home / "whole", workers=1)
    (home / "mine.py").write_text("raise SystemExit('it ran')\n")
    out = run_study(study, out=home / "out", workers=2)
    assert result_hashes(out.folder) == result_hashes(whole.folder)
    out.folder.write_manifest({**out.folder.manifest(), "complete": False})
    out.folder.batch_paths()[0].unlink()
    with pytest.raises(StudyError, match=r"study\.toml has changed .* source_hash"):
        resume_study(home / "out", workers=1)
    (home / "mine.py").write_text(FAULTY + "# an edit\n")
    with pytest.raises(StudyError, match=r"study\.toml has changed .* source_hash"):
        resume_study(home / "out", workers=1)
    (home / "mine.py").unlink()
    with pytest.raises(StrategyError, match=r"mine\.py.*no such file"):
        resume_study(home / "out", workers=1)
    (home / "mine.py").write_text(FAULTY)
    resumed = resume_study(home / "out", workers=1).folder
    assert result_hashes(resumed) == result_hashes(whole.folder)


def test_workers_name_a_file_that_is_nowhere(home: Path) -> None:
    """Neither in its place nor next to the compiled kernels."""
    (home / "mine.py").write_text(f"{FAULTY}# nowhere\n")
    study = study_from_dict(load_study(write_study(home, NONE)).to_dict(), home)
    (strategy,) = study.user_strategies
    (home / "mine.py").unlink()
    for path in strategies_folder().glob(f"*/{strategy.declaration.source_hash}.py"):
        path.unlink()
    with pytest.raises(StrategyError, match=r"mine\.py: is missing since the study ran .* put"):
        run_study(study, out=home / "out", workers=2)
