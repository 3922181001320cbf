"""What barsweep needs of the undocumented parts of other packages, row by row of the docs page."""

from __future__ import annotations

import ast
import concurrent.futures
import contextlib
import importlib
import importlib.util
import inspect
import os
import pickle
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "private_parts.md").read_text(encoding="utf-8")


def cells(n_columns: int) -> list[tuple[str, ...]]:
    """Rows of the page's table with that number of columns, without its head."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("|")]
    rows = [tuple(line) for line in lines if len(line) == n_columns]
    return [row for row in rows if row[0] != "package" and not row[0].startswith("---")]


def parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


# --- Optuna -------------------------------------------------------------------------------------


def journal_lock(_: Path) -> None:
    from optuna.storages.journal import JournalFileBackend
    from optuna.storages.journal._file import BaseJournalFileLock

    assert BaseJournalFileLock.__abstractmethods__ == {"acquire", "release"}
    assert parameters(JournalFileBackend.__init__)[:2] == ["file_path", "lock_obj"]


def journal_backend(_: Path) -> None:
    from optuna.storages.journal import BaseJournalBackend

    backend: Any = BaseJournalBackend
    assert backend.__abstractmethods__ == {"read_logs", "append_logs"}
    assert parameters(backend.read_logs) == ["log_number_from"]
    assert parameters(backend.append_logs) == ["logs"]


def study_id(_: Path) -> None:
    import optuna

    assert isinstance(optuna.create_study()._study_id, int)


def storage_methods(_: Path) -> None:
    from optuna.storages import RDBStorage

    assert parameters(RDBStorage.create_new_trial) == ["study_id", "template_trial"]
    assert parameters(RDBStorage.record_heartbeat) == ["trial_id"]
    assert parameters(RDBStorage.set_trial_state_values) == ["trial_id", "state", "values"]
    assert parameters(RDBStorage.set_trial_user_attr) == ["trial_id", "key", "value"]
    assert parameters(RDBStorage.set_trial_system_attr) == ["trial_id", "key", "value"]


def heartbeat_tables(folder: Path) -> None:
    """The statement finds the running trial without a heartbeat, and no other."""
    import optuna
    from optuna.trial import TrialState, create_trial

    from optimizer.engine.coordination import _UNSIGNED

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/a.db", heartbeat_interval=5)
    study = optuna.create_study(storage=storage)
    running = create_trial(state=TrialState.RUNNING)
    unsigned, signed = (storage.create_new_trial(study._study_id, running) for _ in range(2))
    storage.record_heartbeat(signed)
    storage.create_new_trial(study._study_id, create_trial(value=1.0))
    with storage.engine.connect() as connection:
        found = connection.execute(_UNSIGNED, {"study": study._study_id}).scalars().all()
    storage.engine.dispose()
    assert found == [unsigned]


def constraint_prefix(_: Path) -> None:
    import optuna

    from optimizer.store.trial_records import CONSTRAINT

    trial = optuna.trial.create_trial(value=1.0, constraints={"n_trades >= 12": 2.0})
    assert trial.system_attrs == {f"{CONSTRAINT}n_trades >= 12": 2.0}
    study = optuna.create_study()
    asked = study.ask()
    asked.set_constraint("n_trades >= 12", 2.0)
    assert study.tell(asked, 1.0).system_attrs == trial.system_attrs


def cma_prefix(_: Path) -> None:
    import optuna

    from optimizer.search.outcome import trial_record
    from optimizer.search.points import new_sampler

    study = optuna.create_study(sampler=new_sampler("cmaes", 1))
    study.optimize(lambda trial: sum(trial.suggest_float(n, 0.0, 1.0) for n in "xy"), n_trials=30)
    pickled = {
        name for trial in study.trials for name, value in trial.system_attrs.items()
        if isinstance(value, str) and len(value) > 100
    }  # fmt: skip
    assert pickled
    assert all(name.startswith("cma:") for name in pickled)
    assert [trial_record(0, trial)["system_attrs"] for trial in study.trials] == [{}] * 30


def storage_clock(_: Path) -> None:
    import datetime

    module: Any = importlib.import_module("optuna.storages._in_memory")
    assert module.datetime is datetime.datetime


# --- joblib, and the loky within it -------------------------------------------------------------


def resource_tracker(_: Path) -> None:
    from multiprocessing import resource_tracker as pythons

    from joblib.externals.loky.backend import resource_tracker

    for tracker in (resource_tracker, pythons):
        assert parameters(tracker.ensure_running) == []


def environment_of_workers(folder: Path) -> None:
    """Workers start with ``-m``, a tracker with ``-c``: Python looks in the working folder first."""
    from optimizer.isolation import safe_children

    (folder / "joblib.py").write_text("raise SystemExit('imported from the working folder')\n")
    (folder / "one.py").write_text(
        "import contextlib, os, sys\n"
        "from joblib.externals.loky import get_reusable_executor\n"
        "os.chdir(sys.argv[1])\n"
        "print(get_reusable_executor(max_workers=1).submit(abs, -7).result(timeout=120))\n"
    )
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (folder / "one.py").rename(elsewhere / "one.py")
    start = [sys.executable, "one.py", str(folder)]
    with safe_children():
        done = subprocess.run(start, cwd=elsewhere, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("7\n", "")


def terminated_worker(_: Path) -> None:
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    assert issubclass(TerminatedWorkerError, concurrent.futures.BrokenExecutor)


def broken_pool(_: Path) -> None:
    from joblib.externals.loky.process_executor import BrokenProcessPool, TerminatedWorkerError

    assert issubclass(BrokenProcessPool, concurrent.futures.BrokenExecutor)
    assert issubclass(TerminatedWorkerError, BrokenProcessPool)


@contextlib.contextmanager
def pool() -> Iterator[tuple[Any, Any, Any]]:
    """The pool of this process while a worker waits: the pool, its manager thread, the call."""
    from joblib.externals.loky import get_reusable_executor, reusable_executor

    get_reusable_executor(max_workers=2).shutdown(wait=True, kill_workers=True)
    call = get_reusable_executor(max_workers=2).submit(time.sleep, 600)
    executor: Any = reusable_executor._executor
    try:
        yield executor, executor._executor_manager_thread, call
    finally:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)


def executor_of_this_process(_: Path) -> None:
    with pool() as (executor, manager, _call):
        assert manager.is_alive()
        executor.shutdown(wait=True, kill_workers=True)
        assert not manager.is_alive()
        assert executor._executor_manager_thread is None


def calls_and_processes(_: Path) -> None:
    import psutil

    with pool() as (_executor, manager, call):
        assert [item.future for item in manager.pending_work_items.values()] == [call]
        assert len(manager.processes) == 2
        for pid, process in manager.processes.items():
            assert process.pid == pid
            assert psutil.Process(pid).ppid() == os.getpid()


def result_pipe(_: Path) -> None:
    """Workers write into the other end of the pipe that the manager thread reads."""
    with pool() as (_executor, manager, _call):
        queue = manager.result_queue
        assert os.fstat(queue._writer.fileno()).st_ino == os.fstat(queue._reader.fileno()).st_ino
        assert not queue._writer.readable
        assert queue._writer.writable


def failing_calls(_: Path) -> None:
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with pool() as (_executor, manager, call):
        workers = list(manager.processes.values())
        manager.terminate_broken(TerminatedWorkerError("a reason"))
        with pytest.raises(TerminatedWorkerError, match="a reason"):
            call.result(timeout=60)
        for worker in workers:
            worker.join(timeout=10)
        assert not any(worker.is_alive() for worker in workers)


def killed_workers(_: Path) -> None:
    from joblib.externals.loky.backend.utils import kill_process_tree
    from joblib.externals.loky.process_executor import BrokenProcessPool

    with pool() as (_executor, manager, call):
        workers = list(manager.processes.values())
        for worker in workers:
            kill_process_tree(worker)
        with pytest.raises(BrokenProcessPool):
            call.result(timeout=60)
        for worker in workers:
            worker.join(timeout=10)
        assert not any(worker.is_alive() for worker in workers)


def call_queue(_: Path) -> None:
    with pool() as (executor, _manager, _call):
        assert executor._call_queue._reader.fileno() >= 0


def workers_queue(_: Path) -> None:
    """A worker asks this class for its next call, and leaves when it gets None."""
    from joblib.externals.loky import process_executor
    from joblib.externals.loky.backend import queues

    with pool() as (executor, _manager, _call):
        assert isinstance(executor._call_queue, queues.Queue)
    worker = inspect.getsource(process_executor._process_worker)
    assert "call_queue.get(" in worker
    assert "if call_item is None" in worker


def manager_thread(_: Path) -> None:
    from joblib.externals.loky.process_executor import _ExecutorManagerThread

    manager: Any = _ExecutorManagerThread
    assert parameters(manager.process_result_item) == ["result_item"]
    with pool() as (_executor, thread, _call):
        assert type(thread) is manager


def start_method(_: Path) -> None:
    from joblib.externals.loky.backend.context import set_start_method

    assert parameters(set_start_method)[0] == "method"


def reusable_executor(_: Path) -> None:
    from joblib.externals.loky import get_reusable_executor

    assert parameters(get_reusable_executor)[0] == "max_workers"


def shared_memory(_: Path) -> None:
    from joblib._memmapping_reducer import TemporaryResourcesManager
    from joblib.externals.loky.backend.synchronize import SemLock

    names: Any = SemLock
    assert names._make_name().startswith(f"/loky-{os.getpid()}-")
    folder = Path(TemporaryResourcesManager().resolve_temp_folder_name())
    assert folder.name.startswith(f"joblib_memmapping_folder_{os.getpid()}_")


def calls_ahead(_: Path) -> None:
    from joblib import Parallel

    assert inspect.signature(Parallel.__init__).parameters["pre_dispatch"].default == "2 * n_jobs"


def active_backend(_: Path) -> None:
    from joblib.parallel import get_active_backend

    backend, _n_jobs = get_active_backend()
    assert callable(backend.effective_n_jobs)


def dask_backend(_: Path) -> None:
    pytest.importorskip("distributed")
    from joblib._dask import DaskDistributedBackend

    known = parameters(DaskDistributedBackend.__init__)
    assert {"client", "wait_for_workers_timeout"} <= set(known)
    assert parameters(DaskDistributedBackend.effective_n_jobs) == ["n_jobs"]
    assert parameters(DaskDistributedBackend.submit) == ["func", "callback"]


def dask_cancelled(_: Path) -> None:
    distributed = pytest.importorskip("distributed")
    error = distributed.client.FutureCancelledError
    assert issubclass(error, concurrent.futures.CancelledError)


def dask_stream(_: Path) -> None:
    pytest.importorskip("distributed")
    from distributed.comm.tcp import TCP
    from tornado.iostream import IOStream, _StreamBuffer

    assert parameters(TCP.write)[0] == "msg"
    buffer: Any = _StreamBuffer()
    buffer.append(b"a reply")
    assert bytes(buffer.peek(2**30)) == b"a reply"
    assert "self._write_buffer = _StreamBuffer()" in inspect.getsource(IOStream.__mro__[1])
    assert parameters(IOStream.write) == ["data"]


# --- numba --------------------------------------------------------------------------------------


def dispatcher(_: Path) -> None:
    import numba
    from numba.core.registry import CPUDispatcher

    def double(x: float) -> float:
        return 2.0 * x

    compiled: Any = numba.njit(double)
    assert type(compiled) is CPUDispatcher
    assert compiled.py_func is double
    compiled.compile((numba.float64,))
    assert compiled.nopython_signatures[0].return_type == numba.float64
    assert {"nopython"} <= set(compiled.targetoptions)


def numba_types(_: Path) -> None:
    from numba.core import types as numbas

    types: Any = numbas
    assert isinstance(types.float64, types.Float)
    assert isinstance(types.int64, types.Integer)
    assert len(types.UniTuple(types.float64, 3)) == 3
    assert issubclass(types.UniTuple, types.BaseTuple)
    assert issubclass(types.Optional, types.Type)
    assert isinstance(types.none, types.NoneType)


def numba_options(_: Path) -> None:
    import numba
    import numpy as np

    compiler: Any = numba.njit
    inner = compiler(lambda x: x * 3.0 + 1.0, forceinline=True)
    inner.compile((numba.float64,))
    assert "alwaysinline" in inner.inspect_llvm(inner.signatures[0])
    with pytest.raises(numba.TypingError, match="zeros"):  # nothing can own an array
        compiler(lambda n: np.zeros(n).sum(), _nrt=False)(3)
    assert compiler(lambda n: np.zeros(n).sum())(3) == 0.0


def linked_functions(folder: Path) -> None:
    """What a function calls is linked into it without machine code, in a later process too."""
    (folder / "linked.py").write_text(
        "import re, sys, numba\n"
        "numba.config.CACHE_DIR = sys.argv[1]\n"
        "from kernels._jit import jit, jit_lanes\n"
        "@jit\n"
        "def twice(x):\n"
        "    return 2.0 * x\n"
        "@jit_lanes\n"
        "def thrice(x):\n"
        "    return twice(x) + x\n"
        "@jit\n"
        "def more(x):\n"
        "    return thrice(x) + twice(x)\n"
        "def less(x):\n"
        "    return thrice(x) - 1.0\n"
        "assert more(1.0) == 5.0\n"
        "print(len(thrice.overloads), len(twice.overloads), len(twice.linked.overloads))\n"
        "for one in thrice.overloads.values():\n"
        "    library = one.library\n"
        "    symbols = re.findall(rb'_ZN[0-9]+[a-zA-Z]+', library._get_compiled_object())\n"
        "    print('fmul' in library.get_llvm_str(), set(symbols) == {b'_ZN08NumbaEnv'})\n"
        "assert twice(4.0) == 8.0\n"
        "assert numba.njit(less)(2.0) == 5.0\n"
        "print(sum(thrice.stats.cache_hits.values()))\n"
    )

    def run() -> list[str]:
        command = [sys.executable, str(folder / "linked.py"), str(folder / "cache")]
        environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
        environment["PYTHONPATH"] = str(ROOT)
        done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
        return done.stdout.splitlines()

    assert run() == ["1 0 1", "True True", "0"]
    # The caller comes whole from the cache, and what it calls only where another one wants it.
    assert run() == ["0 0 0", "1"]


def cache_folder(folder: Path) -> None:
    """Compiled in another process: the folder of this one stays as it is."""
    (folder / "one.py").write_text(
        "import sys, numba\n"
        "numba.config.CACHE_DIR = sys.argv[1]\n"
        "@numba.njit(cache=True)\n"
        "def double(x):\n"
        "    return 2 * x\n"
        "double(1.0)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    subprocess.run(
        [sys.executable, folder / "one.py", folder / "cache"], check=True, env=environment
    )


def settings_file(folder: Path) -> None:
    """The file is looked for at the import and at each compilation, by this name alone."""
    (folder / "one.py").write_text(
        "import numba\n"
        "from numba.core import config\n"
        "assert config.OPT == 1 and config._config_fname == '.numba_config.yaml'\n"
        "config._config_fname = ''\n"
        "numba.njit(lambda x: x)(1)\n"
        "assert config.OPT == 3\n"
    )
    (folder / ".numba_config.yaml").write_text("opt: '1'")
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_OPT"}
    subprocess.run(
        [sys.executable, folder / "one.py"], cwd=folder, check=True, env=environment
    )  # without barsweep
    from numba.core import config

    assert config._config_fname == ""
    assert "import yaml" in inspect.getsource(config)


def cache_files(folder: Path) -> None:
    cache_folder(folder)
    for ending in ("nbi", "nbc"):
        [path] = (folder / "cache").rglob(f"*.{ending}")
        assert path.read_bytes().endswith(b".")


def cache_index(folder: Path) -> None:
    from numba.core.caching import UserProvidedCacheLocator
    from numba.core.registry import cpu_target

    locator: Any = UserProvidedCacheLocator
    codegen: Any = cpu_target.target_context.codegen()
    cache_folder(folder)
    [path] = (folder / "cache").rglob("*.nbi")
    content = path.read_bytes()
    version = pickle.loads(content)
    head = pickle.dumps(version, protocol=-1)
    assert content.startswith(head)
    _, overloads = pickle.loads(content[len(head) :])
    [((_, made_for, _), file)] = overloads.items()
    assert made_for == codegen.magic_tuple() and (path.parent / file).is_file()
    assert path.parent.name == locator.get_suitable_cache_subpath(str(folder / "one.py"))


def versions_of_compilers(_: Path) -> None:
    from optimizer.compile_cache import _COMPILERS

    for package, file in _COMPILERS:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        text = Path(str(spec.origin)).parent.joinpath(file).read_text()
        version = importlib.import_module(package).__version__
        assert version in text


def numba_caching(_: Path) -> None:
    from numba.core import caching

    file: Any = caching.IndexDataCacheFile
    assert parameters(file.load) == ["key"]
    assert parameters(file.save) == ["key", "data"]
    made = file("/cache", "name", "stamp")
    assert (made._cache_path, made._index_name) == ("/cache", "name.nbi")
    assert made._index_path == "/cache/name.nbi"
    assert isinstance(caching.NullCache(), caching._Cache)


def numba_events(_: Path) -> None:
    from numba.core import event

    assert parameters(event.register) == ["kind", "listener"]
    assert event.Listener.__abstractmethods__ == {"on_start", "on_end"}


# --- typer --------------------------------------------------------------------------------------


def usage_error(_: Path) -> None:
    import typer

    above: Any = typer.BadParameter.__mro__[1]
    assert above.__name__ == "UsageError"
    error = above("no such option")
    assert (error.message, error.ctx) == ("no such option", None)
    assert error.format_message() == "no such option"


def get_command(_: Path) -> None:
    import typer.main

    app = typer.Typer()
    app.command("one")(lambda: None)
    app.command("two")(lambda: None)
    found: Any = typer.main.get_command(app)
    assert set(found.commands) == {"one", "two"}


CHECKS: dict[str, Callable[[Path], None]] = {
    "`optuna.storages.journal._file.BaseJournalFileLock`": journal_lock,
    "`BaseJournalBackend` has two methods": journal_backend,
    "`Study._study_id`": study_id,
    "methods of `RDBStorage`": storage_methods,
    "tables `trials` and `trial_heartbeats`": heartbeat_tables,
    "prefix `constraints:`": constraint_prefix,
    "prefix `cma:`": cma_prefix,
    "`optuna.storages._in_memory.datetime`": storage_clock,
    "`joblib.externals.loky.backend.resource_tracker`": resource_tracker,
    "workers and trackers are started with the environment of their parent": (
        environment_of_workers
    ),
    "`joblib.externals.loky.process_executor.TerminatedWorkerError`": terminated_worker,
    "`joblib.externals.loky.process_executor.BrokenProcessPool`": broken_pool,
    "`joblib.externals.loky.reusable_executor._executor` and its `_executor_manager_thread`": (
        executor_of_this_process
    ),
    "`pending_work_items` and `processes` of the manager thread": calls_and_processes,
    "`result_queue._writer` of the manager thread": result_pipe,
    "`terminate_broken` of the manager thread": failing_calls,
    "`joblib.externals.loky.backend.utils.kill_process_tree`": killed_workers,
    "`joblib.externals.loky.backend.context`": start_method,
    "`joblib.externals.loky.backend.queues`": workers_queue,
    "`joblib.externals.loky.process_executor._ExecutorManagerThread`": manager_thread,
    "`_call_queue._reader` of the pool": call_queue,
    "`joblib.externals.loky.get_reusable_executor`": reusable_executor,
    "names in `/dev/shm`": shared_memory,
    "two calls a worker ahead": calls_ahead,
    "`get_active_backend`": active_backend,
    "methods of the Dask back end": dask_backend,
    "`distributed.client.FutureCancelledError`": dask_cancelled,
    "`distributed.comm.tcp.TCP` and the write buffer of its stream": dask_stream,
    "`numba.core.registry.CPUDispatcher`": dispatcher,
    "`numba.core.types`": numba_types,
    "options `_nrt` and `forceinline`": numba_options,
    "`numba.core.codegen.JITCodeLibrary`, `numba.core.compiler`, `numba.core.compiler_machinery`,"
    " `numba.core.untyped_passes`, `numba.core.datamodel`": linked_functions,
    "`numba.config.CACHE_DIR`": cache_folder,
    "`numba.core.config` and its `_config_fname`": settings_file,
    "files of the cache are pickles": cache_files,
    "files that state a version": versions_of_compilers,
    "`numba.core.caching`": numba_caching,
    "`numba.core.caching.UserProvidedCacheLocator`, `numba.core.registry.cpu_target` and what an index"
    " of the cache holds": cache_index,
    "`numba.core.event`": numba_events,
    "the class above `BadParameter`": usage_error,
    "`typer.main.get_command`": get_command,
}


@pytest.mark.parametrize("part", CHECKS)
def test_a_private_part_is_as_it_was(part: str, tmp_path: Path) -> None:
    CHECKS[part](tmp_path)
    if part == "`numba.config.CACHE_DIR`":
        assert list((tmp_path / "cache").rglob("*.nbi"))


def test_the_page_lists_what_is_tested() -> None:
    assert [row[1] for row in cells(4)] == list(CHECKS)


def test_the_page_names_files_that_are_there() -> None:
    named = [name for row in cells(4) for name in re.findall(r"`([^`]+)`", row[3])]
    folders = {
        name: ROOT if re.match("(kernels|tests)/", name) else ROOT / "optimizer" for name in named
    }
    assert [name for name in named if not (folders[name] / name).is_file()] == []


def test_the_page_states_the_versions_of_the_pins() -> None:
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    assert cells(2) == [(name, pins[name]) for name, _ in cells(2)]
    assert {row[0] for row in cells(4)} == {name for name, _ in cells(2)}


def private_imports() -> Iterator[tuple[str, str]]:
    """Place and name of each import from a private module of another package."""
    files = [
        *ROOT.glob("kernels/*.py"),
        *ROOT.glob("optimizer/**/*.py"),
        *ROOT.glob("tests/**/*.py"),
    ]
    for path in files:
        if path == Path(__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
                names = [str(one.value) for one in node.args if isinstance(one, ast.Constant)]
            for name in names:
                own = name.split(".")[0] in ("optimizer", "kernels", "tests", "__future__")
                private = re.search(r"\.(_\w|externals\b|core\b)", name)
                if private and not own:
                    yield str(path.relative_to(ROOT)), name


def test_every_private_import_is_on_the_page() -> None:
    listed = re.findall(r"`((?:\w+\.)+\w+)`", PAGE)
    found = list(private_imports())
    assert found
    unlisted = [
        f"{place}: {name}"
        for place, name in found
        if not any(name == one or name.startswith(f"{one}.") or one.startswith(f"{name}.")
                   for one in listed)
    ]  # fmt: skip
    assert unlisted == []


def test_every_use_of_a_private_name_is_on_the_page() -> None:
    files = [*ROOT.glob("kernels/**/*.py"), *ROOT.glob("optimizer/**/*.py")]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    found, unlisted = 0, []
    for row in cells(4):
        for owner, name in re.findall(r"`[\w.]*?(\w+)\.(_\w+)`", row[1]):
            for path, tree in trees.items():
                place = path.relative_to(ROOT).as_posix().removeprefix("optimizer/")
                uses = any(
                    isinstance(node, ast.Attribute)
                    and node.attr == name
                    and ast.unparse(node.value).split(".")[-1] == owner
                    for node in ast.walk(tree)
                )
                found += uses
                if uses and f"`{place}`" not in row[3]:
                    unlisted.append(f"{place}: {owner}.{name}")
    assert found
    assert unlisted == []
