"""Calls and results by file: every value as it was, a short receipt, and no damage goes unseen."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor

from optimizer.engine import handover as module
from optimizer.engine.handover import Handover, LostResultError, Receipt, respond
from optimizer.engine.pool import Pool
from optimizer.engine.tasks import TileFailure
from optimizer.errors import DataError, SignalError, StudyError
from optimizer.search.prepare import prepare_study
from optimizer.sweep.tiles import TileResult
from tests.support.faults import say
from tests.support.studies import random_bars, small_study, write_bars

ATOMIC_BYTES = 512
"""What every POSIX system writes to a pipe in one piece."""

RESULT = TileResult(
    np.array([[np.nan, -0.0, np.inf], [5e-324, 0.1, -1.0]]),
    np.zeros((0, 3)),
    np.arange(12, dtype=np.float64).reshape(2, 2, 3).transpose(1, 0, 2),
    np.zeros((2, 2), np.float32),
)
KEY = ("hmm", None, (("lookback", 10), ("train_bars", 60)))


def first(*values: Any) -> Any:
    return values[0]


@pytest.fixture
def handover(tmp_path: Path) -> Handover:
    return Handover(tmp_path)


def there_and_back(handover: Handover, value: Any) -> Any:
    return handover.receive(respond(*handover.task(first, [value])))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -3,
        2**70,
        0.1,
        float("inf"),
        "\u00e9\ud800\n",
        [],
        [(), (1,), [2.0]],
        KEY,
        TileFailure("why"),
    ],
)
def test_a_value_comes_back_as_it_was(value: Any, handover: Handover, tmp_path: Path) -> None:
    found = there_and_back(handover, value)
    assert found == value
    assert type(found) is type(value)
    assert not list(tmp_path.iterdir())


def test_arrays_come_back_bit_for_bit(handover: Handover) -> None:
    codes = np.array([-1, 0, 1], dtype=np.int8)
    results, found, seconds = there_and_back(handover, ([RESULT, RESULT], codes, 0.25))
    for result in results:
        for name in ("in_sample", "out_of_sample", "moments"):
            one, other = getattr(result, name), getattr(RESULT, name)
            assert one.dtype == other.dtype and one.shape == other.shape
            assert one.tobytes() == other.tobytes()
            assert one.flags.writeable and one.flags.aligned and one.flags.c_contiguous
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, codes)
    assert seconds == 0.25


ERRORS: dict[str, Any] = {
    "data": DataError("own.py: why"),
    "signal": SignalError("own.py: why"),
    "memory": MemoryError(),
    "bug": ZeroDivisionError("why"),
    "exit": SystemExit(3),
}


def fail(name: str) -> None:
    raise ERRORS[name]


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("data", DataError, r"^own\.py: why$"),
        ("signal", SignalError, r"^own\.py: why$"),
        ("memory", MemoryError, "^$"),
        ("bug", RuntimeError, r"(?s)failed in its worker:.* in fail\n.*ZeroDivisionError: why"),
        ("exit", RuntimeError, "SystemExit: 3"),
    ],
)
def test_an_error_comes_back(
    name: str, kind: type[BaseException], text: str, handover: Handover, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=text) as raised:
        handover.receive(respond(*handover.task(fail, [name])))
    assert type(raised.value) is kind
    assert not list(tmp_path.iterdir())


def test_what_is_no_plain_value_is_refused(handover: Handover) -> None:
    with pytest.raises(RuntimeError, match="cannot give back complex"):
        handover.receive(respond(*handover.task(complex, [1, 2])))


@pytest.mark.parametrize("place", [0, 7, 8, 60, -1])
def test_a_damaged_result_is_lost(place: int, handover: Handover, tmp_path: Path) -> None:
    receipt = respond(*handover.task(first, [RESULT]))
    path = tmp_path / f"result-{receipt.number}"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(LostResultError):
        handover.receive(receipt)


def test_a_result_that_is_gone_is_lost(handover: Handover, tmp_path: Path) -> None:
    receipt = respond(*handover.task(first, [1]))
    (tmp_path / f"result-{receipt.number}").unlink()
    with pytest.raises(LostResultError):
        handover.receive(receipt)


def test_a_full_disk_is_one_line(
    handover: Handover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker says so by the number of the error."""

    def full(_: Any) -> Iterator[bytes]:
        yield b"half"
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(module, "_packed", full)
    with pytest.raises(StudyError, match=r"result-0: cannot be written: No space .* MB free"):
        handover.receive(respond(*handover.task(first, [1])))
    assert not list(tmp_path.iterdir())


def test_what_the_dead_left_is_removed(handover: Handover, tmp_path: Path) -> None:
    kept = tmp_path / "close.npy"
    kept.touch()
    respond(*handover.task(first, [1]))
    (tmp_path / "result-1.part").write_bytes(b"half")
    handover.clear()
    assert list(tmp_path.iterdir()) == [kept]


def test_a_receipt_is_short() -> None:
    Receipt(2**63, 2**32, 2**15)
    with pytest.raises(AssertionError):
        Receipt(2**1000, 0)


def test_no_message_is_longer_than_a_pipe_takes_in_one_piece(tmp_path: Path) -> None:
    """Whatever comes back: results, texts, errors."""
    data = write_bars(tmp_path / "bars.parquet", random_bars())
    study = small_study(data)
    inputs = prepare_study(study, tmp_path, 1, None).inputs
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
    said = tmp_path / "said"
    with Pool(tmp_path / "shared", study, inputs, 2) as pool:
        calls = [(kind, 10**6, str(said)) for kind in ("array", "text", "failure")]
        array, text, failure = pool.map(say, calls)
        np.testing.assert_array_equal(array, np.arange(10**6))
        assert text == "x" * 10**6
        assert failure == TileFailure("x" * 10**6)
        for kind, expected in (("error", StudyError), ("bug", RuntimeError)):
            with pytest.raises(expected, match=r"x{1000000}"):
                pool.map(say, [(kind, 10**6, str(said))])
    lengths = [int(line) for line in said.read_text().splitlines()]
    assert len(lengths) >= 5
    assert max(lengths) <= ATOMIC_BYTES
