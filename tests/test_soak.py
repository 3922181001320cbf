"""The soak program itself, for some seconds: ``make soak`` runs it for an hour."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from optimizer.search.run import run_study
from optimizer.store.folder import StudyFolder
from optimizer.study_file.load import load_study
from tests.support.soak import (
    SAMPLERS,
    compare,
    growth,
    main,
    share_out,
    write_study,
)
from tests.support.studies import random_bars, write_bars


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_bars(tmp_path / "bars.parquet", random_bars())
    return tmp_path


def test_nothing_is_lost_at_random_moments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both loops, one after the other as `make soak` runs them."""
    monkeypatch.setenv("BARSWEEP_LEDGER", os.environ["BARSWEEP_LEDGER"])  # to be put back
    monkeypatch.setattr(
        sys,
        "argv",
        ["soak", "--kills", "1", "--trials", "160", "--samplers", "nsga2", "--seed", "1"],
    )
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().out
    assert not end.value.code, said
    assert said.count(" 0 losses") == 2
    assert "1 kills" in said
    faults = re.search(r"160 trials, (\d+) faults", said)
    assert faults is not None and int(faults[1]) >= 2


def test_a_difference_is_named(home: Path) -> None:
    """Else the soak could find no loss."""
    file = write_study(home, "random", 12)
    whole = run_study(load_study(file), out=home / "whole", workers=1).folder
    batch, moments = "results/batch-000001.parquet", "moments/batch-000001.npy"

    def found(change: str) -> list[str]:
        shutil.rmtree(home / "damaged", ignore_errors=True)
        damaged = StudyFolder(Path(shutil.copytree(whole.path, home / "damaged")))
        if change == "of another study":
            shutil.copy(damaged.path / "results/batch-000000.parquet", damaged.path / batch)
        elif change == "moments":
            (damaged.path / moments).write_bytes((damaged.path / moments).read_bytes()[:-1] + b"!")
        elif change == "holdout":
            (damaged.path / "holdout/batch-000001.parquet").write_bytes(b"!")
        elif change == "journal":
            lines = damaged.journal_path.read_text().splitlines()
            damaged.journal_path.write_text("\n".join(lines[:-1]) + "\n")
        elif change == "selection":
            path = damaged.path / "selection.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "more": 1}))
        elif change == "unfinished":
            damaged.write_manifest({**damaged.manifest(), "complete": False})
        elif change == "left":
            (damaged.path / "shared-1-2").mkdir()
        return compare(damaged, whole)

    assert found("nothing") == []
    assert found("of another study") == [
        "results differ", "trials differ", "numbers of trials differ", "numbers of sets differ",
    ]  # fmt: skip
    assert found("moments") == ["moments differ"]
    assert found("holdout") == ["holdout differ"]
    assert found("journal") == ["journal differ"]
    assert found("selection") == ["selection differ"]
    assert found("unfinished") == ["manifest differ"]
    assert found("left") == ["leftovers differ"]


def test_growth_is_that_of_the_search() -> None:
    rows = [(0.0, 90.0), (0.1, 100.0), (0.25, 104.0), (0.5, 900.0), (0.95, 110.0), (1.0, 500.0)]
    assert growth(rows) == 110.0 - 104.0
    assert growth(rows[:3]) == 0.0


def test_trials_are_shared_out() -> None:
    shares = share_out(10_000, SAMPLERS)
    assert list(shares) == list(SAMPLERS)
    assert 10_000 <= sum(shares.values()) <= 10_200
    assert share_out(100, ("tpe",)) == {"tpe": 80}
