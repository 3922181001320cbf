"""Write parameter sets to a file of their own, and read it."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pandas as pd
import tomli_w
from pydantic import Field, ValidationError

from optimizer.bars.per_year import MOST_PER_YEAR
from optimizer.catalogue import METRICS
from optimizer.errors import ExportError
from optimizer.files import write_atomically
from optimizer.store.columns import OUT_OF_SAMPLE, parameter_columns
from optimizer.store.folder import StudyFolder
from optimizer.store.guards import check_output
from optimizer.store.names import SCHEMA_VERSION
from optimizer.store.query import best_sets, no_best
from optimizer.store.seal import with_open_holdout
from optimizer.store.validated import (
    Count,
    Digest,
    Name,
    Number,
    PathText,
    Record,
    parse_json,
    problem_of,
    read_text,
)
from optimizer.study_file.account import with_rate_paths
from optimizer.study_file.components import RISK_OPTIONS
from optimizer.study_file.study import recorded_study
from optimizer.study_file.tables import with_side_paths

Format = Literal["json", "toml", "csv", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
KIND = "barsweep parameter sets"


def export_sets(
    folder: str | os.PathLike[str],
    *,
    top: int = 1,
    numbers: Sequence[int] = (),
    format: Format = "json",
    out: str | Path | None = None,
) -> Path:
    """Write parameter sets of a study to a file: the best ones, or those that are named.

    JSON and TOML carry all that `replay` needs. CSV and Parquet are tables for other tools. While the
    holdout is sealed, out-of-sample metrics are those of the winner of a complete study alone.

    >>> import optimizer
    >>> file = optimizer.export_sets("out", top=2, out="two.json")
    >>> optimizer.replay(file, number=2).differences
    ()

    Args:
        folder: the folder of the study.
        top: number of sets, best first.
        numbers: the numbers of the sets to write in place of the best ones, in this order.
        format: the format of the file.
        out: path of the file; None takes ``best.<format>`` in the folder.

    Returns:
        The file written.

    Raises:
        StudyError: there is no study in the folder, or it has no results or no such set, or the file
            must not be replaced or has no folder.
        ExportError: no set is feasible, or the file cannot be written.
    """
    if top < 1:
        raise ExportError(f"--top must be 1 or more, got {top}")
    study_folder = StudyFolder.open(Path(folder))
    frame = _rows(study_folder, top, numbers)
    name = "-".join(("set", *map(str, numbers))) if numbers else "best"
    path = Path(out) if out is not None else study_folder.path / f"{name}.{format}"
    return export_rows(study_folder, frame, format, path)


def export_content(folder: Path, number: int | None) -> dict[str, Any]:
    """What an export of one set of a study holds, without writing it.

    Args:
        folder: the folder of the study, from which the paths count.
        number: the number of the set; None takes the best.

    Raises:
        StudyError: there is no study in the folder, it has no results, or no set of that number.
        ExportError: no set is feasible.
    """
    opened = StudyFolder.open(folder)
    frame = _rows(opened, 1, () if number is None else (number,))
    return content_of(opened, frame, folder / "best.json")


def content_of(folder: StudyFolder, frame: pd.DataFrame, path: Path) -> dict[str, Any]:
    """What an export of parameter sets holds, without writing it.

    Args:
        folder: the folder of the study.
        frame: whole rows of results.
        path: the path of the file, from whose folder the paths in it count.
    """
    return checked_export(_document(folder.manifest(), frame, path), path)


def _rows(folder: StudyFolder, top: int, numbers: Sequence[int]) -> pd.DataFrame:
    """The best sets, or those that are named, with what may be shown of their holdout."""
    if numbers:
        return with_open_holdout(folder, folder.sets(numbers))
    search = recorded_study(folder.manifest()["study"]).search
    frame = best_sets(folder, search, top)
    if frame.empty:
        raise ExportError(
            f"{folder.path}: nothing to export: {no_best(folder, search)}; relax [search]"
            " constraints, or try other values"
        )
    return with_open_holdout(folder, frame)


def export_rows(folder: StudyFolder, frame: pd.DataFrame, format: Format, path: Path) -> Path:
    """Write parameter sets of a study to a file.

    Args:
        folder: the folder of the study.
        frame: whole rows of results.
        format: the format of the file.
        path: the path of the file.

    Returns:
        The file written.

    Raises:
        StudyError: the file must not be replaced or has no folder.
        ExportError: the file cannot be written.
    """
    check_output(path, (f".{format}",), f"an export in the format {format}")
    try:
        if format == "csv":
            write_atomically(path, lambda part: frame.to_csv(part, index=False))
        elif format == "parquet":
            write_atomically(path, lambda part: frame.to_parquet(part, index=False))
        else:
            text = export_text(folder, frame, format, path)
            write_atomically(path, lambda part: part.write_text(text))
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path


def export_text(
    folder: StudyFolder, frame: pd.DataFrame, format: Literal["json", "toml"], path: Path
) -> str:
    """What an export of parameter sets holds that can be replayed, the same each time.

    Args:
        folder: the folder of the study.
        frame: whole rows of results.
        format: the format of the file.
        path: the path of the file, from whose folder the paths in it count.
    """
    content = _document(folder.manifest(), frame, path)
    if format == "json":
        return json.dumps(content, indent=1, allow_nan=False) + "\n"
    return tomli_w.dumps(without_none(content)) + "\n"


def _document(manifest: Mapping[str, Any], frame: pd.DataFrame, path: Path) -> dict[str, Any]:
    study = manifest["study"]
    folder = path.resolve().parent

    def moved(name: str) -> str:
        return os.path.relpath(Path(manifest["study_folder"]) / name, folder)

    def own(what: str) -> dict[str, dict[str, str]]:
        return {
            one["name"]: {
                "path": os.path.relpath(one["path"], folder),
                "hash": one["source_hash"],
            }
            for one in study[what]
            if "path" in one
        }

    terms = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "study": {
            "name": study["study"]["name"],
            "hash": manifest["study_hash"],
            "seed": study["study"]["seed"],
        },
        "data": {
            **with_side_paths(study["data"], moved),
            "path": os.path.relpath(manifest["data_path"], folder),
            "hash": manifest["data_hash"],
            "files_hash": manifest["files_hash"],
            "n_bars": manifest["n_bars"],
            "symbols": manifest["symbols"],
        },
        "costs": study["costs"],
        "account": with_rate_paths(study["account"], moved),
        "instruments": study["instruments"],
        **{key: study["risk"][key] for key in RISK_OPTIONS},
        "returns": study["search"]["returns"],
        "strategies": own("strategy"),
        **({"classifiers": classifiers} if (classifiers := own("classifier")) else {}),
        "holdout": study["validation"]["holdout"],
        "first_bar": manifest["first_bar"],
        "benchmark": study["validation"]["benchmark"],
        "versions": manifest["versions"],
    }
    # With its terms a set stands alone: whoever takes it out of the file can simulate it.
    sets = [{**set_document(row, study), "terms": terms} for row in frame.to_dict("records")]
    return {**terms, "sets": sets}


def set_document(row: Mapping[Any, Any], study: Mapping[str, Any]) -> dict[str, Any]:
    """One parameter set as an export holds it.

    Args:
        row: a row of the study's results, with its out-of-sample metrics where they may be shown.
        study: the study as ``Study.to_dict`` gives it.

    Returns:
        Plain values, None where undefined. ``out_of_sample`` is None without a holdout, and where it
        is sealed.
    """
    markets = {one["name"]: one.get("market") for one in study["classifier"]}
    parameters = {name: plain_values(row[name]) for name in parameter_columns(row)}
    out_of_sample = {
        n: plain_values(row.get(o)) for n, o in zip(METRICS, OUT_OF_SAMPLE, strict=True)
    }
    return {
        "set": int(row["set"]),
        "trial": int(row["trial"]),
        "strategy": row["strategy"],
        "classifier": row["classifier"],
        "market": markets.get(row["classifier"]),
        "parameters": {name: value for name, value in parameters.items() if value is not None},
        "in_sample": {name: plain_values(row[name]) for name in METRICS},
        "out_of_sample": out_of_sample if out_of_sample["final_equity"] is not None else None,
    }


def plain_values(value: Any) -> Any:
    """A value of a table in plain Python types; NaN becomes None, a whole number an int.

    Args:
        value: a scalar of pandas or NumPy.
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if value is None or pd.isna(value):
        return None
    number = float(value)
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


def without_none(value: Any) -> Any:
    """The same value without its None entries: TOML has no null.

    Args:
        value: mappings, lists and plain values.
    """
    if isinstance(value, Mapping):
        return {k: without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_none(v) for v in value]
    return value


def load_export(path: str | Path) -> dict[str, Any]:
    """Read an export.

    Args:
        path: the path of a JSON or TOML file.

    Returns:
        Its content, see ``set_document`` for its sets.

    Raises:
        ExportError: it cannot be read, or is not an export; names the file and the key.
    """
    file = Path(path)
    return checked_export(read_content(file), file)


def read_content(file: Path) -> Any:
    """What a file holds that may be an export.

    Args:
        file: a JSON or TOML file.

    Raises:
        ExportError: it cannot be read.
    """
    suffix = file.suffix.lower()
    if file.is_dir():
        raise ExportError(f"{file}: a folder; expected a file that `barsweep export` wrote")
    if not file.exists():
        raise ExportError(
            f"{file}: no such file; give an export, which `barsweep export` writes, or the folder of a"
            " study"
        )
    if suffix not in (".json", ".toml"):
        raise ExportError(
            f"{file}: exports are .json and .toml files; got {file.suffix or 'no suffix'}"
        )
    try:
        text = read_text(file)
        return parse_json(text) if suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise ExportError(f"{file}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExportError(
            f"{file}: cannot be read as {suffix[1:].upper()}: {reason}; put the file back as it was, or"
            " export the study again"
        ) from None


def checked_export(content: Any, file: Path) -> dict[str, Any]:
    """Check the content of an export.

    Args:
        content: whatever was read.
        file: the file, or what stands for it in messages.

    Returns:
        The content.

    Raises:
        ExportError: it is not an export; names the file and the key.
    """
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise ExportError(f'{file}: not an export of barsweep: expected kind = "{KIND}"')
    if content.get("schema_version") != SCHEMA_VERSION:
        raise ExportError(
            f"{file}: schema_version: got {content.get('schema_version')!r}; this barsweep reads"
            f" {SCHEMA_VERSION}: export the study again"
        )
    try:
        _Export.model_validate(content)
    except ValidationError as error:
        raise ExportError(f"{file}: {problem_of(error)}; export the study again") from None
    return content


_Metrics = dict[Name, Number | bool | None]


class _Set(Record):
    """A set as ``set_document`` gives it; TOML leaves out what is None."""

    set: Count
    trial: Count = 0
    strategy: Name
    classifier: Name
    market: Name | None = None
    parameters: Annotated[dict[Name, Number], Field(max_length=1000)]
    in_sample: _Metrics
    out_of_sample: _Metrics | None = None


class _OfStudy(Record):
    name: Name


class _OfData(Record):
    path: PathText
    hash: Digest
    files_hash: Digest
    n_bars: Count | None = None
    symbols: Annotated[list[Name], Field(min_length=1, max_length=100_000)]
    align: Name
    members: PathText | None = None
    fills: PathText | None = None
    slower: PathText | None = None
    timezone: Name
    exchange: Name | None = None
    start: Name | None = None
    end: Name | None = None
    bars_per_year: Annotated[float, Field(gt=0.0, le=MOST_PER_YEAR)] | None = None
    bar: Name | None = None
    funding: Name | None = None
    dividends: Name | None = None


class _OwnFile(Record):
    path: PathText
    hash: Digest


class _Export(Record):
    """What an export must say for a replay; its tables of a study are checked as a study's are."""

    sets: Annotated[list[_Set], Field(max_length=1_000_000)]
    study: _OfStudy
    data: _OfData
    costs: dict[Name, Any]
    account: dict[Name, Any]
    instruments: dict[Name, Any]
    allow_short: bool
    sizing: Name
    allocation: Name
    entry: Name
    session_exit: bool
    returns: Name
    holdout: Annotated[float, Field(ge=0.0, lt=1.0)]
    first_bar: Count
    benchmark: Name
    strategies: dict[Name, _OwnFile] = Field(default_factory=dict)
    classifiers: dict[Name, _OwnFile] = Field(default_factory=dict)
