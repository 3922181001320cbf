"""Refuse symbolic links where barsweep writes or removes files: they lead out of the folder."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from pathlib import Path

from optimizer.errors import StudyError
from optimizer.store.names import BATCH_FOLDERS, FOLDS, OWN_FILES, SCRATCH

OF_A_STUDY = (*OWN_FILES, *BATCH_FOLDERS, FOLDS, f"{SCRATCH}-*", "*.part")
"""Patterns of the names that a study's commands write, replace or remove."""


def refuse_links(folder: Path, patterns: Sequence[str] = OF_A_STUDY) -> None:
    """Refuse a folder in which a name of barsweep's own is a symbolic link, at any depth.

    The folder itself may be one, since the user named it.

    Args:
        folder: the folder in which files are about to be written or removed; it may be missing.
        patterns: the patterns of the names at its top.

    Raises:
        StudyError: there is such a link.
    """
    try:
        with os.scandir(folder) as found:
            own = sorted(
                (one for one in found if any(fnmatch.fnmatch(one.name, p) for p in patterns)),
                key=lambda one: one.name,
            )
        for one in own:
            if one.is_symlink():
                _refuse(Path(one.path))
            if one.is_dir(follow_symlinks=False):
                _refuse_below(Path(one.path))
    except OSError:  # missing, or not to be listed: whatever is done there next says so
        return


def _refuse_below(folder: Path) -> None:
    for path, below, files in os.walk(folder):
        for name in (*below, *files):
            one = Path(path, name)
            if one.is_symlink():
                _refuse(one)


def _refuse(link: Path) -> None:
    raise StudyError(
        f"{link}: is a symbolic link, and nothing is written or removed through one; put the file"
        " itself there, or remove the link"
    )
