"""Load a study file."""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from pathlib import Path
from typing import Any

from optimizer.errors import StrategyError, StudyFileError
from optimizer.study_file.components import NAMED, Readers
from optimizer.study_file.study import Study, make_study


def load_study(path: str | os.PathLike[str]) -> Study:
    """Read and check a study file. Runs the files of the strategies that it names, and approves them.

    Args:
        path: a TOML file. The path of the bars in it is relative to its folder.

    Returns:
        The study, defaults filled in.

    Raises:
        StudyFileError: the file cannot be read, is not TOML, or breaks a rule.
        StrategyError: the file of a user's strategy cannot be used.
    """
    study = read_study_file(Path(path), NAMED)
    for one in study.user_code:
        with contextlib.suppress(StrategyError):  # declared in the study file, and needed later
            one.approve()
    return study


def read_study_file(file: Path, read: Readers) -> Study:
    """Read and check a study file.

    Args:
        file: a TOML file.
        read: reads the file of each strategy that it names.

    Returns:
        The study, defaults filled in.

    Raises:
        StudyFileError: the file cannot be read, is not TOML, or breaks a rule.
        StrategyError: the file of a user's strategy cannot be used.
    """
    return make_study(_read_toml(file), file, file.parent, read)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        raise StudyFileError(f"{path}: a folder; expected a study file (TOML)") from None
    except FileNotFoundError:
        raise StudyFileError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise StudyFileError(f"{path}: cannot be read: {reason}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise StudyFileError(f"{path}: line {line}: not UTF-8; save the file as UTF-8") from None
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise StudyFileError(f"{path}: not TOML: nested too deep") from None
    except ValueError as error:
        raise StudyFileError(f"{path}: {_syntax_error(error, text)}") from None


def _syntax_error(error: ValueError, text: str) -> str:
    match = re.fullmatch(r"(.*) \(at (line \d+, column \d+|end of document)\)", str(error), re.S)
    if match is None:
        return f"not TOML: {error}"
    reason, place = match.groups()
    if place == "end of document":
        lines = text.split("\n")
        place = f"line {len(lines)}, column {len(lines[-1]) + 1}"
    return f"{place}: not TOML: {reason}"
