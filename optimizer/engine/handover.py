"""Results of worker processes, handed over in files.

A process that is killed while it writes to a pipe leaves half a message there, and the reader waits
forever for the rest. So every message that a worker sends through the pool is short enough to be
written in one piece: a receipt, which names a file with the result. The file has a plain header and raw
arrays, no pickle, and appears complete or not at all. Arguments may go through a pipe, because loky
notices when their reader dies.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import traceback
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from optimizer.errors import (
    BarsweepError,
    DataError,
    ExportError,
    SignalError,
    StrategyError,
    StudyError,
    StudyFileError,
    UntrustedCodeError,
)
from optimizer.files import cannot_write
from optimizer.sweep.inputs import MarketRegime
from optimizer.sweep.tiles import TileResult

RECEIPT_BYTES = 128
"""Largest pickled receipt. With what joblib adds, the message is shorter than 512 bytes.

POSIX writes 512 bytes to a pipe in one piece, Linux 4,096.
"""


_Kind = TypeVar("_Kind", bound=type)

_RESTORED: dict[str, type] = {}
"""What an object of a file may become, by name; a file names nothing else."""


def restorable(kind: _Kind) -> _Kind:
    """Let results hold objects of a class.

    Args:
        kind: a dataclass, or an error of one text.

    Returns:
        The class itself, so that this works as a decorator.
    """
    _RESTORED[kind.__name__] = kind
    return kind


for _kind in (
    BarsweepError, DataError, ExportError, SignalError, StrategyError, StudyError, StudyFileError,
    UntrustedCodeError, MarketRegime, TileResult,
):  # fmt: skip
    restorable(_kind)


class LostResultError(Exception):
    """The file that a receipt names is missing or damaged."""


@dataclass(frozen=True)
class Receipt:
    """What comes back through the pool.

    Attributes:
        number: number of the call; it is part of the file's name.
        checksum: CRC-32 of the file.
        error: the ``errno`` that says why there is no file; 0 if there is one.
    """

    number: int
    checksum: int
    error: int = 0

    def __post_init__(self) -> None:
        assert len(ForkingPickler.dumps(self)) <= RECEIPT_BYTES


class Handover:
    """The parent's end of the handover.

    Args:
        folder: where the files are written, an absolute path; the caller removes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    def task(self, function: Callable[..., Any], call: Sequence[Any]) -> tuple[Any, ...]:
        """Number a call.

        Args:
            function: the function that a worker is to call.
            call: its arguments.

        Returns:
            The arguments of ``respond``.
        """
        return (str(self._folder), next(self._numbers), function, *call)

    def receive(self, receipt: Receipt) -> Any:
        """Read the result of a call, and remove its file.

        Args:
            receipt: what ``respond`` returned.

        Returns:
            What the function returned; arrays are copies, aligned and writable.

        Raises:
            BarsweepError: the function raised it.
            LostResultError: the file of the result is missing or damaged.
            MemoryError: the worker ran out of memory.
            RuntimeError: the function raised another exception; the message holds its traceback.
            StudyError: the worker could not write the result.
        """
        path = _result_path(self._folder, receipt.number)
        if receipt.error == errno.ENOMEM:
            raise MemoryError
        if receipt.error:
            raise cannot_write(path, OSError(receipt.error, ""))
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise LostResultError(path) from None
        path.unlink()
        if zlib.crc32(content) != receipt.checksum:
            raise LostResultError(path)
        try:
            result = _unpacked(content)
        except (KeyError, TypeError, ValueError):  # no worker of ours wrote it
            raise LostResultError(path) from None
        if isinstance(result, BarsweepError):
            raise result
        if isinstance(result, _Raised):
            raise RuntimeError(f"a task failed in its worker:\n{result.traceback}")
        return result

    def clear(self) -> None:
        """Remove the results that dead workers left."""
        for path in self._folder.glob("result-*"):
            path.unlink(missing_ok=True)


def respond(folder: str, number: int, function: Callable[..., Any], *call: Any) -> Receipt:
    """In a worker, call a function and write its result.

    Nothing is raised, because an exception would travel with its traceback, whose length has no limit.

    Args:
        folder: where the result is written.
        number: number of the call.
        function: the function.
        call: its arguments.

    Returns:
        The receipt, which also says if there was no memory or the result could not be written.
    """
    try:
        try:
            result = _packed(function(*call))
        except MemoryError:
            raise
        except BarsweepError as error:
            result = _packed(error)
        except BaseException:
            result = _packed(_Raised(traceback.format_exc()))
        return Receipt(number, _write(_result_path(Path(folder), number), result))
    except MemoryError:
        return Receipt(number, 0, errno.ENOMEM)
    except OSError as error:
        return Receipt(number, 0, error.errno or errno.EIO)


@restorable
@dataclass(frozen=True)
class _Raised:
    traceback: str


def _result_path(folder: Path, number: int) -> Path:
    return folder / f"result-{number}"


def _write(path: Path, blocks: Iterable[bytes]) -> int:
    """Write a file that appears complete or not at all; returns its checksum.

    No ``fsync``: the file has to outlive a process, not a crash of the machine.
    """
    part = path.with_name(f"{path.name}.part")
    checksum = 0
    try:
        with part.open("wb") as file:
            for block in blocks:
                file.write(block)
                checksum = zlib.crc32(block, checksum)
        part.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    return checksum


# --- The format -------------------------------------------------------------------------------

_LENGTH_BYTES = 8


def _packed(value: Any) -> list[bytes]:
    """The blocks of a file: length of the header, the header as JSON, the bytes of each array."""
    arrays: list[npt.NDArray[Any]] = []
    header = json.dumps(_plain(value, arrays)).encode()
    length = len(header).to_bytes(_LENGTH_BYTES, "little")
    return [length, header, *(array.tobytes() for array in arrays)]


def _unpacked(content: bytes) -> Any:
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    place = _LENGTH_BYTES + length

    def array(dtype: str, shape: Sequence[int]) -> npt.NDArray[Any]:
        nonlocal place
        count = int(np.prod(shape, dtype=np.int64))
        flat = np.frombuffer(content, dtype, count, place)
        place += flat.nbytes
        # A copy is aligned, as compiled kernels expect it, and writable, since callers may change it.
        return flat.reshape(shape).copy()

    return _valued(json.loads(content[_LENGTH_BYTES:place]), array)


def _plain(value: Any, arrays: list[npt.NDArray[Any]]) -> Any:
    """A value as plain JSON, its arrays appended to ``arrays``.

    Anything that JSON lacks becomes an object with one key, which names its kind.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case np.ndarray():
            assert not value.dtype.hasobject
            arrays.append(value)
            return {"array": [value.dtype.str, value.shape]}
        case list():
            return [_plain(one, arrays) for one in value]
        case tuple():
            return {"tuple": [_plain(one, arrays) for one in value]}
        case BarsweepError():
            return {"object": [_name_of(value), str(value)]}
    if is_dataclass(value):
        own = [_plain(getattr(value, one.name), arrays) for one in fields(value)]
        return {"object": [_name_of(value), *own]}
    raise TypeError(f"a worker cannot give back {type(value).__name__}")


def _valued(plain: Any, array: Callable[[str, Sequence[int]], npt.NDArray[Any]]) -> Any:
    """The value that ``_plain`` was given; ``array`` reads the next array of the file."""
    if isinstance(plain, list):
        return [_valued(one, array) for one in plain]
    if not isinstance(plain, dict):
        return plain
    [(kind, content)] = plain.items()
    if kind == "array":
        return array(*content)
    own = [_valued(one, array) for one in content]
    if kind == "tuple":
        return tuple(own)
    return _RESTORED[own[0]](*own[1:])


def _name_of(value: Any) -> str:
    """Name of the class of a value, or of the nearest one above it that can be restored."""
    for kind in type(value).__mro__:
        if _RESTORED.get(kind.__name__) is kind:
            return kind.__name__
    raise TypeError(f"a worker cannot give back {type(value).__name__}")
