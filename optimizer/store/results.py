"""The results of one study, read from its batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from optimizer.catalogue import METRICS
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
from optimizer.store.columns import KEPT, NAMES, OUT_OF_SAMPLE
from optimizer.store.histograms import Counts, summed, unpacked
from optimizer.store.manifest import read_manifest
from optimizer.store.names import HOLDOUT, MANIFEST, RESULTS
from optimizer.store.plateau import with_plateau
from optimizer.store.top import always_kept
from optimizer.store.trial_records import distinct_points, read_trials
from optimizer.strategies.combined import combined_name
from optimizer.study_file.objectives import is_expression, metrics_named, objective_values
from optimizer.sweep.max_test import larger_draws
from optimizer.text import one_line
from optimizer.types import BoolArray, Float32Array, FloatArray, IntArray


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

    def expressions(self) -> list[str]:
        """The objectives of the study that are expressions; each is a column computed from metrics.

        Raises:
            StudyError: the manifest cannot be read.
        """
        named = read_manifest(self.path / MANIFEST)["study"]["search"]["objective"]
        return [one for one in ([named] if isinstance(named, str) else named) if is_expression(one)]

    def results(self, columns: Sequence[str] | None = None, *, whole: bool = False) -> pd.DataFrame:
        """Every parameter set tried, one row each, in the order of the trials.

        Args:
            columns: names, ``set`` among them if ``score`` is; None reads all.
            whole: leave out sets that the study, one that ``kept`` only some, has not kept whole.

        Returns:
            Columns: those of ``result_table``, and objectives that are expressions; scores are those of
            ``with_plateau``.

        Raises:
            StudyError: there are no results, or a file cannot be read.
        """
        paths = self.batch_paths()
        if not paths:
            raise self.no_results()
        options = {"filters": pc.field(KEPT)} if whole else {}
        if columns is None:
            every = self._joined(paths, **options).to_pandas()
            return self._with_plateau(_computed(every, self.expressions()))
        # A column that is written has the name of a parameter or a metric.
        expressions = [name for name in columns if not name.isidentifier()]
        written = [name for name in columns if name.isidentifier()]
        needed = [name for one in expressions for name in metrics_named(one)]
        names = [*dict.fromkeys([*written, *needed])]
        read = self._joined(paths, columns=names, **options).to_pandas()
        found = _computed(read, expressions)[list(columns)]
        return self._with_plateau(found) if "score" in found.columns else found

    def _with_plateau(self, frame: pd.DataFrame) -> pd.DataFrame:
        return with_plateau(self.path, frame, self.n_sets())

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
        written = read_parquet(partial(read_schema, paths[0]), paths[0]).names
        return [*written, *self.expressions()]

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

    def kept(self) -> int | None:
        """How many of the best sets the study keeps whole, see ``store.top``; None where it keeps all.

        Raises:
            StudyError: the manifest cannot be read.
        """
        store = read_manifest(self.path / MANIFEST)["study"]["search"].get("store")
        return None if store is None else int(store["top"])

    def refuse_unkept(self, names: Iterable[str]) -> None:
        """Refuse columns that the results do not have of every set.

        Args:
            names: columns of results.

        Raises:
            StudyError: the study keeps the best sets whole, and one of the columns of them alone.
        """
        kept = self.kept()
        if kept is None:
            return
        search = read_manifest(self.path / MANIFEST)["study"]["search"]
        always = always_kept([search["objective"]])
        for name in names:
            metrics = [name] if name.isidentifier() else metrics_named(name)
            missing = [one for one in metrics if one in METRICS and one not in always]
            missing += [one for one in metrics if one.startswith("oos_")]
            if missing:
                raise StudyError(
                    f"{self.path}: {missing[0]} is known of the best sets alone, since [search] store ="
                    f' "top" kept {kept:,} of them whole; of all sets: {", ".join(sorted(always))}'
                )

    def histograms(self) -> Counts | None:
        """Counts of each metric in-sample over all sets.

        Returns:
            Those of ``store.histograms``; None where all sets are kept whole.

        Raises:
            StudyError: a file cannot be read.
        """
        if self.kept() is None:
            return None

        def read(path: Path) -> Counts:
            try:
                return unpacked(read_metadata(path).metadata)
            except KeyError:
                raise ValueError("it has no histograms") from None

        return summed(read_parquet(partial(read, path), path) for path in self.batch_paths())

    def column(self, name: str) -> Any:
        """One column of all sets, in the order of the trials, read a batch at a time.

        Args:
            name: a column that is written.

        Returns:
            (n_sets,), bool, int64 or float64; NaN where undefined.

        Raises:
            StudyError: a file cannot be read.
        """
        values = [part[name].to_numpy() for part in self.parts([name])]
        return np.concatenate(values) if values else np.empty(0)

    def parts(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Columns of all sets, batch by batch.

        Args:
            columns: columns that are written.

        Returns:
            A table for each batch.

        Raises:
            StudyError: a file cannot be read.
        """
        for path in self.batch_paths():
            yield read_parquet(partial(read_results, path, columns=list(columns)), path)

    def sets(self, numbers: Sequence[int] | IntArray, *, whole: bool = True) -> pd.DataFrame:
        """The rows of some parameter sets, in the order given.

        Args:
            numbers: the numbers of the sets.
            whole: refuse sets that the study has not kept whole; False takes them without the metrics
                that they lack.

        Raises:
            StudyError: the study has no set of one of the numbers, or not its metrics, or a file cannot
                be read.
        """
        wanted = pa.array(numbers, pa.int64())
        rows = pc.field("set").isin(wanted)
        table = self._joined(self._holding(numbers), filters=rows)
        frame: pd.DataFrame = table.to_pandas().set_index("set", drop=False)
        missing = [number for number in numbers if number not in frame.index]
        if missing:
            raise StudyError(
                f"{self.path}: no parameter set {missing[0]} in this study; valid: 0 to"
                f" {self.n_sets() - 1:,}"
            )
        rows = frame.loc[list(numbers)].reset_index(drop=True)
        if whole and KEPT in rows.columns and not rows[KEPT].all():
            number = rows["set"][~rows[KEPT]].iloc[0]
            raise StudyError(
                f'{self.path}: parameter set {number} was not kept: [search] store = "top" keeps the'
                f" {self.kept():,} best sets whole; run its parameters as a study of one set, or all with"
                ' store = "all"'
            )
        return self._with_plateau(_computed(rows, self.expressions()))

    def _holding(self, numbers: Sequence[int] | IntArray) -> list[Path]:
        """The files that can hold one of some sets, by the statistics of their columns; at least one."""
        wanted = np.unique(np.asarray(numbers, np.int64))
        paths = self.batch_paths()
        if not paths:
            raise self.no_results()

        def may_hold(path: Path) -> bool:
            metadata = read_metadata(path)
            place = metadata.schema.to_arrow_schema().get_field_index("set")
            for group in range(metadata.num_row_groups):
                known = metadata.row_group(group).column(place).statistics if place >= 0 else None
                if known is None or not known.has_min_max:
                    return True
                if np.searchsorted(wanted, known.min) < np.searchsorted(wanted, known.max, "right"):
                    return True
            return False

        found = [path for path in paths if read_parquet(partial(may_hold, path), path)]
        return found or paths[:1]

    def out_of_sample_columns(self) -> list[str]:
        """The names of the columns of the holdout, in order.

        Raises:
            StudyError: the manifest cannot be read.
        """
        return [*OUT_OF_SAMPLE, *(f"oos_{one}" for one in self.expressions())]

    def holdout(
        self, numbers: Sequence[int] | IntArray, names: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """The out-of-sample metrics of parameter sets, sealed or not.

        Whatever is shown to anybody comes from ``optimizer.store.seal``, which keeps to the seal.

        Args:
            numbers: the numbers of the sets; those that the study lacks are left out.
            names: the columns, out of ``out_of_sample_columns``; None takes all.

        Returns:
            These columns, indexed by the number of the set.

        Raises:
            StudyError: a file cannot be read.
        """
        rows = pc.field("set").isin(pa.array(numbers, pa.int64()))
        shown = self.out_of_sample_columns() if names is None else list(names)
        expressions = [name.removeprefix("oos_") for name in shown if not name.isidentifier()]
        written = [name for name in shown if name.isidentifier()]
        needed = [f"oos_{name}" for one in expressions for name in metrics_named(one)]
        columns = ["set", *dict.fromkeys([*written, *needed])]
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
        return _computed(frame, expressions, "oos_")[shown]

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


def _computed(frame: pd.DataFrame, expressions: Sequence[str], prefix: str = "") -> pd.DataFrame:
    """The rows with the values of some objectives that are expressions, from their metrics."""
    for one in expressions:
        metrics = {
            name: frame[prefix + name].astype("float64").to_numpy() for name in metrics_named(one)
        }
        frame = frame.assign(**{prefix + one: objective_values(one, metrics)})
    return frame
