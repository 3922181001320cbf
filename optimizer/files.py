"""Files and folders: whole writes, the user's folders, and locks on folders.

The locks are the operating system's, on folders themselves. Packages such as filelock lock a file of
their own, which would stay in every study, and offer no shared lock for ``is_in_use``. platformdirs
would move the cache and the ledger of macOS and Windows.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from optimizer.errors import StudyError

LEDGER = "BARSWEEP_LEDGER"
"""Environment variable that names the ledger; by default it is in the user's data folder."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all.

    Args:
        path: the file.
        write: writes the content to the temporary file that it is given, which then takes the name.

    Raises:
        OSError: the file cannot be written; what was there before is kept.
    """
    temporary = part_path(path)
    # Left by a process that was killed, or put there by whoever made the folder: a link would be
    # written through.
    temporary.unlink(missing_ok=True)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def part_path(path: Path) -> Path:
    """The temporary file to which a file is written before it takes its name.

    Args:
        path: the path of the file.
    """
    return path.with_name(path.name + ".part")


def save(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file of a study whole or not at all.

    Args:
        path: the file.
        write: writes the content to the temporary file that it is given, see ``write_atomically``.

    Raises:
        StudyError: the file cannot be written; what was there before is kept.
    """
    try:
        write_atomically(path, write)
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> StudyError:
    """The error for a file of a study that could not be written; says how to go on.

    Args:
        path: the path of the file.
        error: the error of the operating system or of NumPy.
    """
    reason = os.strerror(error.errno) if error.errno else str(error)
    # NumPy says how much it could write and gives no number.
    if error.errno not in (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StudyError(f"{path}: cannot be written: {reason}")
    existing = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    return StudyError(
        f"{path}: cannot be written: {reason} ({free / 1e6:,.0f} MB free on the disk of"
        f" {existing if existing.is_dir() else existing.parent}); what was written before is kept:"
        " free space there, then continue with `barsweep resume`"
    )


def _of_xdg(variable: str) -> Path | None:
    """The folder that an XDG variable names; None if it is not absolute.

    The standard says to ignore a relative one. It would make any current folder, such as one from a
    stranger, the user's own.
    """
    given = os.environ.get(variable, "")
    return Path(given) if os.path.isabs(given) else None


def user_cache_folder() -> Path:
    """Where programs of the user keep what they can compute again; ``XDG_CACHE_HOME`` if absolute."""
    given = _of_xdg("XDG_CACHE_HOME")
    if given is not None:
        return given
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or os.path.expanduser("~"))
    home = Path(os.path.expanduser("~"))
    return home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"


def user_data_folder() -> Path:
    """Where programs of the user keep data; ``XDG_DATA_HOME`` if absolute.

    Raises:
        RuntimeError: the user has no home folder.
    """
    return _of_xdg("XDG_DATA_HOME") or Path.home() / ".local" / "share"


def ledger_path() -> Path:
    """The path of the ledger: ``$BARSWEEP_LEDGER``, or ``barsweep/ledger.db`` among the user's data.

    What the user has approved is kept next to it, so it never depends on the current folder.

    Raises:
        StudyError: the user has no home folder, or the path is not absolute.
    """
    given = os.environ.get(LEDGER)
    if given:
        path = Path(given)
    else:
        try:
            path = user_data_folder() / "barsweep" / "ledger.db"
        except RuntimeError as error:
            raise StudyError(
                f"there is no place for the ledger: {error}; name a file with {LEDGER}"
            ) from None
    if not path.is_absolute():
        raise StudyError(f"{LEDGER}: got {given or path}; name the ledger by an absolute path")
    return path


def read_private(path: Path) -> str:
    """The text of a file in which only its owner can have written; empty if it is missing.

    Args:
        path: the path of the file.

    Raises:
        OSError: it cannot be read, or is a link.
        StudyError: someone else could have written it.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        return ""
    with open(handle, encoding="utf-8", errors="replace") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise StudyError(f"{path}: not a file; remove it")
        if os.name == "posix" and found.st_uid != os.geteuid():
            raise StudyError(f"{path}: belongs to another user; remove it")
        if os.name == "posix" and stat.S_IMODE(found.st_mode) & 0o077:
            raise StudyError(f"{path}: open to other users; check what it lists, then chmod 600")
        return file.read()


def add_private_line(path: Path, line: str) -> None:
    """Add a line to a file that ``read_private`` reads. Several processes may do so at once.

    Args:
        path: the path of the file; its folder is made if it is missing.
        line: without its end.

    Raises:
        OSError: it cannot be written, or is a link.
        StudyError: someone else could have written to it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with wait_for_lock(path.with_name(f"{path.name}.lock")):
        before = read_private(path)
        write_atomically(path, lambda part: _write_private(part, f"{before}{line}\n"))


def _write_private(part: Path, text: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        part.unlink()  # of a process that was killed
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


@contextlib.contextmanager
def exclusive_use(path: Path) -> Iterator[None]:
    """Hold the lock of a study's folder, which is made if needed, while a study runs in it.

    The lock leaves no file, and it ends with the process, whatever ends that. Folders that cannot be
    locked (Windows, some network file systems) are used without a lock.

    Args:
        path: the folder.

    Raises:
        StudyError: another process holds the lock, or the folder cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise StudyError(f"{path}: is a file; give another --out") from None
    except OSError as error:
        raise cannot_write(path, error) from None
    with _opened(path) as handle:
        if handle is not None:
            try:
                try:
                    _lock(handle)
                except BlockingIOError:  # perhaps a process that asks `is_in_use`
                    time.sleep(0.1)
                    _lock(handle)
            except BlockingIOError:
                raise StudyError(
                    f"{path}: another process is running a study there; wait for it to end, or give"
                    " another --out"
                ) from None
            except OSError:
                logging.getLogger("barsweep").warning(
                    "%s: its file system has no locks; start only one study there at a time", path
                )
        yield


def is_in_use(path: Path) -> bool:
    """Whether a process holds ``exclusive_use`` of a study's folder; False if that is unknown.

    Args:
        path: the folder.
    """
    with _opened(path) as handle:
        if handle is None:
            return False
        try:
            # For an instant this is a lock too, but one that other callers can share.
            _lock(handle, shared=True)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


@contextlib.contextmanager
def wait_for_lock(file: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made if needed; waits while another process holds it.

    Does nothing where the file cannot be locked (Windows, some network file systems).

    Args:
        file: the file; it stays.
    """
    with _opened(file, os.O_CREAT | os.O_RDWR) as handle:
        if handle is not None:
            with contextlib.suppress(OSError):
                _lock(handle, wait=True)
        yield


@contextlib.contextmanager
def _opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int | None]:
    """A file or folder opened to lock it; None where that is not possible."""
    try:
        import fcntl  # noqa: F401

        handle = os.open(path, flags, 0o600)
    except (ImportError, OSError):
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def _lock(handle: int, *, shared: bool = False, wait: bool = False) -> None:
    import fcntl

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
