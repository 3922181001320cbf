"""The files of a new project."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from optimizer.errors import StudyError

FILES = ("study.toml", "my_strategy.py", "test_my_strategy.py", "README.md", "bars.parquet")


def write_project(folder: str | Path) -> list[Path]:
    """Write a study, a strategy, its test and bars, which run as they are from any folder.

    Args:
        folder: the folder to write to; new or empty.

    Returns:
        The files written.

    Raises:
        StudyError: the folder is not empty, or cannot be written.
    """
    path = Path(folder)
    try:
        if path.is_file():
            raise StudyError(f"{path}: is a file; give a new folder")
        if path.exists() and any(path.iterdir()):
            raise StudyError(f"{path}: already holds files; give a new folder")
        path.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            content = resources.files("optimizer").joinpath("project", name).read_bytes()
            (path / name).write_bytes(content)
    except OSError as error:
        raise StudyError(f"{path}: cannot be written: {error.strerror or error}") from None
    return [path / name for name in FILES]
