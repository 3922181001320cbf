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
from optimizer.text import quoted


def load_study(path: str | os.PathLike[str]) -> Study:
    """Read and check a study file. Runs the files of the strategies that it names, and approves them.

    >>> import optimizer
    >>> study = optimizer.load_study("study.toml")
    >>> study.name, study.search.sampler
    ('study', 'grid')

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
    lines = text.split("\n")
    line, column = map(int, re.findall(r"\d+", place))
    return f"{place}: not TOML: {reason}{_advice(reason, lines[line - 1], column)}"


def _advice(reason: str, line: str, column: int) -> str:
    """What most likely went wrong where TOML cannot be read; empty if that is unclear."""
    key, rest = line.partition("=")[0].strip(), line[column - 1 :].strip()
    if reason == "Cannot overwrite a value":
        return f": {quoted(key)} stands twice in its table; leave one out"
    if twice := re.fullmatch(r"Cannot declare \((.*?),?\) twice", reason):
        table = ".".join(re.findall(r"'(.*?)'", twice[1]))
        several = f", or write [[{table}]] for each" if table in ("strategy", "classifier") else ""
        return f": put all its keys under one [{table}]{several}"
    if re.match(r"['\"]?[\u2018-\u201f]", rest):
        return ': quotes must be plain, as in "bars.parquet"'
    if flag := re.match(r"(True|False|TRUE|FALSE|yes|no|on|off)\b", rest):
        return f": write {'true' if flag[1].lower() in ('true', 'yes', 'on') else 'false'}"
    if reason.startswith("Unescaped '\\'"):
        return ": write paths with / or \\\\"
    if line.lstrip().startswith("{"):
        return "; a study file is TOML, and what `barsweep export` wrote is for `barsweep replay`"
    if "'=' after a key" in reason:
        return f": write {key.split(':')[0].strip() or 'key'} = value"
    return (
        ": texts need quotes, numbers a decimal point and no leading zero, lists [] and tables {}"
    )
