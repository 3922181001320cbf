"""Where compiled kernels are kept between starts.

numba keys each cached function only by its own source file, so a kernel would keep using the old
machine code of a kernel that it calls and that was edited. Here the folder itself is keyed by the
sources of all kernels and by the compilers. It is set when ``optimizer`` is imported, before any kernel
is decorated, and worker processes inherit it through the environment.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib.util
import os
import shutil
import stat
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from optimizer.files import user_cache_folder, wait_for_lock
from optimizer.prebuilt import unpack

KEPT_KEYS = 5
"""Folders kept, the last used ones; so switching branches compiles nothing again."""

IDLE_SECONDS = 24 * 3600
"""A folder used within this time is always kept: another program may be using it."""

NEEDED_BYTES = 64_000_000
"""A disk with less free space counts as full; compiled kernels take a part of this."""

_VARIABLE = "NUMBA_CACHE_DIR"
_FOLDER = "barsweep"
_PREFIX = "kernels-"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_PASS = stat.S_IXGRP | stat.S_IXOTH
_COMPILERS = (("numba", "_version.py"), ("llvmlite", "_version.py"), ("numpy", "version.py"))


def configure() -> Path:
    """Choose the folder and tell numba.

    It is ``<base>/barsweep/<key>``. The base is ``NUMBA_CACHE_DIR`` if that is absolute, else the user's
    cache folder. If the folder cannot be written, the disk is full, or another user could have put
    something there, a warning says so, and a temporary folder is used until the process ends.

    Returns:
        The folder.

    Raises:
        ImportError: ``kernels`` is missing, or belongs to another distribution.
    """
    key = _PREFIX + source_key(kernels_folder())
    folder = _base() / _FOLDER / key
    problem = _why_unusable(folder)
    if problem:
        folder = _temporary(folder, problem) / _FOLDER / key
        folder.parent.mkdir()
        folder.mkdir(mode=0o700)
    os.environ[_VARIABLE] = str(folder)
    # numba colors messages as it makes them, whether or not they are shown: 3% of compiling.
    os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = str(folder)
    _remove_old(folder)
    _remove_torn(folder)
    if not any(folder.glob("*/*.nbi")):
        with exclusive():
            if not any(folder.glob("*/*.nbi")):
                unpack(kernels_folder(), source_key(kernels_folder(), python=""), folder)
    return folder


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Hold this machine's lock on the folder, so that one process at a time compiles into it.

    Does nothing where files cannot be locked (Windows, some network file systems), and where the thread
    holds it already.
    """
    folder = os.environ.get(_VARIABLE)
    if folder is None or getattr(_this_thread, "holds", False):
        yield
        return
    with wait_for_lock(Path(folder) / ".lock"):
        _this_thread.holds = True
        try:
            yield
        finally:
            _this_thread.holds = False


_this_thread = threading.local()
"""``holds``: whether the thread holds the lock on the folder."""


def kernels_folder() -> Path:
    """The folder of the ``kernels`` package that will be imported.

    Raises:
        ImportError: it is missing, or belongs to another distribution.
    """
    spec = importlib.util.find_spec("kernels")
    if spec is None or spec.origin is None:
        raise ImportError("barsweep's package 'kernels' is missing; install barsweep again")
    folder = Path(spec.origin).resolve().parent
    if folder.parent != Path(__file__).resolve().parent.parent:
        raise ImportError(
            f"the package 'kernels' in {folder} is not barsweep's and hides it; "
            "uninstall it or take its folder out of the Python path"
        )
    return folder


def source_key(folder: Path, python: str = sys.version) -> str:
    """Hash of all kernel sources, and of the versions of Python, numba, llvmlite and numpy.

    The processor is not part of it: numba itself keeps the code of different processors apart.

    Args:
        folder: the folder of the kernels.
        python: what tells one Python from another.

    Returns:
        20 hexadecimal digits.
    """
    digest = hashlib.sha256(f"{python}\0{sys.platform}".encode())
    sources = [(str(path.relative_to(folder)), path) for path in sorted(folder.rglob("*.py"))]
    for package, file in _COMPILERS:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            sources.append((f"{package}/{file}", Path(spec.origin).parent / file))
    for name, path in sources:
        content = path.read_bytes()
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:20]


def _base() -> Path:
    given = os.environ.get(_VARIABLE, "")
    # A relative one would make pickles of any current folder, such as one from a stranger, run.
    if os.path.isabs(given):
        folder = Path(given)
        # The parent process, or an earlier call, has set it: do not nest.
        if folder.name.startswith(_PREFIX) and folder.parent.name == _FOLDER:
            return folder.parent.parent
        return folder
    return user_cache_folder()


def _why_unusable(folder: Path) -> str:
    """Make a folder, and say why nothing can be written to it; empty if something can."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        problem = _why_untrusted(folder)
        if problem:
            return problem
        _close(folder)
        os.utime(folder)
        try:
            probe.write_bytes(bytes(1_000_000))
        finally:
            probe.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return error.strerror or type(error).__name__
    return "" if free >= NEEDED_BYTES else f"only {free / 1e6:.0f} MB free"


def _why_untrusted(folder: Path) -> str:
    """Why what a folder holds may be another user's; empty if only this user can have written it.

    numba's files are pickles, which run what they say.
    """
    if not hasattr(os, "getuid"):
        return ""
    above, base = folder.parent, folder.parent.parent
    status = above.stat()
    if status.st_uid == os.getuid() and status.st_mode & _OTHERS_WRITE:
        # Made under a umask that lets a group write. Only the folder in it is read, which is looked
        # at next, so nothing is lost by closing this one now.
        above.chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS_WRITE)
    for path in (folder, above):
        status = path.stat()
        if path.is_symlink() or status.st_uid != os.getuid():
            return (
                f"{path} belongs to another user" if not path.is_symlink() else f"{path} is a link"
            )
        if status.st_mode & _OTHERS_WRITE:
            return f"other users can write to {path}"
    status = base.stat()
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        return f"other users can replace what is in {base}"
    return ""


def _close(folder: Path) -> None:
    """Close a folder to other users, and remove kernels that they could have put there or changed.

    While it is closed nobody else reaches its files, whatever their own modes: under a umask that lets
    a group write, numba writes such files.
    """
    if not hasattr(os, "getuid"):
        return
    was_open = folder.stat().st_mode & _OTHERS_PASS
    folder.chmod(0o700)
    removed = 0
    for path in list(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            foreign = status.st_uid != os.getuid() or stat.S_ISLNK(status.st_mode)
            kernel = path.suffix in (".nbi", ".nbc")
            if foreign or (kernel and was_open and status.st_mode & _OTHERS_WRITE):
                shutil.rmtree(path) if stat.S_ISDIR(status.st_mode) else path.unlink()
                removed += 1
    if removed:
        warnings.warn(
            f"other users could have written {removed} of the files in {folder}, so these were removed"
            " and their kernels are compiled again",
            RuntimeWarning,
            stacklevel=4,
        )


def _temporary(folder: Path, problem: str) -> Path:
    import tempfile

    temporary = Path(tempfile.mkdtemp(prefix="barsweep-"))
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not in a fork
            shutil.rmtree(temporary, ignore_errors=True)

    atexit.register(remove)
    warnings.warn(
        f"compiled kernels cannot be kept in {folder} ({problem}), so each start compiles them again; "
        f"free space there, correct its permissions, or set {_VARIABLE} to a writable folder",
        RuntimeWarning,
        stacklevel=3,
    )
    return temporary


def _remove_old(current: Path) -> None:
    """Remove folders of other keys except the last used ones; failures are ignored."""
    with contextlib.suppress(OSError):
        used = sorted(
            ((path.stat().st_mtime, path) for path in current.parent.glob(f"{_PREFIX}*")),
            reverse=True,
        )
        for last_use, path in used[KEPT_KEYS:]:
            if path != current and time.time() - last_use > IDLE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _remove_torn(folder: Path) -> None:
    """Remove cached kernels that a loss of power or a full disk truncated; numba compiles them again.

    numba's files are pickles, which end with a full stop, and numba raises on a truncated one. A cut
    at a random place leaves a full stop at the end in 1 of 256 cases and is then not found here.
    """
    with contextlib.suppress(OSError):
        for path in (*folder.rglob("*.nbi"), *folder.rglob("*.nbc")):
            with path.open("rb") as file:
                whole = os.fstat(file.fileno()).st_size > 0 and file.seek(-1, os.SEEK_END) >= 0
                whole = whole and file.read(1) == b"."
            if not whole:
                path.unlink()
