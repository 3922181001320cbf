"""The folder of compiled kernels: never stale, never in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import pytest

from optimizer import compile_cache
from tests.support.command import Done
from tests.support.package_copy import CALL, INNER, ROOT, package_copy, start

CONFIG: Any = numba.config  # its names come from the environment
FORKS = """
import json, os, sys
import numba
numba.njit(lambda x: x + 1.0)(1.0)
for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        for number in (1, 2):
            os.dup2(os.open(f"{order['said']}.{number}", os.O_WRONLY | os.O_CREAT), number)
        os.chdir(order["folder"])
        sys.path.insert(0, order["folder"])
        os.environ["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR = order["cache"]
        exec(order["code"])
        sys.stdout.flush()
        os._exit(0)  # to take numba's modules apart takes most of a start's time
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder of each test's own; numba's setting is put back afterwards."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(CONFIG, "CACHE_DIR", CONFIG.CACHE_DIR)


class Forks:
    """Starts of Python in which numba is imported already: most of the time that one takes."""

    def __init__(self, folder: Path) -> None:
        self._said = folder / "said"
        self._n_started = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORKS],
            cwd=folder,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, folder: Path, code: str) -> Done:
        """As the function ``start``."""
        self._n_started += 1
        said = f"{self._said}-{self._n_started}"
        order = {"folder": str(folder), "code": code, "said": said,
                 "cache": os.environ["NUMBA_CACHE_DIR"]}  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        ended = int(self._process.stdout.readline())
        return Done(ended, Path(f"{said}.1").read_text(), Path(f"{said}.2").read_text())

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    found = Forks(tmp_path_factory.mktemp("forks"))
    yield found
    found.close()


def test_an_edited_callee_gives_the_new_result(tmp_path: Path, forks: Forks) -> None:
    folder = package_copy(tmp_path / "copy")
    start = forks.start
    code = f"import optimizer; {CALL}"
    assert start(folder, code).stdout.split() == ["20.0", "0"]
    assert start(folder, code).stdout.split() == ["20.0", "1"]  # a second start compiles nothing
    assert start(folder, CALL).stdout.split() == ["20.0", "0"]  # numba alone, for comparison

    inner = folder / "kernels" / "inner.py"
    before = inner.stat().st_mtime
    inner.write_text(INNER.format("2.0"))
    # Python takes the bytecode of a file of the same second and size.
    os.utime(inner, (before + 2.0, before + 2.0))
    assert start(folder, code).stdout.split() == ["30.0", "0"]
    # What is guarded against. Should numba give 30 here one day, compile_cache can go.
    assert start(folder, CALL).stdout.split() == ["20.0", "1"]


def test_key_follows_every_kernel_source(tmp_path: Path) -> None:
    folder = package_copy(tmp_path / "copy") / "kernels"
    key = compile_cache.source_key(folder)
    assert compile_cache.source_key(folder) == key
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "inner.pyc").write_bytes(b"x")
    assert compile_cache.source_key(folder) == key
    (folder / "inner.py").write_text(INNER.format("3.0"))
    edited = compile_cache.source_key(folder)
    (folder / "inner.py").rename(folder / "renamed.py")
    renamed = compile_cache.source_key(folder)
    (folder / "deeper").mkdir()
    (folder / "deeper" / "more.py").write_text("")
    assert len({key, edited, renamed, compile_cache.source_key(folder)}) == 4


def test_key_follows_the_compilers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {compile_cache.source_key(tmp_path)}
    for package, _ in compile_cache._COMPILERS:
        monkeypatch.setattr(
            compile_cache, "_COMPILERS", [c for c in compile_cache._COMPILERS if c[0] != package]
        )
        keys.add(compile_cache.source_key(tmp_path))
    assert len(keys) == 4


def test_folder_given_by_the_user_is_the_base(tmp_path: Path) -> None:
    folder = compile_cache.configure()
    assert folder.parent == tmp_path / "cache" / "barsweep"
    assert os.environ["NUMBA_CACHE_DIR"] == CONFIG.CACHE_DIR == str(folder)
    assert compile_cache.configure() == folder  # again, and in a child: no nesting
    code = "import optimizer, numba; print(numba.config.CACHE_DIR)"
    assert start(ROOT, code).stdout.strip() == str(folder)


def test_folder_of_the_user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert compile_cache.configure().parent == tmp_path / "xdg" / "barsweep"
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert compile_cache.configure().parent == tmp_path / "home" / ".cache" / "barsweep"
    # A relative one would make the pickles of any current folder run.
    monkeypatch.setenv("NUMBA_CACHE_DIR", "relative/is/ignored")
    assert compile_cache.configure().parent == tmp_path / "home" / ".cache" / "barsweep"


def test_unwritable_folder_gives_one_warning_and_a_temporary_one(tmp_path: Path) -> None:
    folder = package_copy(tmp_path / "copy")
    (tmp_path / "file").write_text("not a folder")
    code = (
        f"import optimizer, os; {CALL}\nprint(os.environ['NUMBA_CACHE_DIR'])\n"
        "import subprocess, sys\n"
        "child = 'import optimizer, os; print(os.environ[\"NUMBA_CACHE_DIR\"])'\n"
        "subprocess.run([sys.executable, '-c', child], check=True)"
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = start(
        folder, code, NUMBA_CACHE_DIR=str(tmp_path / "file" / "cache"), TMPDIR=str(temporary)
    )
    assert done.returncode == 0, done.stderr
    own, child, answer = sorted(done.stdout.splitlines())
    assert answer == "20.0 0"
    assert own == child  # the child process shares it, and does not warn again
    assert own.startswith(str(temporary))
    assert done.stderr.count("RuntimeWarning") == 1
    assert "cannot be kept in" in done.stderr
    assert "NUMBA_CACHE_DIR" in done.stderr
    assert list(temporary.iterdir()) == []  # nothing is left behind


def test_full_disk_counts_as_unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_cache, "NEEDED_BYTES", 10**18)
    with pytest.warns(RuntimeWarning, match=r"cannot be kept in .*cache.* MB free") as caught:
        folder = compile_cache.configure()
    assert len(caught) == 1
    assert not folder.is_relative_to(tmp_path)
    assert folder.is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_write_that_fails_counts_as_unwritable(tmp_path: Path) -> None:
    """A quota is not seen in the free space: here a limit on the size of files."""
    code = (
        "import resource, sys\n"
        "sys.dont_write_bytecode = True  # which Python would leave cut\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "import optimizer, os; print(os.environ['NUMBA_CACHE_DIR'])"
    )
    done = start(ROOT, code)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "cache") not in done.stdout
    assert done.stderr.count("RuntimeWarning") == 1


def refused(folder: Path, words: str) -> None:
    """What is kept in a folder is not used: one warning, and a temporary folder."""
    with pytest.warns(RuntimeWarning, match=words) as caught:
        used = compile_cache.configure()
    assert len(caught) == 1
    assert not used.is_relative_to(folder)
    assert used.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners of POSIX")
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path, mode: int) -> None:
    """Its files are pickles: whoever writes them runs code as this user."""
    folder = compile_cache.configure()
    assert folder.stat().st_mode & 0o077 == 0
    folder.chmod(mode)
    refused(tmp_path / "cache", r"cannot be kept in .*other users can write")


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners of POSIX")
def test_a_folder_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_cache.configure()
    user = os.getuid()
    with monkeypatch.context() as patched:
        patched.setattr(os, "getuid", lambda: user + 1)
        with pytest.warns(RuntimeWarning, match="belongs to another user"):
            compile_cache.configure()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners of POSIX")
def test_a_link_to_a_folder_is_not_used(tmp_path: Path) -> None:
    folder = compile_cache.configure()
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    refused(tmp_path / "cache", "is a link")


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners of POSIX")
def test_a_base_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    compile_cache.configure()
    (tmp_path / "cache").chmod(0o777)
    refused(tmp_path / "cache", "other users can replace what is in")


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners of POSIX")
@pytest.mark.parametrize("mode", [0o755, 0o711, 0o750])
def test_a_folder_that_others_can_enter_is_closed(mode: int) -> None:
    """Of what is in it, the kernels go that others could have written to; they are pickles."""
    folder = compile_cache.configure()
    (folder / "kernels_1").mkdir()
    modes = {"own.nbi": 0o644, "group.nbi": 0o664, "all.nbc": 0o666, "all.py": 0o666}
    for name, of_file in modes.items():
        (folder / "kernels_1" / name).write_bytes(b".")
        (folder / "kernels_1" / name).chmod(of_file)
    (folder / "link.nbi").symlink_to(folder / "kernels_1" / "own.nbi")
    folder.chmod(mode)
    with pytest.warns(RuntimeWarning, match="other users could have written 3 of the files"):
        assert compile_cache.configure() == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    left = {path.name for path in folder.rglob("*.*") if path.name != ".lock"}
    assert left == {"own.nbi", "all.py"}
    # Closed, it keeps what numba writes under a umask that lets a group write.
    (folder / "kernels_1" / "own.nbi").chmod(0o664)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compile_cache.configure() == folder
    assert (folder / "kernels_1" / "own.nbi").exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners of POSIX")
def test_a_kernel_of_another_user_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = compile_cache.configure()
    (folder / "kernels_1").mkdir()
    for name in ("own.nbi", "other.nbi"):
        (folder / "kernels_1" / name).write_bytes(b".")
    real = Path.lstat

    def lstat(path: Path) -> os.stat_result:
        status = list(real(path))
        status[4] += path.name == "other.nbi"
        return os.stat_result(status)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "lstat", lstat)
        with pytest.warns(RuntimeWarning, match="other users could have written 1 of the files"):
            compile_cache.configure()
    assert [path.name for path in (folder / "kernels_1").iterdir()] == ["own.nbi"]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners of POSIX")
def test_a_umask_that_lets_a_group_write_is_no_warning(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            folder = compile_cache.configure()
            assert compile_cache.configure() == folder
    finally:
        os.umask(before)
    assert folder.is_relative_to(tmp_path / "cache")
    assert folder.parent.stat().st_mode & 0o022 == 0


def test_old_keys_are_removed_and_young_ones_kept() -> None:
    folder = compile_cache.configure()
    now = time.time()
    for age_in_days in range(1, 11):
        other = folder.parent / f"kernels-{age_in_days:02}"
        other.mkdir()
        moment = now - age_in_days * 86400 - 60
        os.utime(other, (moment, moment))
    for name in ("kernels-idle-for-an-hour", "unrelated"):
        (folder.parent / name).mkdir()
    os.utime(folder.parent / "unrelated", (0, 0))
    compile_cache.configure()
    left = sorted(path.name for path in folder.parent.iterdir())
    assert left == sorted(
        [
            folder.name,
            "kernels-01",
            "kernels-02",
            "kernels-03",
            "kernels-idle-for-an-hour",
            "unrelated",
        ]
    )


def test_one_process_at_a_time() -> None:
    fcntl = pytest.importorskip("fcntl")
    lock = compile_cache.configure() / ".lock"
    with compile_cache.exclusive():
        other = os.open(lock, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)


def test_lock_is_done_without_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    with warnings.catch_warnings(), compile_cache.exclusive():
        warnings.simplefilter("error")


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_torn_file_is_compiled_again(tmp_path: Path, suffix: str, forks: Forks) -> None:
    """Cut to nothing, to a byte, to its half, by a byte: as a loss of power leaves it."""
    folder = package_copy(tmp_path / "copy")
    start = forks.start
    code = f"import optimizer; {CALL}"
    assert start(folder, code).stdout.split() == ["20.0", "0"]
    for length in (0, 1, 0.5, -1):
        torn = sorted((tmp_path / "cache").rglob(f"outer.outer-*.{suffix}"))
        assert len(torn) == 1
        content = torn[0].read_bytes()
        kept = content[: int(length * len(content)) if length == 0.5 else int(length)]
        assert kept[-1:] != b"."
        torn[0].write_bytes(kept)
        done = start(folder, code)
        assert (done.stdout.split(), done.stderr) == (["20.0", "0"], ""), length
        assert start(folder, code).stdout.split() == ["20.0", "1"], length


def test_a_thread_may_compile_within_what_it_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A strategy is compiled when the simulation that holds the lock first calls it."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    done = []

    def nested() -> None:
        with compile_cache.exclusive():
            with compile_cache.exclusive():
                done.append("inside")
            other.start()
            other.join(0.2)
            done.append("still held" if other.is_alive() else "lost")

    def wait() -> None:
        with compile_cache.exclusive():
            done.append("after")

    other = threading.Thread(target=wait, daemon=True)
    first = threading.Thread(target=nested, daemon=True)
    first.start()
    first.join(20.0)
    other.join(20.0)
    assert done == ["inside", "still held", "after"]
