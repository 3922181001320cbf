"""Folders of several coordinators become one study, which is judged as if one process had done it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from optimizer.errors import StudyError
from optimizer.review.records import judged
from optimizer.search.merge import merge_studies
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.store.folder import StudyFolder
from tests.support.command import barsweep
from tests.support.studies import random_bars, result_hashes, small_study, write_bars


@pytest.fixture(autouse=True)
def own_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / "own" / "ledger.db"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Six batches of one process, some trials of which have no set."""
    home = tmp_path_factory.mktemp("merge")
    path = write_bars(home / "bars.parquet", random_bars())
    limits = ["max_exposure > 0.5"]
    search = {"sampler": "random", "trials": 24, "batch": 4, "constraints": limits}
    study = small_study(path, search=search)
    return run_study(study, out=home / "whole", workers=1).folder


def part(whole: StudyFolder, path: Path, *numbers: int, **changes: Any) -> Path:
    """The folder of a coordinator that did some of the batches."""
    folder = StudyFolder.create(
        path,
        {**whole.manifest(), "coordinated": True, "n_batches": len(numbers), **changes},
        overwrite=False,
    )
    for place, number in enumerate(numbers):
        for source in whole.path.glob(f"*/batch-{number:06d}.*"):
            target = path / source.parent.name / f"batch-{place:06d}{source.suffix}"
            shutil.copy(source, target)
    return folder.path


def rows(folder: StudyFolder) -> pd.DataFrame:
    """Every set with all that is known of it, but the numbers of sets and trials, in any order."""
    frame = folder.results().merge(
        folder.holdout(folder.results(["set"])["set"].tolist()), on="set"
    )
    frame = frame.drop(columns=["set", "trial"])
    return frame.sort_values([*frame.columns], ignore_index=True)


@pytest.fixture
def parts(whole: StudyFolder, tmp_path: Path) -> list[Path]:
    """Three coordinators; the second died, and the third did one of its batches again."""
    (tmp_path / "parts").mkdir()
    at = tmp_path / "parts"
    for name in ("one", "two", "three"):
        (at / name).mkdir()
    return [
        part(whole, at / "one", 0, 3),
        part(whole, at / "two", 5, 1, complete=False),
        part(whole, at / "three", 4, 2, 1),
    ]


def test_the_parts_are_the_whole(whole: StudyFolder, parts: list[Path], tmp_path: Path) -> None:
    before = {path: result_hashes(StudyFolder.open(path)) for path in parts}
    merged = merge_studies(parts, out=tmp_path / "out", workers=1).folder
    again = merge_studies([*parts[::-1], parts[0]], out=tmp_path / "again", workers=2).folder
    assert result_hashes(merged) == result_hashes(again)
    pd.testing.assert_frame_equal(rows(merged), rows(whole), check_exact=True)
    assert len(merged.trials()) == len(whole.trials()) == 24
    assert any(trial["user_attrs"]["n_sets"] == 0 for trial in merged.trials())
    assert [trial["number"] for trial in merged.trials()] == list(range(24))
    found, wanted = judged(merged), judged(whole)
    assert found.verdict is not None and wanted.verdict is not None
    for name in ("words", "p", "reasons"):
        assert getattr(found.verdict, name) == getattr(wanted.verdict, name)
    assert found.verdict.tried.n_sets == wanted.verdict.tried.n_sets
    assert found.selection is not None and wanted.selection is not None
    assert found.selection.maxima == wanted.selection.maxima
    one, other = merged.sets([found.selection.sets[0].number]), whole.sets([merged_winner(whole)])
    pd.testing.assert_frame_equal(
        one.drop(columns=["set", "trial"]), other.drop(columns=["set", "trial"])
    )
    assert {path: result_hashes(StudyFolder.open(path)) for path in parts} == before


def merged_winner(folder: StudyFolder) -> int:
    selection = judged(folder).selection
    assert selection is not None
    return selection.sets[0].number


def test_a_merge_that_was_stopped_goes_on_and_lost_batches_are_named(
    parts: list[Path], tmp_path: Path
) -> None:
    folder = merge_studies(parts, out=tmp_path / "out", workers=1).folder
    selection = (folder.path / "selection.json").read_bytes()
    (folder.path / "selection.json").unlink()
    folder.write_manifest({**folder.manifest(), "complete": False, "winner": None})
    resume_study(folder.path, workers=1)
    assert (folder.path / "selection.json").read_bytes() == selection
    folder.batch_paths()[2].unlink()
    with pytest.raises(StudyError, match=r"batch-000002\.parquet: .*`barsweep merge` them again"):
        resume_study(folder.path, workers=1)
    merge_studies(parts, out=tmp_path / "out", workers=1, overwrite=True)
    assert (folder.path / "selection.json").read_bytes() == selection


def test_what_is_no_part_is_refused(whole: StudyFolder, parts: list[Path], tmp_path: Path) -> None:
    def refused(*folders: Path, out: Path = tmp_path / "out") -> str:
        done = barsweep("merge", *folders, "--out", out, folder=tmp_path)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        return line

    assert "nothing to merge" in refused(parts[0], parts[0])
    assert f"{whole.path}: no part of a study that several" in refused(parts[0], whole.path)
    assert "no study here" in refused(parts[0], tmp_path)
    assert "is one of the folders to merge" in refused(*parts, out=parts[1])
    manifest = parts[1] / "study.json"
    kept = manifest.read_text()
    manifest.write_text(json.dumps({**json.loads(kept), "data_hash": "0" * 64}))
    assert f"{parts[1]}: its bars differ from those of {parts[0]}" in refused(*parts)
    manifest.write_text(kept)
    batch = StudyFolder.open(parts[2]).batch_paths()[1]
    batch.write_bytes(batch.read_bytes()[:-9])
    assert f"{batch}: damaged" in refused(*parts)
    assert not (tmp_path / "out").exists()
