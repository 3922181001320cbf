"""The results of one study, read from its batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from optimizer.errors import StudyError
from optimizer.store.batch_files import TRIALS_KEY, moments_path, read_maxima, read_metadata
from optimizer.store.batches import (
    check_names,
    read_holdout,
    read_moments,
    read_parquet,
    read_results,
    read_schema,
)
from optimizer.store.columns import NAMES, OUT_OF_SAMPLE
from optimizer.store.manifest import read_manifest
from optimizer.store.names import HOLDOUT, MANIFEST, RESULTS
from optimizer.store.trial_records import distinct_points, read_trials
from optimizer.strategies.combined import combined_name
from optimizer.sweep.max_test import larger_draws
from optimizer.text import one_line
from optimizer.types import BoolArray, Float32Array, FloatArray


class Results:
    """Parameter sets and trials of a study, as far as its batches are on disk.

    Args:
        path: the folder of the study.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def batch_path(self, number: int) -> Path:
        """The result file of a batch, there or not.

        Args:
            number: the number of the batch, from 0.
        """
        return self.path / RESULTS / f"batch-{number:06d}.parquet"

    def batch_paths(self) -> list[Path]:
        """The result files that are there, in order."""
        found = (self.path / RESULTS).glob("batch-*.parquet")
        # A folder or a pipe of such a name holds no results, and a pipe might never end.
        return sorted(path for path in found if path.is_file())

    def no_results(self) -> StudyError:
        """The error for a study that was ended before its first batch."""
        return StudyError(
            f"{self.path}: no results yet; `barsweep resume {self.path}` continues the study"
        )

    def names(self) -> dict[str, list[str]]:
        """The strategies and classifiers of the study, by the column that holds their names.

        Raises:
            StudyError: the manifest cannot be read.
        """
        study = read_manifest(self.path / MANIFEST)["study"]
        names = {table: [one["name"] for one in study[table]] for table in NAMES}
        if "strategies" in study:  # one account for all of them
            names["strategy"] = [combined_name(names["strategy"], study["strategies"]["rule"])]
        return names

    def results(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Every parameter set tried, one row each, in the order of the trials.

        Args:
            columns: names; None reads all.

        Returns:
            Columns: those of ``result_table``.

        Raises:
            StudyError: there are no results, or a file cannot be read.
        """
        paths = self.batch_paths()
        if not paths:
            raise self.no_results()
        names = None if columns is None else list(columns)
        frame: pd.DataFrame = self._joined(paths, columns=names).to_pandas()
        return frame

    def _joined(self, paths: Sequence[Path], **options: Any) -> pa.Table:
        """Rows of several batches; ``options`` are those of ``read_results``."""
        known = self.names()

        def read(path: Path) -> pa.Table:
            table = read_results(path, **options)
            check_names(table, known)
            return table

        tables = [read_parquet(partial(read, path), path) for path in paths]
        try:
            return pa.concat_tables(tables)
        except pa.ArrowException as error:
            raise StudyError(
                f"{self.path / RESULTS}: its files are not of one study: {one_line(error)};"
                f" `barsweep resume {self.path}` computes those again that are not its own"
            ) from None

    def columns(self) -> list[str]:
        """The names of the columns of the results, in order.

        Raises:
            StudyError: there are no results, or a file cannot be read.
        """
        paths = self.batch_paths()
        if not paths:
            raise self.no_results()
        return list(read_parquet(partial(read_schema, paths[0]), paths[0]).names)

    def n_sets(self) -> int:
        """The number of parameter sets evaluated so far.

        Raises:
            StudyError: a file cannot be read.
        """
        paths = self.batch_paths()
        return sum(read_parquet(partial(read_metadata, path), path).num_rows for path in paths)

    def maxima(self) -> Float32Array:
        """Read the largest draws of the max-test over all sets.

        Returns:
            Those of ``no_draws``.

        Raises:
            StudyError: a file cannot be read.
        """

        def read(path: Path) -> Float32Array:
            try:
                return read_maxima(read_metadata(path).metadata)
            except KeyError:
                raise ValueError("it has no draws of the max-test") from None

        return larger_draws(
            [read_parquet(partial(read, path), path) for path in self.batch_paths()]
        )

    def moments(self) -> Iterator[tuple[BoolArray, FloatArray]]:
        """Return moments of every parameter set, batch by batch.

        Returns:
            Of each batch which of its sets are feasible, (n_sets,), and the sums of their returns per
            block, (n_sets, 2, n_blocks), see ``TileResult``.

        Raises:
            StudyError: a file cannot be read.
        """
        for path in self.batch_paths():
            read = partial(read_results, path, columns=["feasible"])
            feasible = read_parquet(read, path)["feasible"].to_numpy()
            sums = read_parquet(partial(read_moments, path), path)
            if len(sums) != len(feasible):
                raise StudyError(
                    f"{moments_path(path)}: does not belong to {path.name}; `barsweep resume"
                    f" {self.path}` computes the batch again"
                )
            yield feasible, sums

    def sets(self, numbers: Sequence[int]) -> pd.DataFrame:
        """The rows of some parameter sets, in the order given.

        Args:
            numbers: the numbers of the sets.

        Raises:
            StudyError: the study has no set of one of the numbers, or a file cannot be read.
        """
        wanted = pa.array(numbers, pa.int64())
        rows = pc.field("set").isin(wanted)
        table = self._joined(self.batch_paths(), filters=rows)
        frame: pd.DataFrame = table.to_pandas().set_index("set", drop=False)
        missing = [number for number in numbers if number not in frame.index]
        if missing:
            raise StudyError(f"{self.path}: no parameter set {missing[0]} in this study")
        return frame.loc[list(numbers)].reset_index(drop=True)

    def holdout(self, numbers: Sequence[int], names: Sequence[str] = OUT_OF_SAMPLE) -> pd.DataFrame:
        """The out-of-sample metrics of parameter sets, sealed or not.

        Whatever is shown to anybody comes from ``optimizer.store.seal``, which keeps to the seal.

        Args:
            numbers: the numbers of the sets; those that the study lacks are left out.
            names: the columns, out of ``OUT_OF_SAMPLE``.

        Returns:
            These columns, indexed by the number of the set.

        Raises:
            StudyError: a file cannot be read.
        """
        rows = pc.field("set").isin(pa.array(numbers, pa.int64()))
        columns = ["set", *names]
        tables = [
            read_parquet(partial(read_holdout, path, columns=columns, filters=rows), path)
            for path in self.batch_paths()
        ]
        frame: pd.DataFrame = pa.concat_tables(tables).to_pandas().set_index("set")
        if not frame.index.is_unique:
            raise StudyError(
                f"{self.path / HOLDOUT}: has a set twice; `barsweep resume {self.path}` computes the"
                " batch again"
            )
        return frame

    def trials(self) -> list[dict[str, Any]]:
        """Every trial told, in order, as ``search.outcome.trial_record`` gives it.

        Raises:
            StudyError: a file cannot be read, or is not a batch.
        """
        found: list[dict[str, Any]] = []
        for path in self.batch_paths():
            metadata = read_parquet(partial(read_metadata, path), path).metadata or {}
            if TRIALS_KEY not in metadata:
                raise StudyError(
                    f"{path}: not a batch of this study; remove it, then continue with"
                    f" `barsweep resume {self.path}`"
                )
            found += read_parquet(partial(read_trials, metadata[TRIALS_KEY]), path)
        return found

    def n_distinct(self) -> int:
        """The number of parameter sets tried; a point that was asked several times counts once."""
        return sum(distinct_points(self.trials()).values())
