"""What a file may not do: leave the output folder, run code, reach into SQL, leak a password."""

from __future__ import annotations

import ast
import json
import pickle
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from optimizer.bars.importing import import_bars
from optimizer.bars.load import load_bars
from optimizer.errors import StudyError, StudyFileError
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.study_file.load import load_study
from optimizer.study_file.study import study_from_dict
from optimizer.sweep.inputs import Inputs
from optimizer.views.report import write_report
from tests.support.command import barsweep
from tests.support.studies import mapping, random_bars, write_bars

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = ("../../above", "/tmp/barsweep-absolute", "BTC/USDT:USDT", "x'; drop table fills; --")
SECRET = "s3cr3t-w0rd"


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- Names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../x", "..", ".", "a/b", "/etc/x", "a\\b", "-x", ".x", "a\0b", "a\nb", "", "x" * 101]
)
def test_a_study_name_that_is_no_file_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyFileError, match=r"\[study\] name: got"):
        study_from_dict(mapping(study={"name": name}))
    path = tmp_path / "study.toml"
    path.write_text(tomli_w.dumps(mapping(study={"name": name})))
    with pytest.raises(StudyFileError, match=r"\[study\] name: got"):
        load_study(path)


def test_symbols_that_look_like_paths_and_sql(tmp_path: Path) -> None:
    """A sweep, an export, a replay and a traced flow write below the output folder alone."""
    home = tmp_path / "a" / "b" / "home"
    write_bars(home / "bars.parquet", random_bars(200, HOSTILE))
    grid = mapping(
        "bars.parquet",
        strategy={"name": "momentum", "lookback": {"choices": [5, 10]}},
        search={"sampler": "grid"},
    )
    del grid["search"]["trials"]
    grid["risk"]["max_exposure"] = 0.8
    grid["risk"]["volatility_lookback"] = 10
    grid["strategy"] = {"name": "momentum", "lookback": {"choices": [5, 10]}}
    (home / "study.toml").write_text(tomli_w.dumps(grid))
    before = files_of(tmp_path)
    for command in (
        ("run", "study.toml", "--out", "out/sweep", "--workers", "1"),
        ("export", "out/sweep"),
        ("replay", "out/sweep/best.json"),
        ("flow", "study.toml", "--out", "out/flow"),
        ("data", "import", "bars.parquet", "--out", "out/again.parquet"),
    ):
        done = barsweep(*command, folder=home)
        assert done.returncode == 0, done.stderr
        if command[0] == "flow":
            fills = re.findall(r"next: +barsweep trace (\S+) (.*)", done.stdout)
    written = files_of(tmp_path) - before
    assert written and all(name.startswith("a/b/home/out/") for name in written)
    assert not Path(HOSTILE[1]).exists()
    assert load_bars(home / "out" / "again.parquet").symbols == tuple(sorted(HOSTILE))
    with sqlite3.connect(home / "out" / "flow" / "analytics.db") as database:
        names = database.execute("SELECT DISTINCT symbol FROM fills").fetchall()
        [(fill, sql)] = database.execute(
            "SELECT fill_id, symbol FROM fills WHERE symbol LIKE '%drop table%' LIMIT 1"
        )
    database.close()
    assert fills and {name for (name,) in names} == set(HOSTILE) and sql == HOSTILE[3]
    chain = barsweep("trace", "out/flow", fill, folder=home)
    assert chain.returncode == 0 and HOSTILE[3] in chain.stdout
    assert barsweep("trace", "out/flow", "--rejects", folder=home).returncode == 0


def test_an_import_writes_where_it_is_told_alone(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "x.csv"
    path.write_text(
        "symbol,timestamp,open,high,low,close,volume\n"
        + "".join(f"../../up,2017-01-0{day},1,1,1,1,1\n" for day in (3, 4))
    )
    import_bars([path], folder / "bars.parquet")
    assert files_of(tmp_path) == {"in/x.csv", "in/bars.parquet"}
    assert load_bars(folder / "bars.parquet").symbols == ("../../up",)


# --- Code -------------------------------------------------------------------------------------

UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
UNSAFE_CALLS = {"read_pickle", "eval", "exec"}


def ways_to_run_what_a_file_holds(source: str) -> Iterator[str]:
    """Imports of pickle and its kin, calls that unpickle, and ``eval``."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.Import, ast.ImportFrom, ast.Call)):
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
        else:
            names = []
        for name in names:
            if name.split(".")[0] in UNSAFE_MODULES or name == "joblib.load":
                yield f"{node.lineno}: import {name}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        last = called.rpartition(".")[2]
        if last in UNSAFE_CALLS and (called == last or last == "read_pickle"):
            yield f"{node.lineno}: {called}"
        if called == "joblib.load":
            yield f"{node.lineno}: {called}"
        allowed = [k.value for k in node.keywords if k.arg == "allow_pickle"]
        if any(not (isinstance(v, ast.Constant) and v.value is False) for v in allowed):
            yield f"{node.lineno}: {called} with allow_pickle"


def test_nothing_unpickles() -> None:
    found = {
        str(path.relative_to(ROOT)): problems
        for package in ("kernels", "optimizer")
        for path in sorted((ROOT / package).rglob("*.py"))
        if (problems := list(ways_to_run_what_a_file_holds(path.read_text(encoding="utf-8"))))
    }
    # A strategy that the user names is the one way to run code, and its path is printed. The modules
    # next to it that it imports are part of what is approved.
    for name in ("user_file.py", "user_source.py"):
        (problem,) = found.pop(f"optimizer/strategies/{name}")
        assert problem.endswith("exec")
    # Compiled kernels come with the package, as its code does.
    (problem,) = found.pop("optimizer/prebuilt.py")
    assert problem.endswith("pickle")
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import loads",
        "import joblib\njoblib.load('x')",
        "from joblib import load",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=flag)",
        "import pandas as pd\npd.read_pickle('x')",
        "eval('1')",
    ],
)
def test_what_unpickles_is_found(source: str) -> None:
    assert list(ways_to_run_what_a_file_holds(source))


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return _mark, (str(self.path),)


def _mark(path: str) -> str:
    Path(path).write_text("ran")
    return path


def test_a_planted_pickle_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    bomb = pickle.dumps(Bomb(mark))
    pickle.loads(bomb)
    assert mark.exists()  # it would
    mark.unlink()
    write_bars(tmp_path / "bars.parquet", random_bars(150))
    (tmp_path / "study.toml").write_text(
        tomli_w.dumps(mapping("bars.parquet", search={"trials": 2, "batch": 2}))
    )
    assert (
        barsweep("run", "study.toml", "--out", "out", "--workers", 1, folder=tmp_path).returncode
        == 0
    )
    batch = next((tmp_path / "out" / "results").glob("*.parquet"))
    good = {path: path.read_bytes() for path in (batch, tmp_path / "out" / "study.json")}
    for path, content in good.items():
        path.write_bytes(bomb)
        for command in (("show", "out"), ("export", "out")):
            refused = barsweep(*command, folder=tmp_path)
            assert refused.returncode == 2 and path.name in refused.stderr
            assert refused.stderr.count("\n") == 1
        path.write_bytes(content)
    (tmp_path / "out" / "optuna.journal").write_bytes(bomb)
    (tmp_path / "out" / "results" / "batch-999999.pkl").write_bytes(bomb)
    assert barsweep("show", "out", folder=tmp_path).returncode == 0
    for name in ("best.json", "best.toml"):
        (tmp_path / name).write_bytes(bomb)
        assert barsweep("replay", name, folder=tmp_path).returncode == 2
    assert not mark.exists()


def test_arrays_of_objects_are_not_mapped(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "inputs.json").write_text(json.dumps({"symbols": [], "keys": [], "left_out": []}))
    planted = np.array([Bomb(mark)], dtype=object)
    for name in ("timestamps", "open", "high", "low", "close", "volume", "features"):
        np.save(tmp_path / f"{name}.npy", planted, allow_pickle=True)
    with pytest.raises(ValueError, match="object"):
        Inputs.load(tmp_path)
    assert not mark.exists()


# --- Passwords --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@127.0.0.1:1/name",
        f"postgresql://user:{SECRET}@127.0.0.1:notaport/name",
        f"postgresql://user:{SECRET}@[::1/name",
        f"mysql://user:{SECRET}@127.0.0.1/name",
        f"postgresql:user:{SECRET}@127.0.0.1/name",
        [f"postgresql://user:{SECRET}@127.0.0.1:1/name"],
        {"address": f"postgresql://user:{SECRET}@127.0.0.1:1/name"},
    ],
)
def test_a_password_is_in_no_message_and_no_file(tmp_path: Path, url: Any) -> None:
    write_bars(tmp_path / "bars.parquet", random_bars(150))
    content = mapping("bars.parquet", search={"trials": 2, "batch": 2}, analytics={"url": url})
    study = tmp_path / "study.toml"
    study.write_text(tomli_w.dumps(content))
    flow = barsweep("flow", "study.toml", "--out", "flow", folder=tmp_path)
    assert flow.returncode == 2, flow.stdout
    for command in (
        ("check", "study.toml"),
        ("run", "study.toml", "--out", "out", "--workers", "1"),
    ):
        done = barsweep(*command, folder=tmp_path)
        assert SECRET not in done.stdout + done.stderr
    assert SECRET not in flow.stdout + flow.stderr and "Traceback" not in flow.stderr
    for path in tmp_path.rglob("*"):
        if path.is_file() and path != study:
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_misspelt_table_does_not_show_its_password(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    for table in ("analytic", "analytics"):
        for key in ("url", "urls", "password"):
            content = mapping("bars.parquet")
            content[table] = {key: f"postgresql://user:{SECRET}@host/name", "other": 1}
            study.write_text(tomli_w.dumps(content))
            with pytest.raises(StudyFileError) as caught:
                load_study(study)
            assert SECRET not in str(caught.value), (table, key)
    content = mapping("bars.parquet", analytics=f"postgresql://user:{SECRET}@host/name")
    study.write_text(tomli_w.dumps(content))
    with pytest.raises(StudyFileError) as caught:
        load_study(study)
    assert SECRET not in str(caught.value)


def test_outputs_replace_nothing_but_outputs(tmp_path: Path) -> None:
    bars = write_bars(tmp_path / "bars.parquet", random_bars())
    (tmp_path / "study.toml").write_text(tomli_w.dumps(mapping("bars.parquet")))
    run_study(load_study(tmp_path / "study.toml"), out=tmp_path / "out", workers=1)
    folder = tmp_path / "out"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    batch = folder / "results" / "batch-000000.parquet"
    attempts: tuple[tuple[Path, Callable[[Path], Path]], ...] = (
        (folder / "study.json", lambda out: export_sets(folder, out=out)),
        (folder / "selection.json", lambda out: export_sets(folder, out=out)),
        (batch, lambda out: export_sets(folder, format="parquet", out=out)),
        (bars, lambda out: export_sets(folder, format="parquet", out=out)),
        (tmp_path / "study.toml", lambda out: export_sets(folder, format="toml", out=out)),
        (folder / "study.json", lambda out: write_report(folder, out)),
    )
    for out, write in attempts:
        with pytest.raises(StudyError, match="would be lost"):
            write(out)
    assert {path: path.read_bytes() for path in files} == before
    for _ in range(2):  # its own output is replaced
        export_sets(folder, format="toml", out=tmp_path / "best.toml")
