"""The files of a new project."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path

from optimizer.errors import StudyError
from optimizer.text import quoted, suggest

FILES = ("study.toml", "my_strategy.py", "test_my_strategy.py", "README.md", "bars.parquet")
"""What a project without a template holds."""


def templates() -> list[str]:
    """The names of the gallery's studies, sorted."""
    gallery = resources.files("optimizer").joinpath("project", "gallery")
    return sorted(one.name[:-5] for one in gallery.iterdir() if one.name.endswith(".toml"))


def write_project(folder: str | Path, template: str | None = None) -> list[Path]:
    """Write a study, its strategy and bars, which run as they are from any folder.

    Args:
        folder: the folder to write to; new or empty.
        template: the study of the gallery to write, one of ``templates``; None for a strategy to
            change, with a test.

    Returns:
        The files written.

    Raises:
        StudyError: there is no such template; the folder is not empty, or cannot be written.
    """
    path = Path(folder)
    contents = _project() if template is None else _of_gallery(template)
    try:
        if path.is_file():
            raise StudyError(f"{path}: is a file; give a new folder")
        if path.exists() and any(path.iterdir()):
            raise StudyError(f"{path}: already holds files; give a new folder")
        path.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (path / name).write_bytes(content)
    except OSError as error:
        raise StudyError(f"{path}: cannot be written: {error.strerror or error}") from None
    return [path / name for name in contents]


def _project() -> dict[str, bytes]:
    folder = resources.files("optimizer").joinpath("project")
    return {name: folder.joinpath(name).read_bytes() for name in FILES}


def _of_gallery(template: str) -> dict[str, bytes]:
    """The study as ``study.toml``, and the files that it names."""
    known = templates()
    if template not in known:
        raise StudyError(f"--template = {quoted(template)}: unknown; {suggest(template, known)}")
    gallery = resources.files("optimizer").joinpath("project", "gallery")
    study = gallery.joinpath(f"{template}.toml").read_bytes()
    tables = tomllib.loads(study.decode())
    named = [table["path"] for table in (tables["strategy"], tables["data"]) if "path" in table]
    return {"study.toml": study, **{name: gallery.joinpath(name).read_bytes() for name in named}}
