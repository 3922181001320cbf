"""Refuse to overwrite files that no command wrote as its output."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from optimizer.errors import StudyError
from optimizer.files import save
from optimizer.store.names import BATCH_FOLDERS, MANIFEST, OWN_FILES


def check_output(path: Path, endings: Sequence[str], what: str) -> None:
    """Refuse a file that must not be replaced, or whose name does not say what is written.

    Args:
        path: the path of the file to be written.
        endings: valid ones, in lower case; upper case is accepted too.
        what: what is written to it, as the start of a sentence.

    Raises:
        StudyError: the ending is another, the file must not be replaced, or its folder is missing.
    """
    refuse_to_replace(path)
    refuse_missing_folder(path)
    if path.suffix.lower() not in endings:
        raise StudyError(f"{path}: {what} is written to a file that ends in {' or '.join(endings)}")


HTML = (".html", ".htm")
"""Endings of a page."""


def refuse_to_replace(path: Path) -> None:
    """Refuse to overwrite a study's own files, a study file or bars.

    Args:
        path: the path of the file to be written.

    Raises:
        StudyError: the file is one of these.
    """
    what = _what_would_be_lost(path) if path.is_file() else ""
    if what:
        raise StudyError(f"{path}: is {what}, which would be lost; give another --out")


def refuse_missing_folder(path: Path) -> None:
    """Refuse a file whose folder is missing: that is more often a typo than a wish for a new folder.

    Args:
        path: the path of the file to be written.

    Raises:
        StudyError: names the folder.
    """
    if not path.parent.is_dir():
        raise StudyError(
            f"{path}: there is no folder {path.parent}; make it first, or give another --out"
        )


def write_output(path: Path, text: str) -> None:
    """Write the output of a command.

    Args:
        path: the path of the file.
        text: its content.

    Raises:
        StudyError: the file must not be replaced, or cannot be written.
    """
    refuse_to_replace(path)
    save(path, lambda part: part.write_text(text, encoding="utf-8"))


def _what_would_be_lost(path: Path) -> str:
    folder = path.parent
    if path.name in OWN_FILES and (folder / MANIFEST).is_file():
        return "one of the study's own files"
    if folder.name in BATCH_FOLDERS and (folder.parent / MANIFEST).is_file():
        return "one of the study's own files"
    names: Iterable[str] = ()
    with contextlib.suppress(OSError, ValueError, pa.ArrowException):
        if path.suffix == ".toml":
            content = tomllib.loads(path.read_text(encoding="utf-8"))
            return "a study file" if "study" in content and "kind" not in content else ""
        if path.suffix == ".parquet":
            names = pq.read_schema(path).names
        elif path.suffix == ".csv":
            with path.open(encoding="utf-8") as file:
                names = file.readline().split(",")
    found = {name.strip().lower() for name in names}
    return "a file of bars" if {"open", "close"} <= found else ""
