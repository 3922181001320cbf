"""A recorded set, simulated again: from its study, from an export, on other bars."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optimizer.errors import DataError, StudyError
from optimizer.review.rerun import Rerun, Terms, open_positions, rerun_built_in, rerun_set
from optimizer.review.unseal import unseal_study
from optimizer.search.run import run_study
from optimizer.store.export import export_sets, load_export, set_document
from optimizer.store.folder import StudyFolder
from optimizer.store.seal import with_holdout
from tests.support.studies import changed, random_bars, small_study, write_bars


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    home = tmp_path_factory.mktemp("rerun")
    bars = write_bars(home / "bars.parquet", random_bars())
    risk = {"allow_short": True, "kelly_fraction": {"sweep": [0.1, 0.2]}, "stop_loss": 0.05}
    costs = {"commission_bps": 7.5}
    data = {"end": "2016-02-15"}
    result = run_study(
        small_study(bars, risk=risk, costs=costs, data=data), out=home / "out", workers=1
    )
    unseal_study(result.folder.path)
    return result.folder


def document_of(folder: StudyFolder, number: int) -> dict[str, Any]:
    row = with_holdout(folder, folder.sets([number])).to_dict("records")[0]
    return set_document(row, folder.manifest()["study"])


def assert_as_recorded(again: Rerun, document: dict[str, Any]) -> None:
    assert again.number == document["set"]
    for recorded, found in (
        (document["in_sample"], again.result.in_sample),
        (document["out_of_sample"], again.result.out_of_sample),
    ):
        assert found is not None
        for name, value in recorded.items():
            assert found[name] == value if value is not None else np.isnan(found[name])


def test_a_set_is_the_same_from_its_study_and_from_an_export(folder: StudyFolder) -> None:
    content = load_export(export_sets(folder.path, top=3))
    from_export = Terms.of_export(content, folder.path)
    from_study = Terms.of_study(folder.manifest())
    assert from_export.data_path == from_study.data_path
    for document in content["sets"]:
        one = rerun_set(document, from_export, from_export.bars(), sealed=False)
        recorded = document_of(folder, document["set"])
        other = rerun_set(recorded, from_study, from_study.bars(), sealed=False)
        assert_as_recorded(one, document)
        assert_as_recorded(other, document)
        pd.testing.assert_series_equal(one.result.equity, other.result.equity, check_exact=True)
        pd.testing.assert_frame_equal(one.result.fills, other.result.fills, check_exact=True)


def test_every_set_of_a_study_is_simulated_as_recorded(folder: StudyFolder) -> None:
    terms = Terms.of_study(folder.manifest())
    bars = terms.bars()
    for number in range(0, folder.n_sets(), 7):
        document = document_of(folder, number)
        again = rerun_set(document, terms, bars, sealed=False)
        assert_as_recorded(again, document)
        assert again.tile.n_lanes == 1
        assert again.inputs.first == terms.first_bar
        assert again.result.open_positions == open_positions(folder.path, number)


def test_the_first_decision_may_be_later_and_not_earlier(folder: StudyFolder) -> None:
    terms = Terms.of_study(folder.manifest())
    document, bars = document_of(folder, 0), terms.bars()
    later = rerun_set(document, terms, bars, terms.first_bar + 20, sealed=False)
    assert later.inputs.first == terms.first_bar + 20
    earlier = rerun_set(document, terms, bars, 0, sealed=False)
    assert earlier.inputs.first == terms.first_bar


def test_other_bars_are_refused_in_one_place(folder: StudyFolder, tmp_path: Path) -> None:
    terms = Terms.of_study(folder.manifest())
    other = write_bars(tmp_path / "bars.parquet", changed(random_bars(), 150))
    with pytest.raises(StudyError, match=r"bars\.parquet: holds other bars than the study had"):
        replace(terms, data_path=other).bars()
    with pytest.raises(DataError, match=r"gone\.parquet"):
        replace(terms, data_path=tmp_path / "gone.parquet").bars()


def test_a_simulation_that_differs_from_the_record_is_said(
    folder: StudyFolder, tmp_path: Path
) -> None:
    shutil.copytree(folder.path, tmp_path / "out")
    copy = StudyFolder.open(tmp_path / "out")
    manifest = copy.manifest()
    costs = {**manifest["study"]["costs"], "commission_bps": 30.0}
    copy.write_manifest({**manifest, "study": {**manifest["study"], "costs": costs}})
    number = int(copy.results(["set", "n_trades"]).sort_values("n_trades")["set"].iloc[-1])
    with pytest.raises(StudyError, match="differs from what is recorded"):
        open_positions(copy.path, number)


def test_code_of_the_user_is_not_run_to_show_a_set(folder: StudyFolder) -> None:
    document = {**document_of(folder, 0), "strategy": "my_own"}
    with pytest.raises(StudyError, match="its strategy is your own"):
        rerun_built_in(document, Terms.of_study(folder.manifest()), sealed=False)
