"""A stranger's folder or export is data: none of its code runs before the user approves it."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import logging
import os
import shutil
import socket
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from joblib.externals.loky import get_reusable_executor

import optimizer
from optimizer.engine.handover import Handover, LostResultError, Receipt
from optimizer.errors import (
    ExportError,
    StrategyError,
    StudyError,
    StudyFileError,
    UntrustedCodeError,
)
from optimizer.files import ledger_path
from optimizer.review.replay import replay
from optimizer.search.combine import combine
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.store.folder import StudyFolder
from optimizer.strategies import approvals, user
from optimizer.strategies.bound_kernels import _module
from optimizer.strategies.declaration import Declaration
from optimizer.strategies.recorded_declaration import declaration_from_dict
from optimizer.strategies.user import UserStrategy, read_recorded_strategy
from optimizer.strategies.user_file import StrategyFile
from optimizer.strategies.user_kernels import _adapter
from optimizer.strategies.user_source import Neighbours, read_source, source_hash
from optimizer.study_file.load import load_study
from optimizer.study_file.study import recorded_study
from tests.support.command import Done, barsweep
from tests.support.strategies import MOMENTUM
from tests.support.studies import mapping, random_bars, result_hashes, write_bars

HOSTILE = "x): import os; os.system('touch pwned') #"


STRATEGY = f"""
import os

with open(os.environ.get("BARSWEEP_TEST_RAN", os.devnull), "a") as file:
    file.write("ran")
{MOMENTUM}
"""
"""The momentum rule, and a word in a file whenever its code runs."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds all of someone's study: run to its end, and exported."""
    home = tmp_path_factory.mktemp("made")
    write_bars(home / "bars.parquet", random_bars())
    (home / "mine.py").write_text(STRATEGY)
    content = mapping(
        strategy={"name": "mine", "path": "mine.py", "lookback": {"choices": [5, 20]},
                  "threshold": {"sweep": [0.0, 0.02]}},
        search={"sampler": "grid", "batch": 1},
        risk={"max_exposure": 0.8, "volatility_lookback": 20},
    )  # fmt: skip
    (home / "study.toml").write_text(tomli_w.dumps(content))
    before = os.environ["BARSWEEP_LEDGER"]
    os.environ["BARSWEEP_LEDGER"] = str(home / "ledger.db")
    try:
        run_study(load_study(home / "study.toml"), out=home / "out", workers=1)
        combine([home / "out"], max_correlation=1.0, out=home / "out" / "book.json")
    finally:
        os.environ["BARSWEEP_LEDGER"] = before
    export_sets(home / "out")
    export_sets(home / "out", format="toml")
    return home


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes this process like a new one: it has run and approved nothing."""

    def act() -> None:
        monkeypatch.setattr(approvals, "_approved", set())
        monkeypatch.setattr(approvals, "_accepted", set())
        monkeypatch.setattr(approvals, "_told", set())
        monkeypatch.setattr(user, "_compiled", {})

    return act


@pytest.fixture
def home(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> Iterator[Path]:
    """The same, as another user gets it."""
    place = tmp_path / "got"
    shutil.copytree(made, place, ignore=shutil.ignore_patterns("ran", "ledger*"))
    text = (place / "out" / "study.json").read_text().replace(str(made), str(place))
    (place / "out" / "study.json").write_text(text)
    monkeypatch.setenv("BARSWEEP_TEST_RAN", str(place / "ran"))
    monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / "user" / "ledger.db"))
    forget()
    yield place
    assert not list(tmp_path.rglob("pwned"))


def edit(place: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what study.json says, so that only its content tells."""
    file = place / "out" / "study.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    with contextlib.suppress(StudyFileError, KeyError, TypeError):
        manifest["study_hash"] = recorded_study(manifest["study"]).content_hash
    file.write_text(json.dumps(manifest))


def unfinished(place: Path) -> None:
    edit(place, lambda manifest: manifest.update(complete=False))
    StudyFolder(place / "out").batch_paths()[-1].unlink()


def state(place: Path) -> dict[str, str]:
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def ran(place: Path) -> bool:
    return (place / "ran").exists()


def assert_refused(done: Done, place: Path, *words: str) -> None:
    assert done.returncode == 2, done
    assert "runs code" not in done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: "), line
    for word in words:
        assert word in line, line
    assert not ran(place)


def source_hash_of(place: Path, name: str = "mine.py") -> str:
    return hashlib.sha256((place / name).read_bytes()).hexdigest()


# --- What a stranger's folder can do ------------------------------------------------------------

READING = (
    ("list", "."), ("show", "out"), ("show", "out", 0), ("show", "out", "--where", "n_trades>=0"),
    ("compare", "out", "out"), ("plot", "out", "--heatmap", "lookback", "threshold"),
    ("export", "out", "--format", "csv"),
)  # fmt: skip
REPLAYING = (
    ("replay", "out/best.json"), ("replay", "out/best.toml"),
    ("replay", "out/best.json", "--flow", "events"), ("tearsheet", "out/best.json"),
    ("replay", "out/book.json"), ("replay", "out/book.json", "--set", 2),
    ("combine", "out", "--max-correlation", 1, "--out", "new.json"),
)  # fmt: skip


@pytest.mark.parametrize("arguments", READING, ids=" ".join(map(str, range(len(READING)))).split())
def test_reading_a_folder_runs_no_code(arguments: tuple[object, ...], home: Path) -> None:
    done = barsweep(*arguments, folder=home)
    assert done.returncode == 0, done
    assert "runs code" not in done.stdout + done.stderr
    assert not ran(home)


@pytest.mark.parametrize(
    "arguments",
    REPLAYING,
    ids=["json", "toml", "events", "tearsheet", "combination", "member", "combine"],
)
def test_a_replay_of_unknown_code_is_refused(arguments: tuple[object, ...], home: Path) -> None:
    before = state(home)
    done = barsweep(*arguments, folder=home)
    assert_refused(done, home, "mine.py: ", source_hash_of(home)[:12], "read it", "--trust")
    assert state(home) == before


def test_resuming_unknown_code_is_refused_and_nothing_is_lost(home: Path) -> None:
    unfinished(home)
    (home / "out" / "results" / "batch-9.parquet.part").write_bytes(b"left")
    before = state(home)
    done = barsweep("resume", "out", folder=home)
    assert_refused(done, home, "mine.py: ", source_hash_of(home)[:12], "read it", "--trust")
    assert state(home) == before


def test_a_report_leaves_out_what_takes_unknown_code(home: Path) -> None:
    done = barsweep("report", "out", folder=home)
    assert done.returncode == 0, done
    assert not ran(home)
    page = (home / "out" / "report.html").read_text()
    assert "Equity, trades, regimes and refusals are left out: " in page
    assert source_hash_of(home)[:12] in page and "--trust" in page


@pytest.mark.parametrize(
    "arguments",
    [("resume", "out", "--workers", 1), ("report", "out"), ("replay", "out/best.json")],
    ids=["resume", "report", "replay"],
)
def test_trust_holds_for_good_and_for_this_file_only(
    arguments: tuple[object, ...], home: Path, forget: Callable[[], None]
) -> None:
    unfinished(home)
    done = barsweep(*arguments, "--trust", folder=home)
    assert done.returncode == 0, done
    assert "runs code from mine.py" in done.stdout
    assert ran(home)
    file = approvals.approvals_path()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [line.split()[0] for line in file.read_text().splitlines()] == [source_hash_of(home)]
    forget()
    again = barsweep("replay", "out/best.json", folder=home)
    assert again.returncode == 0, again
    (home / "ran").unlink()
    forget()
    (home / "mine.py").write_text((home / "mine.py").read_text() + "# an edit\n")
    assert barsweep("replay", "out/best.json", folder=home).returncode == 2
    assert not ran(home)


def test_another_file_than_the_approved_one_is_refused(home: Path) -> None:
    approvals.approve(home / "mine.py", source_hash_of(home))
    (home / "other.py").write_text((home / "mine.py").read_text() + "# another\n")
    other = {"path": str(home / "other.py"), "source_hash": source_hash_of(home, "other.py")}
    edit(home, lambda manifest: manifest["study"]["strategy"][0].update(other))
    unfinished(home)
    done = barsweep("resume", "out", folder=home)
    assert done.returncode == 2 and "other.py" in done.stderr
    done = barsweep("report", "out", folder=home)
    assert done.returncode == 0
    assert "left out: other.py: code that never" in (home / "out" / "report.html").read_text()
    content = json.loads((home / "out" / "best.json").read_text())
    content["strategies"]["mine"] = {"path": "../other.py", "hash": other["source_hash"]}
    (home / "out" / "best.json").write_text(json.dumps(content))
    assert_refused(barsweep("replay", "out/best.json", folder=home), home, "other.py")


def test_the_study_file_that_a_folder_names_runs_nothing(home: Path) -> None:
    """It lies next to the folder that was handed over."""
    approvals.approve(home / "mine.py", source_hash_of(home))
    evil = f"open({str(home / 'pwned')!r}, 'w')\n" + MOMENTUM
    (home / "evil.py").write_text(evil)
    text = (home / "study.toml").read_text().replace("mine.py", "evil.py")
    (home / "study.toml").write_text(text)
    unfinished(home)
    done = barsweep("resume", "out", folder=home)
    assert done.returncode == 2 and "study.toml has changed" in done.stderr
    assert not ran(home)


@pytest.mark.parametrize(
    "arguments",
    [*READING, ("resume", "out"), ("report", "out")],
    ids=[*map(str, range(len(READING))), "resume", "report"],
)
def test_a_strategy_without_what_it_declares_is_not_run_to_find_out(
    arguments: tuple[object, ...], home: Path
) -> None:
    edit(home, lambda manifest: manifest["study"]["strategy"][0].pop("declared"))
    edit(home, lambda manifest: manifest["study"]["strategy"][0].pop("source_hash"))
    unfinished(home)
    done = barsweep(*arguments, folder=home)
    assert not ran(home)
    if arguments[0] == "list":
        assert "'declared' is missing" in done.stdout
    else:
        assert_refused(done, home, "'declared' is missing")


def test_the_copy_of_code_that_nobody_approved_stays_unused(home: Path) -> None:
    (strategy,) = recorded_study(StudyFolder(home / "out").manifest()["study"]).user_strategies
    approvals.accept([strategy.declaration.source_hash])
    strategy.kernels()
    (home / "ran").unlink()
    (home / "mine.py").unlink()
    assert strategy.source()  # the copy
    approvals._approved.clear()
    user._compiled.clear()
    with pytest.raises(StrategyError, match=r"mine\.py: is missing"):
        strategy.kernels()
    assert not ran(home)


def test_a_cluster_that_only_the_folder_names_is_not_contacted(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        workers = {"backend": "dask", "address": address}
        approvals.approve(home / "mine.py", source_hash_of(home))
        edit(home, lambda manifest: manifest["study"]["workers"].update(workers))
        (home / "study.toml").unlink()
        unfinished(home)
        before = state(home)
        assert_refused(barsweep("resume", "out", folder=home), home, address, "--trust")
        assert state(home) == before
        with pytest.raises(TimeoutError):
            server.accept()


# --- What is declared ---------------------------------------------------------------------------


def declared_of(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = StudyFolder(place / "out").manifest()["study"]["strategy"][0]
    return {key: found[key] for key in ("name", "path", "source_hash", "declared")}


def parameter(name: object, *values: object) -> dict[str, Any]:
    row = [name, *(values or (1.0, 0.0, 2.0))]
    return {
        "parameters": [["lookback", 60, 1, 100000], row],
        "features": [["momentum", "momentum", "lookback"]],
        "arguments": ["momentum", name],
    }


def feature(argument: object, name: object = "momentum", lookback: object = "lookback") -> Any:
    return {
        "parameters": [["lookback", 60, 1, 100000]],
        "features": [[argument, name, lookback]],
        "arguments": [argument],
    }


CRAFTED: dict[str, Any] = {
    "parameter": parameter(HOSTILE),
    "feature argument": feature(HOSTILE),
    "feature": feature("momentum", HOSTILE),
    "own feature": feature("momentum", f"mine.{HOSTILE}"),
    "another's feature": feature("momentum", "other.near"),
    "lookback": feature("momentum", "momentum", HOSTILE),
    "keyword": parameter("lambda"),
    "keyword argument": feature("import"),
    "number": parameter(3),
    "none": parameter(None),
    "list": parameter(["x"]),
    "table": feature({"x": 1}),
    "line break": parameter("x\n"),
    "capital": parameter("X"),
    "long": parameter("x" * 41),
    "given": parameter("close"),
    "twice": parameter("lookback"),
    "built in": parameter("strategy", 1, 0, 2) | {"parameters": [["path", 1, 0, 2]]},
    "nan": parameter("x", float("nan"), 0.0, 1.0),
    "infinite": parameter("x", 1.0, 0.0, float("inf")),
    "huge": parameter("x", 1, 0, 10**400),
    "flag": parameter("x", True, False, True),
    "text": parameter("x", "1", "0", "2"),
    "order": parameter("x", 3.0, 0.0, 2.0),
    "many": {
        **feature("momentum"),
        "parameters": [["lookback", 60, 1, 100000], *([f"p{i}", 1, 0, 2] for i in range(10_000))],
    },
    "many features": {
        **feature("momentum"),
        "features": [[f"f{i}", "sma", "lookback"] for i in range(33)],
    },
    "unknown argument": {**feature("momentum"), "arguments": ["momentum", "eval"]},
    "hostile argument": {**feature("momentum"), "arguments": ["momentum", HOSTILE]},
    "argument twice": {**feature("momentum"), "arguments": ["momentum", "momentum"]},
    "not taken": {**feature("momentum"), "arguments": []},
    "idle parameter": {**parameter("x"), "arguments": ["momentum"]},
    "short lookback": {**feature("momentum"), "parameters": [["lookback", 60, 0, 100000]]},
    "broken lookback": {**feature("momentum"), "parameters": [["lookback", 6.0, 1.0, 10.0]]},
    "long lookback": {**feature("momentum"), "parameters": [["lookback", 60, 1, 100001]]},
    "empty": {},
    "no table": HOSTILE,
    "no lists": {"parameters": "ab", "features": 3, "arguments": None},
    "no rows": {"parameters": ["abcd"], "features": [], "arguments": []},
}


@pytest.mark.parametrize("case", CRAFTED)
def test_what_no_file_declares_is_refused_in_one_line(case: str, home: Path) -> None:
    strategy = {**declared_of(home), "declared": CRAFTED[case]}
    with pytest.raises(ValueError, match=r"^[^\n]{1,300}$"):
        declaration_from_dict(strategy)
    settings = {"threshold": {"sweep": [0.0, 0.02]}, "lookback": 5}
    study = {**mapping(), "strategy": {**strategy, **settings}}
    with pytest.raises(StudyFileError, match=r"^[^\n]*declared: not as barsweep wrote it: "):
        recorded_study(study)
    with pytest.raises(StudyFileError, match=r"^[^\n]*declared: not as barsweep wrote it: "):
        optimizer.study_from_dict(study)
    assert not ran(home)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("many", "parameters: got 10,001; .* at most 288"),
        ("many features", "features: got 33; .* at most 32"),
    ],
)
def test_counts_are_bounded_before_anything_else(case: str, words: str, made: Path) -> None:
    with pytest.raises(ValueError, match=words):
        declaration_from_dict({**declared_of(made), "declared": CRAFTED[case]})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source_hash", "*"), ("source_hash", "../" * 20 + "x"), ("source_hash", 3),
        ("source_hash", "A" * 64), ("path", "a\0b"), ("path", "a\nb"), ("path", ""), ("path", 3),
        ("name", "lambda"), ("name", HOSTILE), ("name", None),
    ],
)  # fmt: skip
def test_what_names_a_file_has_its_form(key: str, value: object, home: Path) -> None:
    with pytest.raises(ValueError, match=rf"^{key}: got [^\n]+$"):
        declaration_from_dict({**declared_of(home), key: value})


@pytest.mark.parametrize("case", ["parameter", "keyword", "none", "many", "no table"])
@pytest.mark.parametrize(
    "arguments",
    [*READING, ("resume", "out", "--trust"), ("report", "out", "--trust")],
    ids=[*map(str, range(len(READING))), "resume", "report"],
)
def test_a_folder_that_declares_it_is_refused(
    arguments: tuple[object, ...], case: str, home: Path
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["study"]["strategy"][0]["declared"] = CRAFTED[case]

    edit(home, change)
    unfinished(home)
    done = barsweep(*arguments, folder=home)
    assert not ran(home)
    if arguments[0] == "list":
        assert done.returncode == 0 and "not as barsweep wrote it" in done.stdout
    else:
        assert_refused(done, home, "not as barsweep wrote it")


def test_a_file_that_declares_something_else_is_refused_before_it_is_compiled(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = declared_of(home)
    content["declared"]["parameters"][1][3] = 1.0
    strategy = UserStrategy.from_dict(content)
    strategy.approve()
    monkeypatch.setattr(user, "compile_strategy", lambda *_: pytest.fail("compiled"))
    with pytest.raises(
        StrategyError, match=r"mine\.py:1: declares something other than what is recorded"
    ):
        strategy.kernels()


def test_no_name_of_a_file_enters_generated_source(home: Path) -> None:
    one = declaration_from_dict(declared_of(home))
    named = Declaration("zzname", one.path, one.source_hash, one.parameters, one.features,
                        one.arguments)  # fmt: skip
    text = _adapter(named)
    for name in ("zzname", "momentum", "lookback", "threshold"):
        assert name not in text
    unknown = Declaration("mine", one.path, one.source_hash, (), (), (HOSTILE,))
    with pytest.raises(KeyError):
        _adapter(unknown)


@pytest.mark.parametrize(
    "change",
    [
        {"strategies": {"mine": {"path": "../other.py", "hash": "*"}}},
        {"strategies": {"mine": {"path": "../nothing.py", "hash": "0" * 64}}},
        {"strategies": {"mine": {"path": "/dev/zero", "hash": "0" * 64}}},
        {"strategies": {"mine": {"path": "a\0b", "hash": "0" * 64}}},
        {"strategies": {"mine": {"path": 3}}},
        {"strategies": {"mine": {}}},
        {"strategies": {}},
        {"strategies": [1]},
        {"strategies": None},
    ],
    ids=map(str, range(9)),
)
def test_a_crafted_export_is_refused(change: dict[str, Any], home: Path) -> None:
    (home / "other.py").write_text(f"open({str(home / 'pwned')!r}, 'w')\n")
    file = home / "out" / "best.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **change}))
    for command in ("replay", "tearsheet"):
        for trust in ((), ("--trust",)):
            assert_refused(barsweep(command, file, *trust, folder=home), home)


@pytest.mark.parametrize("name", [HOSTILE, "lambda", None, 3, ["mine"]])
def test_a_crafted_name_in_an_export_is_refused(name: object, home: Path) -> None:
    file = home / "out" / "best.json"
    content = json.loads(file.read_text())
    content["sets"][0]["strategy"] = name
    if isinstance(name, str):
        content["strategies"][name] = content["strategies"]["mine"]
    file.write_text(json.dumps(content))
    for command in ("replay", "tearsheet"):
        assert_refused(barsweep(command, file, "--trust", folder=home), home)
    with pytest.raises((ExportError, StudyFileError)):
        replay(file, trust=True)


# --- What the user runs -------------------------------------------------------------------------


def test_the_users_own_studies_ask_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    """Each command as a process of its own would do it."""
    monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / "user" / "ledger.db"))
    project = tmp_path / "work"
    for arguments in (
        ("new", project), ("check", "study.toml"),
        ("run", "study.toml", "--out", "out", "--trials", 2, "--workers", 1, "--quiet"),
        ("resume", "out", "--workers", 1), ("report", "out"), ("export", "out"),
        ("replay", "out/best.json"), ("show", "out"), ("compare", "out", "out"), ("list", "."),
    ):  # fmt: skip
        forget()
        folder = project if project.is_dir() else tmp_path
        done = barsweep(*arguments, folder=folder)
        assert done.returncode == 0, done
        assert "trust" not in done.stdout + done.stderr
        if arguments[0] == "run":
            study = StudyFolder(project / "out")
            study.batch_paths()[-1].unlink()
            study.write_manifest({**study.manifest(), "complete": False})
        if arguments[0] in ("check", "run", "resume", "report", "replay"):
            assert "runs code from my_strategy.py" in done.stdout + done.stderr
    assert "are left out: " not in (project / "out" / "report.html").read_text()


def test_a_path_in_python_is_the_users_own_word(home: Path, forget: Callable[[], None]) -> None:
    with pytest.raises(UntrustedCodeError, match=source_hash_of(home)[:12]):
        read_recorded_strategy(home / "mine.py", "mine")
    assert not ran(home)
    optimizer.backtest(
        random_bars(), {"strategy": "mine", "mine_lookback": 5}, strategy_path=home / "mine.py"
    )
    assert ran(home)
    forget()
    assert read_recorded_strategy(home / "mine.py", "mine").name == "mine"


def test_a_study_file_with_all_that_it_declares_is_the_users_own_word(
    home: Path, forget: Callable[[], None]
) -> None:
    study = read_own(home)
    forget()
    approvals.approvals_path().unlink()
    content = study.to_dict()
    (home / "whole.toml").write_text(tomli_w.dumps(content))
    (strategy,) = load_study(home / "whole.toml").user_strategies
    assert strategy.kernels().features == {}


def read_own(place: Path) -> Any:
    return load_study(place / "study.toml")


def test_workers_may_run_what_their_parent_may(home: Path) -> None:
    """Also where the approval cannot be kept."""
    unfinished(home)
    approvals.approvals_path().parent.mkdir(parents=True)
    approvals.approvals_path().mkdir()
    whole = StudyFolder(home / "out").batch_paths()
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
    with pytest.raises(UntrustedCodeError):
        resume_study(home / "out", workers=2)
    assert not ran(home)
    result = resume_study(home / "out", workers=2, trust=True)
    assert len(result_hashes(result.folder)) == len(whole) + 1
    assert (home / "ran").read_text().count("ran") >= 2  # the parent's, and a worker's


def test_without_a_place_trust_holds_for_the_process(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    forget: Callable[[], None],
) -> None:
    monkeypatch.setenv("BARSWEEP_LEDGER", "/proc/nowhere/ledger.db")
    with caplog.at_level(logging.WARNING, "barsweep"):
        for _ in range(2):
            assert replay(home / "out" / "best.json", trust=True).differences == ()
        assert replay(home / "out" / "best.json").differences == ()
    (record,) = caplog.records
    assert "until this process ends" in record.getMessage()
    forget()
    with pytest.raises(UntrustedCodeError):
        replay(home / "out" / "best.json")


# --- Modules next to a strategy -----------------------------------------------------------------

WITH_MODULES = f"""
import helper8
from lib import near, shift as shift
import lib.far
{MOMENTUM}
"""


@pytest.fixture
def several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]) -> Path:
    """A strategy that imports modules next to it, each of which says that it ran."""
    monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / "user" / "ledger.db"))
    folder = tmp_path / "several"
    (folder / "lib" / "plain").mkdir(parents=True)
    (folder / "mine.py").write_text(WITH_MODULES)
    says = "import pathlib; (pathlib.Path(__file__).parent / 'ran').touch()\n"
    (folder / "helper8.py").write_text(says)
    (folder / "lib" / "__init__.py").write_text("shift = 3\n")
    (folder / "lib" / "near.py").write_text("from . import deeper\nfrom .plain import one\n")
    (folder / "lib" / "deeper.py").write_text(says)
    (folder / "lib" / "far.py").write_text("def late():\n    import later\n    return later.X\n")
    (folder / "lib" / "plain" / "one.py").write_text("")
    (folder / "later.py").write_text("X = 5\n")
    (folder / "unused.py").write_text("never imported\n")
    forget()
    return folder


def test_the_source_of_a_strategy_is_all_that_it_imports_next_to_it(several: Path) -> None:
    source = read_source(several / "mine.py")
    assert [name for name, _ in source.modules] == [
        "helper8.py", "later.py", "lib/__init__.py", "lib/deeper.py", "lib/far.py", "lib/near.py",
        "lib/plain/one.py",
    ]  # fmt: skip
    assert dict(source.modules)["later.py"] == b"X = 5\n"
    (several / "alone.py").write_text(MOMENTUM)
    # Alone, a file has its own hash, as before: what was approved stays so.
    assert source_hash(several / "alone.py") == source_hash_of(several, "alone.py")
    assert source.hash != source_hash_of(several)


@pytest.mark.parametrize(
    "swapped", ["helper8.py", "lib/__init__.py", "lib/deeper.py", "lib/plain/one.py", "later.py"]
)
def test_a_swapped_module_is_not_what_was_approved(swapped: str, several: Path) -> None:
    file = several / "mine.py"
    approvals.approve(file, source_hash(file))
    StrategyFile(file, read_source(file))
    ran = [several / "ran", several / "lib" / "ran"]
    assert all(path.exists() for path in ran)
    for path in ran:
        path.unlink()
    evil = f"open({str(several / 'pwned')!r}, 'w')\n"
    (several / swapped).write_text(evil)
    with pytest.raises(UntrustedCodeError, match=r"mine\.py: code that never ran"):
        StrategyFile(file, read_source(file))
    with pytest.raises(UntrustedCodeError):
        read_recorded_strategy(file, "mine")
    assert not any(path.exists() for path in (*ran, several / "pwned"))


def test_modules_run_from_what_was_approved_and_stay_out_of_the_way(
    several: Path, tmp_path: Path
) -> None:
    """Neither another strategy nor other code of the process sees them."""
    file = several / "mine.py"
    source = read_source(file)
    approvals.approve(file, source.hash)
    (several / "later.py").write_text("X = 6\n")  # after it was read and approved
    one = StrategyFile(file, source)
    assert not {"helper8", "lib", "lib.near", "later"} & set(sys.modules)
    with one.neighbours:
        assert one.module.lib.far.late() == 5
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.py").write_text(f"import helper8\n{MOMENTUM}")
    (other / "helper8.py").write_text("Y = 1\n")
    approvals.approve(other / "mine.py", source_hash(other / "mine.py"))
    second = StrategyFile(other / "mine.py", read_source(other / "mine.py"))
    assert second.module.helper8.Y == 1
    assert not hasattr(one.module.helper8, "Y")
    assert not any(isinstance(finder, Neighbours) for finder in sys.meta_path)


@pytest.mark.parametrize("place", ["hidden", "."])
def test_a_file_that_only_sys_path_finds_is_refused(place: str, several: Path) -> None:
    (several / "hidden").mkdir()
    (several / place / "sly8.py").write_text(f"open({str(several / 'pwned')!r}, 'w')\n")
    (several / "mine.py").write_text(
        "import os, sys\n"
        f"sys.path.insert(0, os.path.join(os.path.dirname(__file__), {place!r}))\n"
        f"try:\n    __import__('sl' + 'y8')\nfinally:\n    del sys.path[0]\n{MOMENTUM}"
    )
    file = several / "mine.py"
    approvals.approve(file, source_hash(file))
    with pytest.raises(StrategyError, match=r"mine\.py:4: .*sly8\.py: is no module .* name it so"):
        StrategyFile(file, read_source(file))
    assert not (several / "pwned").exists()


def test_what_is_next_to_a_strategy_replaces_no_module_of_pythons(several: Path) -> None:
    for name in ("random", "numpy", "optimizer"):
        (several / f"{name}.py").write_text(f"open({str(several / 'pwned')!r}, 'w')\n")
    (several / "mine.py").write_text(f"import random, numpy, optimizer\n{MOMENTUM}")
    source = read_source(several / "mine.py")
    assert source.modules == ()
    approvals.approve(several / "mine.py", source.hash)
    assert StrategyFile(several / "mine.py", source).module.random is sys.modules["random"]
    assert not (several / "pwned").exists()


def test_the_source_of_a_strategy_is_bounded(several: Path) -> None:
    (several / "helper8.py").write_bytes(b"#" * 2_000_001)
    with pytest.raises(StrategyError, match=r"helper8\.py: has more than 2 MB"):
        read_source(several / "mine.py")
    (several / "helper8.py").write_text("".join(f"import m{i}\n" for i in range(201)))
    for i in range(201):
        (several / f"m{i}.py").write_text("")
    with pytest.raises(StrategyError, match=r"mine\.py: imports more than 200 modules"):
        read_source(several / "mine.py")
    for text in ("(" * 100_000, "x = " + "-" * 100_000 + "1", "\0", "# coding: none\n"):
        (several / "helper8.py").write_text(text)
        assert "helper8.py" in dict(read_source(several / "mine.py").modules)
    if hasattr(os, "mkfifo"):
        (several / "later.py").unlink()
        os.mkfifo(several / "later.py")
        (several / "mine.py").write_text("import later")
        assert read_source(several / "mine.py").modules == ()


def test_resume_notices_a_swapped_module(
    several: Path, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    write_bars(several / "bars.parquet", random_bars())
    content = mapping(
        strategy={"name": "mine", "path": "mine.py", "lookback": {"choices": [5, 20]}},
        search={"sampler": "grid", "batch": 1},
        risk={"max_exposure": 0.8, "volatility_lookback": 20},
    )  # fmt: skip
    (several / "study.toml").write_text(tomli_w.dumps(content))
    done = barsweep("run", "study.toml", "--out", "out", "--workers", 1, folder=several)
    assert done.returncode == 0, done
    assert "runs code from mine.py, helper8.py, later.py, lib/__init__.py" in done.stdout
    unfinished(several)
    before = (several / "helper8.py").read_text()
    (several / "helper8.py").write_text(f"open({str(several / 'pwned')!r}, 'w')\n")
    forget()
    for arguments in (("resume", "out"), ("resume", "out", "--trust")):
        done = barsweep(*arguments, folder=several)
        assert done.returncode == 2 and "changed since the study" in done.stderr, done
    (strategy,) = recorded_study(StudyFolder(several / "out").manifest()["study"]).user_strategies
    assert dict(strategy.source().modules)["helper8.py"] == before.encode()  # the copy
    (several / "helper8.py").write_text(before)
    assert barsweep("resume", "out", "--workers", 1, folder=several).returncode == 0
    assert not (several / "pwned").exists()


# --- What is said before ------------------------------------------------------------------------


def test_in_python_the_path_is_printed_on_standard_error(
    several: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = several / "mine.py"
    source = read_source(file)
    approvals.approve(file, source.hash)
    StrategyFile(file, source)
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith(f"runs code from {file}, {several / 'helper8.py'}, ")
    approvals.accept([source.hash])  # in a worker, whose parent has said it
    StrategyFile(file, source)
    assert capsys.readouterr().err == ""


def test_every_entry_point_of_python_says_it(
    home: Path, forget: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    bars = random_bars()
    parameters: dict[str, Any] = {"strategy": "mine", "mine_lookback": 5}
    for act in (
        lambda: load_study(home / "study.toml"),
        lambda: optimizer.backtest(bars, parameters, strategy_path=home / "mine.py"),
        lambda: replay(home / "out" / "best.json"),
    ):
        forget()
        act()
        assert capsys.readouterr().err == f"runs code from {home / 'mine.py'}\n"


# --- The file of approvals ----------------------------------------------------------------------


def test_approvals_that_others_could_have_written_do_not_count(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = source_hash_of(home)
    approvals.approve(home / "mine.py", known)
    approvals._approved.clear()
    file = approvals.approvals_path()
    assert approvals.is_approved(known)
    for mode in (0o660, 0o604):
        file.chmod(mode)
        assert not approvals.is_approved(known)
    file.chmod(0o600)
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
        assert not approvals.is_approved(known)
    kept = file.with_name("kept")
    file.rename(kept)
    file.symlink_to(kept)
    assert not approvals.is_approved(known)
    file.unlink()
    os.mkfifo(file)
    assert not approvals.is_approved(known)
    file.unlink()
    kept.rename(file)
    assert approvals.is_approved(known)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4 and all(str(file) in line for line in said)


@pytest.mark.parametrize("variable", ["BARSWEEP_LEDGER", "XDG_DATA_HOME"])
def test_a_folder_does_not_approve_itself(
    variable: str,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forget: Callable[[], None],
) -> None:
    """Where a path of the user's is relative, a stranger's folder may hold what it leads to."""
    (tmp_path / "user").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("BARSWEEP_LEDGER")
    monkeypatch.setenv(variable, ".data")
    for place in (home / ".data.approved", home / ".data" / "barsweep" / "ledger.db.approved"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch(0o600)
        place.write_text(f"{source_hash_of(home)} x\n")
    done = barsweep("replay", "out/best.json", folder=home)
    assert done.returncode == 2 and not ran(home)
    assert "mine.py: code that never ran" in done.stderr
    if variable == "BARSWEEP_LEDGER":
        assert "got .data; name the ledger by an absolute path" in done.stderr
        with pytest.raises(StudyError, match="name the ledger by an absolute path"):
            ledger_path()
    else:
        assert ledger_path() == tmp_path / "user/.local/share/barsweep/ledger.db"


def test_approvals_of_many_processes_are_all_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / "ledger.db"))
    hashes = [hashlib.sha256(bytes([i])).hexdigest() for i in range(8)]
    children = []
    for one in hashes:
        child = os.fork()
        if child == 0:
            approvals.approve(tmp_path / "a\nb.py", one)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    lines = approvals.approvals_path().read_text().splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(hashes)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ledger.db.approved", "ledger.db.approved.lock",
    ]  # fmt: skip


# --- Other ways to code -------------------------------------------------------------------------


def test_a_written_module_is_what_was_written(tmp_path: Path) -> None:
    name = "barsweep_tampered_with"
    (tmp_path / f"{name}.py").write_text("VALUE = 2\n")
    assert _module(tmp_path, name, "VALUE = 1\n", {}).VALUE == 1


@pytest.mark.parametrize("name", ["os:system", "system", "posix:system", "Path", 3])
def test_a_result_names_no_class_of_its_own_choice(name: object, tmp_path: Path) -> None:
    header = json.dumps({"object": [name, f"touch {tmp_path / 'pwned'}"]}).encode()
    content = len(header).to_bytes(8, "little") + header
    (tmp_path / "result-0").write_bytes(content)
    with pytest.raises(LostResultError):
        Handover(tmp_path).receive(Receipt(0, zlib.crc32(content)))
    assert not (tmp_path / "pwned").exists()


ALLOWED = {
    ("strategies/user_file.py", "compile"), ("strategies/user_file.py", "exec"),
    ("strategies/user_source.py", "compile"), ("strategies/user_source.py", "exec"),
    ("strategies/bound_kernels.py", "exec_module"),
    ("strategies/bound_kernels.py", "spec_from_file_location"),
    ("strategies/combined.py", "compile"), ("flow/__init__.py", "import_module"),
    ("strategies/user_checks.py", "compile"), ("bars/fetch.py", "import_module"),
    ("extras.py", "import_module"), ("__init__.py", "import_module"),
    ("views/tearsheet.py", "import_module"), ("analytics/database.py", "compile"),
    ("engine/ahead.py", "compile"),
}  # fmt: skip
NAMING = {"study_file/load.py", "study_file/study.py", "review/backtest.py"}
READERS = "study_file/components.py"


def test_code_is_made_of_text_in_known_places_only() -> None:
    root = Path(optimizer.__file__).parent
    making = {
        "eval", "exec", "compile", "exec_module", "import_module", "__import__", "run_path",
        "run_module", "spec_from_file_location", "load_source",
    }  # fmt: skip
    found, naming, reading = set(), set(), set()
    for path in root.rglob("*.py"):
        place = str(path.relative_to(root))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                owner = getattr(getattr(node.func, "value", None), "id", "")
                if name in making and not (name == "compile" and owner == "re"):
                    found.add((place, name))
            if isinstance(node, ast.Name) and node.id in ("read_strategy", "read_classifier"):
                reading.add(place)
            if isinstance(node, ast.Name) and node.id == "NAMED":
                naming.add(place)
    assert found <= ALLOWED, found - ALLOWED
    assert reading == {READERS}
    assert naming == {*NAMING, READERS}
