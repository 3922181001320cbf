"""The folder of one study."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optimizer.errors import StudyError
from optimizer.files import cannot_write, part_path, save, write_atomically
from optimizer.store.batch_files import (
    HOLDOUT_KEY,
    MAXIMA_KEY,
    MOMENTS_KEY,
    TRIALS_KEY,
    array_file,
    digest,
    holdout_path,
    holdout_table,
    moments_path,
    packed_maxima,
    parquet_file,
    result_table,
)
from optimizer.store.batches import FinishedBatch, read_batch
from optimizer.store.histograms import HISTOGRAMS_KEY, Counts, packed
from optimizer.store.links import refuse_links
from optimizer.store.manifest import read_kind, read_manifest
from optimizer.store.names import BATCH_FOLDERS, FOLDS, JOURNAL, KIND, MANIFEST, MISSING, SCRATCH
from optimizer.store.results import Results
from optimizer.types import Float32Array, FloatArray

_SCRATCH = re.compile(rf"{SCRATCH}-[1-9]\d{{0,8}}-[0-9a-f]{{8}}")
"""Name of a folder of shared arrays: the number of the process, and what tells its studies apart."""


class StudyFolder(Results):
    """All files of one study: its manifest, its batches, its leftovers.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # Another name each time a study runs: processes outlive it and know their arrays by it.
        self._scratch = path / f"{SCRATCH}-{os.getpid()}-{secrets.token_hex(4)}"

    @classmethod
    def create(cls, path: Path, manifest: Mapping[str, Any], *, overwrite: bool) -> StudyFolder:
        """Make the folder of a new study. The caller holds ``exclusive_use`` of it.

        Args:
            path: the path of the folder, which is there.
            manifest: describes the study.
            overwrite: replace a study that the folder holds.

        Returns:
            The folder, which has no batches yet.

        Raises:
            StudyError: the folder holds something already, or a link, or cannot be written.
        """
        refuse_links(path)
        folder = cls(path)
        manifest_part = part_path(folder.manifest_path)
        try:
            if any(one != manifest_part for one in path.iterdir()):
                folder._refuse_or_clear(overwrite)
            folder.write_manifest(manifest)
            folder._make_batch_folders()
        except OSError as error:
            raise cannot_write(path, error) from None
        return folder

    def _make_batch_folders(self) -> None:
        for name in BATCH_FOLDERS:
            (self.path / name).mkdir(exist_ok=True)

    def _refuse_or_clear(self, overwrite: bool) -> None:
        known = self.manifest_path.is_file()
        if not overwrite:
            unfinished = known and not read_kind(self.manifest_path).get("complete", True)
            raise StudyError(
                f"{self.path}: holds an unfinished study; `barsweep resume {self.path}` continues"
                " it; otherwise give another --out, or --overwrite to replace it"
                if unfinished
                else f"{self.path}: already holds files; give another --out, or --overwrite to"
                " replace a study there"
            )
        if not known:
            raise StudyError(f"{self.path}: holds no study; --overwrite replaces a study only")
        # The manifest goes last: killed midway, this leaves an unfinished study.
        self.write_manifest({**read_kind(self.manifest_path), "complete": False})
        for one in self.path.iterdir():
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            elif one != self.manifest_path:
                one.unlink()

    @classmethod
    def open(cls, path: Path) -> StudyFolder:
        """The folder of a study that was started.

        Args:
            path: the path of the folder.

        Raises:
            StudyError: there is no study in it.
        """
        folder = cls(path)
        if path.is_file():
            raise StudyError(
                f"{path}: a file; expected the folder of a study. Of exported sets and combinations"
                " `barsweep replay` gives the figures, and `barsweep tearsheet` a page; of a combination"
                " `barsweep report` does too"
            )
        if not folder.manifest_path.is_file():
            raise StudyError(f"{path}: no study here; expected a folder that `barsweep run` wrote")
        return folder

    def whole(self) -> Path | None:
        """The folder of the study of whose walk-forward this is a window; None for any other study."""
        folds = self.path.resolve().parent
        return folds.parent if folds.name == FOLDS and (folds.parent / MANIFEST).is_file() else None

    def refuse_window(self, command: str) -> None:
        """Refuse the search of a walk-forward's window, which is no study of its own.

        Args:
            command: the command that the study as a whole takes.

        Raises:
            StudyError: it is one.
        """
        if whole := self.whole():
            raise StudyError(f"{self.path}: a window of the study in {whole}; {command} that one")

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
            StudyError: it cannot be read, or does not describe a study; names the file and the key.
        """
        return read_manifest(self.manifest_path)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Replace what describes the study.

        Args:
            manifest: the whole of it, as plain values.

        Raises:
            StudyError: it cannot be written.
        """
        text = json.dumps({"kind": KIND, **manifest}, indent=1, sort_keys=True)
        save(self.manifest_path, lambda path: path.write_text(text))

    def processes_left(self) -> list[int]:
        """The numbers of the processes that were killed here and left their shared arrays."""
        return [int(path.name.split("-")[1]) for path in self._scratches()]

    def remove_leftovers(self) -> None:
        """Remove what a process that was killed left: parts of files, shared arrays.

        Raises:
            StudyError: they cannot be removed, or the folder holds a link.
        """
        refuse_links(self.path)
        try:
            self._make_batch_folders()
            for folder in (self.path, *(self.path / name for name in BATCH_FOLDERS)):
                for part in folder.glob("*.part"):
                    part.unlink()
            for scratch in self._scratches():
                shutil.rmtree(scratch)
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def _scratches(self) -> list[Path]:
        """Folders of shared arrays; others with a similar name are not barsweep's, and stay."""
        found = self.path.glob(f"{SCRATCH}-*-*")
        return sorted(
            path
            for path in found
            if _SCRATCH.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
        )

    def finished_batches(self) -> dict[int, FinishedBatch]:
        """Every batch that is whole on disk, by its number.

        Each file is read and its checksum compared. One that is damaged is removed with a warning, so
        that it is computed again.
        """
        found = {}
        paths = self.batch_paths()
        names = self.names() if paths else None
        for path in paths:
            match = re.fullmatch(r"batch-(\d{6,9})", path.stem, re.ASCII)
            if match is None:
                continue
            try:
                found[int(match[1])] = read_batch(path, names)
            except ValueError as error:
                logging.getLogger("barsweep").warning("%s: %s; it is computed again", path, error)
                try:
                    path.unlink(missing_ok=True)
                except OSError as problem:  # a folder of that name
                    raise cannot_write(path, problem) from None
        return found

    def damage(self, n_batches: int | None) -> tuple[Path, str] | None:
        """The first batch that is missing or damaged.

        Each file is read and its checksums compared.

        Args:
            n_batches: number of batches of the complete study; None checks those that are there.

        Returns:
            Its file, and ``MISSING`` or how it is damaged; None where all are whole.
        """
        names = self.names()
        paths: Iterable[Path] = self.batch_paths()
        if n_batches is not None:  # one at a time: a manifest may claim any number of trials
            paths = (self.batch_path(number) for number in range(n_batches))
        for path in paths:
            if not path.is_file():
                return path, MISSING
            try:
                read_batch(path, names)
            except ValueError as error:
                return path, str(error)
        return None

    def write_batch(
        self,
        number: int,
        rows: Sequence[Mapping[str, Any]],
        parameter_names: Sequence[str],
        trials: Sequence[Mapping[str, Any]],
        moments: FloatArray,
        maxima: Float32Array,
        histograms: Counts | None = None,
    ) -> None:
        """Make a batch durable.

        The return moments and the holdout go first: the batch counts once its result file is there.

        Args:
            number: the number of the batch, from 0.
            rows: results of each tile, see ``result_table`` and ``holdout_table``.
            parameter_names: the parameter names of the study, in order.
            trials: the trials of the batch, plain values.
            moments: (n_sets, 2, n_blocks), see ``TileResult``, in the order of the rows.
            maxima: largest draws of the max-test over its sets, see ``no_draws``.
            histograms: the histograms of the metrics in-sample, where ``rows`` have a column ``KEPT``;
                None where every set is kept whole.

        Raises:
            StudyError: it cannot be written.
        """
        path = self.batch_path(number)
        sums, sealed = array_file(moments), parquet_file(holdout_table(rows))
        top = histograms is not None
        table = result_table(rows, parameter_names, top=top).replace_schema_metadata(
            {
                TRIALS_KEY: json.dumps(list(trials)).encode(),
                MOMENTS_KEY: digest(sums),
                HOLDOUT_KEY: digest(sealed),
                MAXIMA_KEY: packed_maxima(maxima),
                **({} if histograms is None else {HISTOGRAMS_KEY: packed(histograms)}),
            }
        )
        content = parquet_file(table)
        try:
            write_atomically(moments_path(path), lambda part: part.write_bytes(sums))
            write_atomically(holdout_path(path), lambda part: part.write_bytes(sealed))
            write_atomically(path, lambda part: part.write_bytes(content))
        except OSError as error:
            raise cannot_write(path, error) from None

    def remove_scratch(self) -> None:
        """Delete the arrays that workers mapped."""
        shutil.rmtree(self.scratch_path, ignore_errors=True)
