"""The table ``[validation]`` of a study file."""

from __future__ import annotations

from typing import Any

import pytest

from optimizer.errors import StudyFileError
from optimizer.study_file.study import study_from_dict
from tests.support.studies import mapping


@pytest.mark.parametrize(
    ("validation", "words"),
    [
        ({"blocks": 7}, ["[validation] blocks: got 7", "expected an even number"]),
        ({"blocks": 0}, ["[validation] blocks: got 0"]),
        ({"blocks": 26}, ["[validation] blocks: got 26", "24"]),
        ({"blocks": 4.5}, ["[validation] blocks: got 4.5"]),
        ({"method": "walk"}, ["[validation] method: got", "walk_forward"]),
        ({"method": 3}, ["[validation] method: got 3"]),
        ({"blocks": 8, "train_blocks": 8}, ["[validation] train_blocks: got 8", "blocks = 8"]),
        ({"train_blocks": 0}, ["[validation] train_blocks: got 0"]),
        ({"anchored": "yes"}, ["[validation] anchored: got", "true"]),
        ({"blocks": 6, "method": "cpcv", "test_blocks": 3},
         ["[validation] test_blocks: got 3", "embargo_blocks = 1", "blocks = 6"]),
        ({"blocks": 6, "method": "cpcv", "test_blocks": 1, "purge_blocks": 2},
         ["[validation] test_blocks: got 1", "purge_blocks = 2", "blocks = 6"]),
        ({"blocks": 8, "train_blocks": 5, "purge_blocks": 3},
         ["[validation] purge_blocks: got 3", "train_blocks = 5", "blocks = 8"]),
        ({"purge_blocks": -1}, ["[validation] purge_blocks: got -1"]),
        ({"test_blocks": 0}, ["[validation] test_blocks: got 0"]),
        ({"embargo_blocks": -1}, ["[validation] embargo_blocks: got -1"]),
        ({"embargo": 1}, ["[validation] embargo: unknown key", "embargo_blocks"]),
        ({"holdout": 0.9}, ["[validation] holdout: got 0.9"]),
    ],
)  # fmt: skip
def test_wrong_values_of_validation_are_one_line(
    validation: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(StudyFileError) as raised:
        study_from_dict(mapping(validation=validation))
    assert "\n" not in str(raised.value)
    for word in words:
        assert word in str(raised.value)


def test_values_of_validation_that_fit() -> None:
    for validation in (
        {"blocks": 6, "method": "cpcv", "test_blocks": 3, "embargo_blocks": 0},
        {"blocks": 8, "train_blocks": 7, "anchored": True, "method": "walk_forward"},
        {"blocks": 24},
    ):
        found = study_from_dict(mapping(validation=validation))
        assert study_from_dict(found.to_dict()).validation == found.validation
