"""Writing files whole or not at all, and locking a folder."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optimizer.errors import StudyError


def write_atomically(path: Path, write: Any) -> None:
    """Call ``write`` with a temporary file's path and give that its final name once it is on disk."""
    temporary = part_path(path)
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


def cannot_write(path: Path, error: OSError) -> StudyError:
    """The error for a file of a study that could not be written, with the mend."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    # NumPy says how much it could write and gives no number.
    if error.errno not in (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StudyError(f"{path}: cannot be written: {reason}")
    existing = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    return StudyError(
        f"{path}: cannot be written: {reason} ({free / 1e6:,.0f} MB free on the disk of"
        f" {existing if existing.is_dir() else existing.parent}); what was written before is kept:"
        " free space there, then `barsweep resume` goes on"
    )


@contextlib.contextmanager
def exclusive_use(path: Path) -> Iterator[None]:
    """Hold the lock of a study's folder, which is made if need be, as long as a study runs in it.

    The lock is the operating system's, on the folder itself: it leaves no file, and it ends with the
    process, whatever ends that. Where folders cannot be locked (Windows, some network file systems)
    there is none.

    Raises:
        StudyError: another process holds it, or the folder cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise StudyError(f"{path}: is a file; give another --out") from None
    except OSError as error:
        raise cannot_write(path, error) from None
    try:
        import fcntl

        handle = os.open(path, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # by one who looked with `is_in_use`, perhaps
                time.sleep(0.1)
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StudyError(
                f"{path}: another process is running a study there; let it end, or give another --out"
            ) from None
        except OSError:
            logging.getLogger("barsweep").warning(
                "%s: its file system has no locks; start one study there at a time", path
            )
        yield
    finally:
        os.close(handle)


def is_in_use(path: Path) -> bool:
    """Whether a process holds ``exclusive_use`` of a study's folder; no where it cannot be told."""
    try:
        import fcntl

        handle = os.open(path, os.O_RDONLY)
    except (ImportError, OSError):
        return False
    try:
        # For an instant this is a lock too, though one that others who look can share.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def part_path(path: Path) -> Path:
    """Where a file is written before it takes its name."""
    return path.with_name(path.name + ".part")
