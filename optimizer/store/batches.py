"""One batch of results: its Parquet file, its moments, its checksums."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, TypeAdapter, ValidationError, field_validator

from optimizer.catalogue import METRICS, SET_COLUMNS
from optimizer.errors import StudyError
from optimizer.store.columns import COUNTS, FLAGS, NAMES, OUT_OF_SAMPLE
from optimizer.store.names import MOMENTS
from optimizer.store.validated import Count, Name, Number, Record, parse_json, problem_of
from optimizer.text import name_problem, show
from optimizer.types import FloatArray

TRIALS_KEY = b"barsweep.trials"
MOMENTS_KEY = b"barsweep.moments"
"""In a batch's metadata: SHA-256 of the file of its return moments."""
CHECKSUM_KEY = b"barsweep.sha256"
"""In a batch's file metadata: SHA-256 of the file itself, taken with zeros in this place."""

MOST_METADATA = 200_000_000
"""Bytes of a batch's metadata, which hold its trials; longer ones are refused before they are read."""

_FEW_ROWS = 100_000
"""So many rows take no memory that matters."""

_NO_DIGEST = b"0" * 64
_TAIL = 8  # at the end of a Parquet file: the length of its metadata, and "PAR1"
_PART = 1 << 20

CONSTRAINT = "constraints:"
"""Prefix of Optuna's system attributes that hold by how much a constraint is broken."""


@dataclass(frozen=True)
class FinishedBatch:
    """What is recorded of a batch.

    Attributes:
        path: its file.
        trials: the trials as ``StudyFolder.write_batch`` took them.
    """

    path: Path
    trials: Sequence[Mapping[str, Any]]


def point_key(params: Mapping[str, Any]) -> str:
    """A point of the searched space as a text: equal points give equal texts.

    Args:
        params: value of each searched parameter by name.
    """
    return json.dumps(dict(params), sort_keys=True)


def distinct_points(trials: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Parameter sets evaluated at each distinct point of the searched space.

    Args:
        trials: the trials as ``StudyFolder.write_batch`` takes them.

    Returns:
        Number of sets by ``point_key``.
    """
    return {point_key(one["params"]): int(one["user_attrs"]["n_sets"]) for one in trials}


def read_batch(path: Path, names: Mapping[str, Collection[str]] | None = None) -> FinishedBatch:
    """Read a batch and compare its checksums.

    Args:
        path: the path of its result file.
        names: the names as ``check_names`` takes them; None checks none.

    Returns:
        The path of the batch, and its trials.

    Raises:
        ValueError: it is damaged; says how.
    """
    try:
        if not _is_whole(path):
            raise ValueError("its checksum is not that of its content")
        metadata = read_metadata(path)
        if not {TRIALS_KEY, MOMENTS_KEY} <= (metadata.metadata or {}).keys():
            raise ValueError("not a batch of this study")
        check_schema(metadata.schema.to_arrow_schema())
        trials = read_trials(metadata.metadata[TRIALS_KEY])
        _check_rows(metadata)
        if names is not None:
            check_names(pq.read_table(path, columns=list(NAMES)), names)
        if not moments_path(path).is_file():
            raise ValueError(f"{moments_path(path)} is missing")
        with moments_path(path).open("rb") as file:  # piecewise: it may be of any size
            found = hashlib.file_digest(file, "sha256").hexdigest().encode()
        if found != metadata.metadata[MOMENTS_KEY]:
            raise ValueError(f"{moments_path(path)} is not what was written")
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ValueError(f"damaged ({' '.join(str(error).split())})") from None
    return FinishedBatch(path, trials)


def read_metadata(path: Path) -> pq.FileMetaData:
    """The metadata of a result file, unless it is longer than any that is written.

    Args:
        path: the path of the file.

    Raises:
        OSError, ValueError, pa.ArrowException: it cannot be read, or is no Parquet file.
    """
    _footer(path)
    return pq.read_metadata(path)


def _footer(path: Path) -> tuple[int, bytes]:
    """Where the metadata of a Parquet file begin, and all from there to the end of the file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no Parquet file, or its metadata are longer than any that is written.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _TAIL, 0))
        tail = file.read()
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != b"PAR1" or length > size - _TAIL:
            raise ValueError("it is no Parquet file, or its end is missing")
        if length > MOST_METADATA:
            raise ValueError(f"its metadata have {length / 1e6:,.0f} MB, more than any batch has")
        start = size - _TAIL - length
        file.seek(start)
        return start, file.read()


def _check_rows(metadata: pq.FileMetaData) -> None:
    """Refuse more rows than the trials of a batch have sets: a small file can claim any number.

    Raises:
        ValueError: it has more, or has too many and does not say of how many sets they are.
    """
    groups = sum(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    rows = max(metadata.num_rows, groups)
    if rows <= _FEW_ROWS:
        return
    trials = read_trials((metadata.metadata or {}).get(TRIALS_KEY, b"[]"))
    n_sets = sum(one["user_attrs"]["n_sets"] for one in trials)
    if rows > n_sets:
        raise ValueError(f"it has {rows:,} rows; its trials have {n_sets:,} parameter sets")


def check_names(table: pa.Table, known: Mapping[str, Collection[str]]) -> None:
    """Refuse strategies and classifiers that the study does not have.

    Args:
        table: rows of a result file.
        known: the names that the study has, for each column of names.

    Raises:
        ValueError: a row has another name.
    """
    for column in known:
        if column not in table.column_names:
            continue
        for chunk in table[column].chunks:
            for name in chunk.dictionary.to_pylist():
                if name not in known[column]:
                    raise ValueError(
                        f"it has a {column} {show(name)}, which the study does not have"
                    )


class OfTrial(Record):
    """See ``search.outcome.Outcome``."""

    n_sets: Count
    reason: Annotated[str, Field(max_length=100_000)] = ""
    winner: dict[Name, Number] = Field(default_factory=dict)
    in_sample: dict[Name, Number | None] = Field(default_factory=dict)
    out_of_sample: dict[Name, Number | None] = Field(default_factory=dict)


class Trial(Record):
    """What of a trial's record is read again; ``search.outcome.trial_record`` writes it."""

    number: Annotated[int, Field(ge=0, lt=2**31)]
    values: list[Number] | None
    params: dict[Name, Number | bool | str | None]
    user_attrs: OfTrial
    system_attrs: dict[str, Any]

    @field_validator("system_attrs")
    @classmethod
    def _violations(cls, value: dict[str, Any]) -> dict[str, Any]:
        """By how much a constraint is broken is compared with 0; what else Optuna notes is not read."""
        for name, excess in value.items():
            number = isinstance(excess, (int, float)) and not isinstance(excess, bool)
            if name.startswith(CONSTRAINT) and not number:
                raise ValueError(f"{show(name)} is {show(excess)}; a number is expected")
        return value


_TRIALS: TypeAdapter[list[Trial]] = TypeAdapter(list[Trial])


def read_trials(text: bytes) -> list[dict[str, Any]]:
    """The trials that a batch's file holds.

    Args:
        text: JSON of its metadata.

    Raises:
        ValueError: these are no trials; names the key.
    """
    trials: list[dict[str, Any]] = parse_json(text)
    try:
        _TRIALS.validate_python(trials, strict=True)
    except ValidationError as error:
        raise ValueError(f"its trials: {problem_of(error)}") from None
    return trials


def check_schema(schema: pa.Schema) -> None:
    """Refuse columns that no batch has.

    Args:
        schema: the schema of a result file.

    Raises:
        ValueError: a column is missing, of the wrong type, or has no name.
    """
    kinds = {"set": pa.types.is_integer, "trial": pa.types.is_integer}
    kinds |= dict.fromkeys(("feasible", *FLAGS), pa.types.is_boolean)
    kinds |= dict.fromkeys(COUNTS, pa.types.is_integer)
    kinds |= dict.fromkeys(NAMES, _is_text)
    for name in (*SET_COLUMNS, *METRICS, *OUT_OF_SAMPLE):
        if schema.names.count(name) != 1:
            raise ValueError(f"not one column {name}")
    for field in schema:
        if not kinds.get(field.name, pa.types.is_floating)(field.type):
            raise ValueError(f"column {show(field.name)} has type {field.type}")
        if problem := name_problem(field.name):
            raise ValueError(f"column {show(field.name)} {problem}")
        if not field.name.isidentifier():
            raise ValueError(f"column {show(field.name)} has no name of a parameter")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type))


def read_schema(path: Path) -> pa.Schema:
    """The columns of a result file.

    Args:
        path: the path of the file.

    Raises:
        OSError, ValueError, pa.ArrowException: it cannot be read, or is no result file.
    """
    schema = read_metadata(path).schema.to_arrow_schema()
    check_schema(schema)
    return schema


def read_results(path: Path, **options: Any) -> pa.Table:
    """The rows of a result file, after its columns and their number were checked.

    Args:
        path: the path of the file.
        options: the options of ``pyarrow.parquet.read_table``.

    Raises:
        OSError, ValueError, pa.ArrowException: it cannot be read, or is no result file.
    """
    schema = read_schema(path)
    missing = [name for name in options.get("columns") or () if name not in schema.names]
    if missing:
        raise ValueError(f"no column {show(missing[0])}")
    _check_rows(read_metadata(path))
    return pq.read_table(path, **options)


def read_moments(batch: Path) -> FloatArray:
    """The return moments of a batch, mapped.

    Args:
        batch: its result file.

    Returns:
        Sums and sums of squares of returns per set and block, shape (n_sets, 2, n_blocks).

    Raises:
        OSError, ValueError: the file cannot be read, or holds something else.
    """
    path = moments_path(batch)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file")
    sums: FloatArray = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(sums, np.ndarray) or sums.dtype != np.float64 or sums.ndim != 3:
        raise ValueError(f"{path} holds no return moments")
    return sums


def digest(content: bytes | bytearray) -> bytes:
    """The SHA-256 of a file's content.

    Args:
        content: bytes of the file.

    Returns:
        64 hexadecimal digits in ASCII.
    """
    return hashlib.sha256(content).hexdigest().encode()


def moments_path(batch: Path) -> Path:
    """The file of return moments that belongs to a batch.

    Args:
        batch: its result file.
    """
    # In another folder, since other programs read the one of results as a whole.
    return batch.parent.parent / MOMENTS / f"{batch.stem}.npy"


def array_file(values: FloatArray) -> bytes:
    """An array as the content of a ``.npy`` file.

    Args:
        values: array of any shape.
    """
    # Through memory: where the disk is full, numpy's own writing does not say so.
    content = io.BytesIO()
    np.save(content, values, allow_pickle=False)
    return content.getvalue()


def parquet_file(table: pa.Table) -> bytearray:
    """The content of a Parquet file that carries a checksum of itself.

    Parquet has checksums of its pages, but none of its footer.

    Args:
        table: rows to write.
    """
    stream = io.BytesIO()
    with pq.ParquetWriter(
        stream, table.schema, compression="zstd", write_page_checksum=True
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({CHECKSUM_KEY: _NO_DIGEST})
    content = bytearray(stream.getvalue())
    place = content.rindex(_NO_DIGEST, content.rindex(CHECKSUM_KEY))
    content[place : place + len(_NO_DIGEST)] = digest(content)
    return content


def _is_whole(path: Path) -> bool:
    """Whether a batch's Parquet file still has the content that its checksum was taken of."""
    start, footer = _footer(path)
    found = re.compile(rb"[0-9a-f]{64}").search(footer, max(footer.rfind(CHECKSUM_KEY), 0))
    if CHECKSUM_KEY not in footer or found is None:
        return False
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while start > 0 and (part := file.read(min(start, _PART))):
            whole.update(part)
            start -= len(part)
    whole.update(footer[: found.start()] + _NO_DIGEST + footer[found.end() :])
    return whole.hexdigest().encode() == found[0]


def read_parquet(read: Callable[[], Any], path: Path) -> Any:
    """Call a reader of a batch's file.

    Args:
        read: the reader.
        path: the path of the file.

    Returns:
        What ``read`` returned.

    Raises:
        StudyError: the file cannot be read; names it.
    """
    try:
        return read()
    except (OSError, ValueError, EOFError, pa.ArrowException) as error:
        raise StudyError(
            f"{path}: cannot be read: {error}; `barsweep resume {path.parent.parent}` computes it again"
        ) from None


def result_table(tiles: Sequence[Mapping[str, Any]], parameter_names: Sequence[str]) -> pa.Table:
    """The results of a batch, with the schema that all batches of the study share.

    Args:
        tiles: the columns of each tile: ``SET_COLUMNS``, its parameters, ``METRICS`` and
            ``OUT_OF_SAMPLE``, each (n_lanes,); strategy and classifier as one name. A parameter that
            a tile lacks is null in its rows, and so is NaN.
        parameter_names: parameters of the study, in order.
    """
    counts = [len(tile["set"]) for tile in tiles]

    def joined(name: str) -> Any:
        if not tiles:
            return np.empty(0)
        parts = (
            tile[name] if name in tile else np.full(count, np.nan)
            for tile, count in zip(tiles, counts, strict=True)
        )
        return np.concatenate(list(parts))

    arrays: dict[str, pa.Array] = {
        "set": pa.array(joined("set"), pa.int64()),
        "trial": pa.array(joined("trial"), pa.int32()),
    }
    for name in NAMES:
        arrays[name] = _repeated([tile[name] for tile in tiles], counts)
    for name in parameter_names:
        arrays[name] = pa.array(joined(name), pa.float64(), from_pandas=True)
    arrays["feasible"] = pa.array(joined("feasible").astype(np.bool_), pa.bool_())
    arrays["score"] = pa.array(joined("score"), pa.float64(), from_pandas=True)
    for name in (*METRICS, *OUT_OF_SAMPLE):
        values = joined(name)
        if name in COUNTS:
            missing = np.isnan(values)
            whole = np.where(missing, 0, values).astype(np.int64)
            arrays[name] = pa.array(whole, pa.int64(), mask=missing)
        elif name in FLAGS:
            arrays[name] = pa.array(values > 0, pa.bool_(), mask=np.isnan(values))
        else:
            arrays[name] = pa.array(values, pa.float64(), from_pandas=True)
    return pa.table(arrays)


def _repeated(names: Sequence[str], counts: Sequence[int]) -> pa.DictionaryArray:
    """Each name once per row of its tile."""
    distinct = list(dict.fromkeys(names))
    places = np.repeat([distinct.index(name) for name in names], counts).astype(np.int32)
    return pa.DictionaryArray.from_arrays(
        pa.array(places, pa.int32()), pa.array(distinct, pa.string())
    )
