"""The folder of a study: its manifest, files of results for each batch of trials, Optuna's journal.

A batch has a Parquet file of parameter sets and an array of their return moments. It is durable
once its Parquet file has its final name: that holds, in its metadata, its trials too. Optuna's journal
is a copy for Optuna's tools.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import platform
import re
import secrets
import shutil
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from optimizer.catalogue import METRICS
from optimizer.errors import StudyError
from optimizer.types import BoolArray, FloatArray

MANIFEST = "study.json"
RESULTS = "results"
MOMENTS = "moments"
SELECTION = "selection.json"
WALK_FORWARD = "walk_forward.parquet"
"""Stitched equity of a walk-forward."""

JOURNAL = "optuna.journal"
SCRATCH = "shared"
SCHEMA_VERSION = 1
TRIALS_KEY = b"barsweep.trials"
MOMENTS_KEY = b"barsweep.moments"
"""In a batch's metadata: SHA-256 of the file of its return moments."""
CHECKSUM_KEY = b"barsweep.sha256"
"""In a batch's file metadata: SHA-256 of the file itself, taken with zeros in this place."""

_NO_DIGEST = b"0" * 64

MISSING = "missing"

OUT_OF_SAMPLE = tuple(f"oos_{name}" for name in METRICS)
COUNTS = ("n_trades", "oos_n_trades")


KIND = "barsweep study"
"""Says in a manifest whose file it is."""


_MANIFEST_KEYS = (
    "schema_version", "study", "study_source", "study_folder", "study_hash", "data_path", "data_hash",
    "symbols", "n_bars", "first_bar", "holdout_bar", "span", "first_time", "holdout_time",
    "bars_per_year", "versions", "kernels", "complete",
)  # fmt: skip
"""What every manifest says."""


OWN_FILES = (MANIFEST, JOURNAL, SELECTION, WALK_FORWARD)
"""Files of a study beside its batches."""


def write_atomically(path: Path, write: Any) -> None:
    """Call ``write`` with a temporary file's path and give that its final name once it is on disk."""
    temporary = _part(path)
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


def software_versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    packages = (
        "barsweep",
        "numba",
        "numpy",
        "optuna",
        "cmaes",
        "scikit-learn",
        "hmmlearn",
        "scipy",
    )
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


@dataclass(frozen=True)
class FinishedBatch:
    """What is recorded of a batch: its file, its trials, how many parameter sets it holds."""

    path: Path
    trials: Sequence[Mapping[str, Any]]
    n_sets: int


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def check_output(path: Path, endings: Sequence[str], what: str) -> None:
    """``refuse_to_replace``, and refuse a name that says something else than what is written.

    Args:
        path: of the file.
        endings: that it may have, in any case.
        what: will be written, the start of a sentence.

    Raises:
        StudyError: it has another, or none, or it would be lost.
    """
    refuse_to_replace(path)
    if path.suffix.lower() not in endings:
        raise StudyError(f"{path}: {what} is written to a file that ends in {' or '.join(endings)}")


HTML = (".html", ".htm")


def refuse_to_replace(path: Path) -> None:
    """Refuse to write over what is no output of a command: a study's own files, a study file, bars.

    Raises:
        StudyError: the file is one of these.
    """
    what = _what_would_be_lost(path) if path.is_file() else ""
    if what:
        raise StudyError(f"{path}: is {what}, which would be lost; give another --out")


def write_output(path: Path, text: str) -> None:
    """Write what a command gives, in a folder that is made if need be.

    Raises:
        StudyError: the file is not to be replaced, or cannot be written.
    """
    refuse_to_replace(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise cannot_write(path, error) from None


def _what_would_be_lost(path: Path) -> str:
    folder = path.parent
    if path.name in OWN_FILES and (folder / MANIFEST).is_file():
        return "one of the study's own files"
    if folder.name in (RESULTS, MOMENTS) and (folder.parent / MANIFEST).is_file():
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


class StudyFolder:
    """Files of one study.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # A name of its own for each run: processes outlive a study and know their arrays by it.
        self._scratch = path / f"{SCRATCH}-{os.getpid()}-{secrets.token_hex(4)}"

    @classmethod
    def create(cls, path: Path, manifest: Mapping[str, Any], *, overwrite: bool) -> StudyFolder:
        """Make the folder of a new study. The caller holds ``exclusive_use`` of it.

        Raises:
            StudyError: the folder holds something already, or cannot be written.
        """
        folder = cls(path)
        manifest_part = _part(folder.manifest_path)
        try:
            if any(one != manifest_part for one in path.iterdir()):
                folder._refuse_or_clear(overwrite)
            folder.write_manifest(manifest)
            (path / RESULTS).mkdir(exist_ok=True)
            (path / MOMENTS).mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from None
        return folder

    def _refuse_or_clear(self, overwrite: bool) -> None:
        known = self.manifest_path.is_file()
        if not overwrite:
            unfinished = known and not self.manifest().get("complete", True)
            raise StudyError(
                f"{self.path}: holds an unfinished study; `barsweep resume {self.path}` goes on with"
                " it; else give another --out, or --overwrite to replace it"
                if unfinished
                else f"{self.path}: already holds files; give another --out, or --overwrite to"
                " replace a study there"
            )
        if not known:
            raise StudyError(f"{self.path}: holds no study; --overwrite replaces a study only")
        # Killed midway, this is an unfinished study again: the manifest goes last.
        self.write_manifest({**self.manifest(), "complete": False})
        for one in self.path.iterdir():
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            elif one != self.manifest_path:
                one.unlink()

    @classmethod
    def open(cls, path: Path) -> StudyFolder:
        """The folder of a study that was started.

        Raises:
            StudyError: there is no study in it.
        """
        folder = cls(path)
        if not folder.manifest_path.is_file():
            raise StudyError(f"{path}: no study here; expected a folder that `barsweep run` wrote")
        return folder

    @property
    def manifest_path(self) -> Path:
        """The file that describes the study."""
        return self.path / MANIFEST

    @property
    def journal_path(self) -> Path:
        """Optuna's journal of the trials."""
        return self.path / JOURNAL

    @property
    def scratch_path(self) -> Path:
        """Arrays that workers map while the study runs."""
        return self._scratch

    def manifest(self) -> dict[str, Any]:
        """What describes the study.

        Raises:
            StudyError: it cannot be read, or is not a study's.
        """
        try:
            manifest = json.loads(self.manifest_path.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise StudyError(f"{self.manifest_path}: cannot be read: {error}") from None
        if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
            raise StudyError(
                f'{self.manifest_path}: not of a study: expected "kind": "{KIND}"; give the folder'
                " that `barsweep run` wrote"
            )
        missing = [name for name in _MANIFEST_KEYS if name not in manifest]
        if missing:
            raise StudyError(
                f"{self.manifest_path}: {missing[0]!r} is missing; put the file back as it was, or run"
                " the study anew with another --out"
            )
        return manifest

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Replace what describes the study.

        Raises:
            StudyError: it cannot be written.
        """
        text = json.dumps({"kind": KIND, **manifest}, indent=1, sort_keys=True)
        try:
            write_atomically(self.manifest_path, lambda path: path.write_text(text))
        except OSError as error:
            raise cannot_write(self.manifest_path, error) from None

    def processes_left(self) -> list[int]:
        """Numbers of the processes that were killed here: their shared arrays are still there."""
        return [int(path.name.split("-")[1]) for path in self._scratches()]

    def remove_leftovers(self) -> None:
        """Remove what a process that was killed left unfinished: parts of files, shared arrays.

        Raises:
            StudyError: they cannot be removed.
        """
        try:
            for name in (RESULTS, MOMENTS):
                (self.path / name).mkdir(exist_ok=True)
            for folder in (self.path, self.path / RESULTS, self.path / MOMENTS):
                for part in folder.glob("*.part"):
                    part.unlink()
            for scratch in self._scratches():
                shutil.rmtree(scratch)
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def _scratches(self) -> list[Path]:
        return sorted(self.path.glob(f"{SCRATCH}-*-*"))

    def finished_batches(self) -> dict[int, FinishedBatch]:
        """Every batch that is whole on disk, by its number.

        Each file is read and its checksum compared. One that is damaged is removed, with a warning,
        and so is to be computed again.
        """
        found = {}
        for path in self.batch_paths():
            match = re.fullmatch(r"batch-(\d+)", path.stem)
            if match is None:
                continue
            try:
                found[int(match[1])] = _read_batch(path)
            except ValueError as error:
                logging.getLogger("barsweep").warning("%s: %s; it is computed again", path, error)
                path.unlink(missing_ok=True)
        return found

    def damage(self, n_batches: int | None) -> tuple[Path, str] | None:
        """The first batch that is missing or damaged, and which of these; None where all are whole.

        Each file is read and its checksums compared.

        Args:
            n_batches: that there must be; None where only those that are there can be judged.
        """
        paths = self.batch_paths()
        if n_batches is not None:
            paths = [self._batch_path(number) for number in range(n_batches)]
        for path in paths:
            if not path.is_file():
                return path, MISSING
            try:
                _read_batch(path)
            except ValueError as error:
                return path, str(error)
        return None

    def _batch_path(self, number: int) -> Path:
        return self.path / RESULTS / f"batch-{number:06d}.parquet"

    def batch_paths(self) -> list[Path]:
        """Result files, in order."""
        return sorted((self.path / RESULTS).glob("batch-*.parquet"))

    def write_batch(
        self,
        number: int,
        rows: Sequence[Mapping[str, Any]],
        parameter_names: Sequence[str],
        trials: Sequence[Mapping[str, Any]],
        moments: FloatArray,
    ) -> None:
        """Make a batch durable.

        The return moments go first: the batch counts once its Parquet file is there.

        Args:
            number: of the batch, from 0.
            rows: results of each tile, see ``result_table``.
            parameter_names: of the study, in order.
            trials: of the batch, plain values.
            moments: (n_sets, 2, n_blocks), see ``TileResult``, in the order of the rows.

        Raises:
            StudyError: it cannot be written.
        """
        path = self._batch_path(number)
        sums = _array_file(moments)
        table = result_table(rows, parameter_names).replace_schema_metadata(
            {TRIALS_KEY: json.dumps(list(trials)).encode(), MOMENTS_KEY: _digest(sums)}
        )
        content = _parquet_file(table)
        try:
            write_atomically(_moments_path(path), lambda part: part.write_bytes(sums))
            write_atomically(path, lambda part: part.write_bytes(content))
        except OSError as error:
            raise cannot_write(path, error) from None

    def results(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Every parameter set tried, one row each, in the order of the trials.

        Args:
            columns: names; None reads all.

        Raises:
            StudyError: there are none, or a file cannot be read.
        """
        paths = self.batch_paths()
        if not paths:
            raise StudyError(f"{self.path}: no results yet")
        names = None if columns is None else list(columns)
        tables = [_read(partial(pq.read_table, path, columns=names), path) for path in paths]
        frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
        return frame

    def columns(self) -> list[str]:
        """Names of the columns of the results, in order.

        Raises:
            StudyError: there are none, or a file cannot be read.
        """
        paths = self.batch_paths()
        if not paths:
            raise StudyError(f"{self.path}: no results yet")
        return list(_read(partial(pq.read_schema, paths[0]), paths[0]).names)

    def n_sets(self) -> int:
        """Parameter sets evaluated so far.

        Raises:
            StudyError: a file cannot be read.
        """
        paths = self.batch_paths()
        return sum(_read(partial(pq.read_metadata, path), path).num_rows for path in paths)

    def moments(self) -> Iterator[tuple[BoolArray, FloatArray]]:
        """Batch by batch which of its parameter sets are feasible, (n_sets,), and the sums of their
        returns per block, (n_sets, 2, n_blocks), see ``TileResult``.

        Raises:
            StudyError: a file cannot be read.
        """
        for path in self.batch_paths():
            read = partial(pq.read_table, path, columns=["feasible"])
            feasible = _read(read, path)["feasible"].to_numpy()
            sums = _read(
                partial(np.load, _moments_path(path), mmap_mode="r", allow_pickle=False), path
            )
            if len(sums) != len(feasible):
                raise StudyError(f"{_moments_path(path)}: is of another batch than {path.name}")
            yield feasible, sums

    def sets(self, numbers: Sequence[int]) -> pd.DataFrame:
        """Rows of some parameter sets, in the order given.

        Raises:
            StudyError: a number is not that of a set of the study.
        """
        wanted = pa.array(numbers, pa.int64())
        rows = pc.field("set").isin(wanted)
        tables = [
            _read(partial(pq.read_table, path, filters=rows), path) for path in self.batch_paths()
        ]
        frame: pd.DataFrame = pa.concat_tables(tables).to_pandas().set_index("set", drop=False)
        missing = [number for number in numbers if number not in frame.index]
        if missing:
            raise StudyError(f"{self.path}: no parameter set {missing[0]} in this study")
        return frame.loc[list(numbers)].reset_index(drop=True)

    def trials(self) -> list[dict[str, Any]]:
        """Every trial told, in order."""
        found: list[dict[str, Any]] = []
        for path in self.batch_paths():
            schema = _read(partial(pq.read_schema, path), path)
            if TRIALS_KEY not in (schema.metadata or {}):
                raise StudyError(
                    f"{path}: is no batch of this study; remove it, and `barsweep resume {self.path}`"
                    " goes on"
                )
            found += json.loads(schema.metadata[TRIALS_KEY])
        return found

    def n_distinct(self) -> int:
        """Parameter sets tried, those of a point that was asked twice counted once."""
        return sum(distinct_points(self.trials()).values())

    def remove_scratch(self) -> None:
        """Delete the arrays that workers mapped."""
        shutil.rmtree(self.scratch_path, ignore_errors=True)


def distinct_points(trials: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Parameter sets evaluated at each distinct point of the searched space.

    Args:
        trials: as ``write_batch`` takes them.
    """
    return {
        json.dumps(trial["params"], sort_keys=True): int(trial["user_attrs"]["n_sets"])
        for trial in trials
    }


def _read_batch(path: Path) -> FinishedBatch:
    """A batch, its checksums compared.

    Raises:
        ValueError: it is damaged; says how.
    """
    try:
        content = path.read_bytes()
        if not _is_whole(content):
            raise ValueError("its checksum is not that of its content")
        metadata = pq.read_metadata(pa.BufferReader(content))
        if not {TRIALS_KEY, MOMENTS_KEY} <= (metadata.metadata or {}).keys():
            raise ValueError("is no batch of this study")
        trials = json.loads(metadata.metadata[TRIALS_KEY])
        if _digest(_moments_path(path).read_bytes()) != metadata.metadata[MOMENTS_KEY]:
            raise ValueError(f"{_moments_path(path)} is not what was written")
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ValueError(f"damaged ({' '.join(str(error).split())})") from None
    return FinishedBatch(path, trials, metadata.num_rows)


def _digest(content: bytes | bytearray) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _moments_path(batch: Path) -> Path:
    # A folder of its own: other programs read the one of results as a whole.
    return batch.parent.parent / MOMENTS / f"{batch.stem}.npy"


def _array_file(values: FloatArray) -> bytes:
    # By way of memory: where the disk is full, numpy's own writing does not say so.
    content = io.BytesIO()
    np.save(content, values, allow_pickle=False)
    return content.getvalue()


def _parquet_file(table: pa.Table) -> bytearray:
    """A Parquet file that carries its own checksum: pages have theirs, but its footer has none."""
    stream = io.BytesIO()
    with pq.ParquetWriter(
        stream, table.schema, compression="zstd", write_page_checksum=True
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({CHECKSUM_KEY: _NO_DIGEST})
    content = bytearray(stream.getvalue())
    place = content.rindex(_NO_DIGEST, content.rindex(CHECKSUM_KEY))
    content[place : place + len(_NO_DIGEST)] = _digest(content)
    return content


def _is_whole(content: bytes) -> bool:
    """Whether the checksum of a batch's Parquet file is that of its content."""
    key = content.rfind(CHECKSUM_KEY)
    found = re.compile(rb"[0-9a-f]{64}").search(content, max(key, 0))
    if key < 0 or found is None:
        return False
    return _digest(content[: found.start()] + _NO_DIGEST + content[found.end() :]) == found[0]


def _read(read: Callable[[], Any], path: Path) -> Any:
    try:
        return read()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StudyError(
            f"{path}: cannot be read: {error}; `barsweep resume {path.parent.parent}` computes it again"
        ) from None


def result_table(tiles: Sequence[Mapping[str, Any]], parameter_names: Sequence[str]) -> pa.Table:
    """Results of a batch with the schema of every batch of the study.

    Args:
        tiles: of each tile arrays of one length: ``set``, ``trial``, ``strategy``, ``classifier``,
            ``feasible``, ``score``, the parameters and the metrics. A parameter that a tile lacks
            has no value there. NaN becomes null.
        parameter_names: of the study, in order.
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
    for name in ("strategy", "classifier"):
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
        elif name in ("ruined", "oos_ruined"):
            arrays[name] = pa.array(values > 0, pa.bool_(), mask=np.isnan(values))
        else:
            arrays[name] = pa.array(values, pa.float64(), from_pandas=True)
    return pa.table(arrays)


def _repeated(names: Sequence[str], counts: Sequence[int]) -> pa.DictionaryArray:
    """Each name as often as its tile has rows."""
    distinct = list(dict.fromkeys(names))
    places = np.repeat([distinct.index(name) for name in names], counts).astype(np.int32)
    return pa.DictionaryArray.from_arrays(
        pa.array(places, pa.int32()), pa.array(distinct, pa.string())
    )
