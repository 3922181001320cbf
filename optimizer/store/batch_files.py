"""The files of a batch, whole or not at all: its rows, its return moments, and its sealed holdout."""

from __future__ import annotations

import hashlib
import io
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from optimizer.catalogue import METRICS
from optimizer.store.columns import COUNTS, FLAGS, KEPT, NAMES, OUT_OF_SAMPLE
from optimizer.store.names import HOLDOUT, MOMENTS
from optimizer.sweep.max_test import STEPS
from optimizer.types import Float32Array, FloatArray

TRIALS_KEY = b"barsweep.trials"

MOMENTS_KEY = b"barsweep.moments"
"""In a batch's metadata: SHA-256 of the file of its return moments."""

HOLDOUT_KEY = b"barsweep.holdout"
"""In a batch's metadata: SHA-256 of the file of its out-of-sample metrics."""

MAXIMA_KEY = b"barsweep.maxima"
"""In a batch's metadata: the largest draws of the max-test over its sets, float32, in hexadecimal."""

CHECKSUM_KEY = b"barsweep.sha256"
"""In a batch's file metadata: SHA-256 of the file itself, taken with zeros in this place."""

MOST_METADATA = 200_000_000
"""Bytes of a batch's metadata, which hold its trials; longer ones are refused before they are read."""

_NO_DIGEST = b"0" * 64

_TAIL = 8  # at the end of a Parquet file: the length of its metadata, and "PAR1"

_PART = 1 << 20


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


def holdout_path(batch: Path) -> Path:
    """The file of out-of-sample metrics that belongs to a batch.

    Args:
        batch: its result file.
    """
    # Apart from the results, so that whoever reads those does not see the holdout.
    return batch.parent.parent / HOLDOUT / batch.name


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
    # A dictionary of a metric has as many entries as the metric has values: half the time for nothing.
    names = [one.name for one in table.schema if pa.types.is_dictionary(one.type)]
    with pq.ParquetWriter(
        stream,
        table.schema,
        compression="zstd",
        use_dictionary=names,
        write_page_checksum=True,
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({CHECKSUM_KEY: _NO_DIGEST})
    content = bytearray(stream.getvalue())
    place = content.rindex(_NO_DIGEST, content.rindex(CHECKSUM_KEY))
    content[place : place + len(_NO_DIGEST)] = digest(content)
    return content


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


def is_whole(path: Path) -> bool:
    """Whether a batch's Parquet file still has the content that its checksum was taken of.

    Args:
        path: the path of the file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no Parquet file, or its metadata are longer than any that is written.
    """
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


def read_maxima(metadata: Mapping[bytes, bytes] | None) -> Float32Array:
    """The largest draws of the max-test over the sets of a batch.

    Args:
        metadata: the metadata of its result file.

    Returns:
        Those of ``no_draws``.

    Raises:
        KeyError: it has none.
        ValueError: they are no numbers, or not as many as there should be.
    """
    packed = bytes.fromhex((metadata or {})[MAXIMA_KEY].decode())
    try:
        draws = np.frombuffer(zlib.decompress(packed), "<f4")
    except zlib.error:
        raise ValueError("its largest draws cannot be read") from None
    if np.isnan(draws).any():
        raise ValueError("its largest draws are no numbers")
    return draws.astype(np.float32).reshape(len(STEPS) + 1, -1)


def packed_maxima(maxima: Float32Array) -> bytes:
    """The largest draws as ``read_maxima`` reads them; steps without sets take no room.

    Args:
        maxima: those of ``no_draws``.
    """
    return zlib.compress(maxima.astype("<f4").tobytes()).hex().encode()


def result_table(
    tiles: Sequence[Mapping[str, Any]], parameter_names: Sequence[str], *, top: bool = False
) -> pa.Table:
    """The results of a batch, with the schema that all batches of the study share.

    Args:
        tiles: the columns of each tile: ``SET_COLUMNS``, its parameters and ``METRICS``, each
            (n_lanes,); strategy and classifier as one name. A parameter that a tile lacks is null in
            its rows, and so is NaN.
        parameter_names: parameters of the study, in order.
        top: whether there is a column ``KEPT``.
    """
    counts = [len(tile["set"]) for tile in tiles]

    def joined(name: str) -> Any:
        return _joined(tiles, name)

    arrays: dict[str, pa.Array] = {
        "set": pa.array(joined("set"), pa.int64()),
        "trial": pa.array(joined("trial"), pa.int32()),
    }
    for name in NAMES:
        arrays[name] = _repeated([tile[name] for tile in tiles], counts)
    for name in parameter_names:
        arrays[name] = pa.array(joined(name), pa.float64(), from_pandas=True)
    arrays["feasible"] = pa.array(joined("feasible").astype(np.bool_), pa.bool_())
    if top:
        arrays[KEPT] = pa.array(joined(KEPT).astype(np.bool_), pa.bool_())
    for name in ("score", "alpha", "alpha_t"):
        arrays[name] = pa.array(joined(name), pa.float64(), from_pandas=True)
    return pa.table({**arrays, **_metrics(tiles, METRICS)})


def holdout_table(tiles: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The out-of-sample metrics of a batch: ``set`` and ``OUT_OF_SAMPLE``.

    Args:
        tiles: the columns of each tile, ``set`` and ``OUT_OF_SAMPLE`` among them, each (n_lanes,).
    """
    numbers = pa.array(_joined(tiles, "set"), pa.int64())
    return pa.table({"set": numbers, **_metrics(tiles, OUT_OF_SAMPLE)})


def _joined(tiles: Sequence[Mapping[str, Any]], name: str) -> Any:
    """A column over all tiles; NaN for a tile that lacks it."""
    parts = [tile[name] if name in tile else np.full(len(tile["set"]), np.nan) for tile in tiles]
    return np.concatenate(parts) if parts else np.empty(0)


def _metrics(tiles: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, pa.Array]:
    """Columns of metrics; null is undefined."""
    arrays = {}
    for name in names:
        values = _joined(tiles, name)
        if name in COUNTS:
            missing = np.isnan(values)
            whole = np.where(missing, 0, values).astype(np.int64)
            arrays[name] = pa.array(whole, pa.int64(), mask=missing)
        elif name in FLAGS:
            arrays[name] = pa.array(values > 0, pa.bool_(), mask=np.isnan(values))
        else:
            arrays[name] = pa.array(values, pa.float64(), from_pandas=True)
    return arrays


def _repeated(names: Sequence[str], counts: Sequence[int]) -> pa.DictionaryArray:
    """Each name once per row of its tile."""
    distinct = list(dict.fromkeys(names))
    places = np.repeat([distinct.index(name) for name in names], counts).astype(np.int32)
    return pa.DictionaryArray.from_arrays(
        pa.array(places, pa.int32()), pa.array(distinct, pa.string())
    )
