"""Results of worker processes, by file.

A process that is killed while it writes to a pipe leaves half a message there, and whoever reads it
waits for the rest forever. So no message comes back through the pool that a pipe does not take in one
piece: a receipt names a file that holds the rest. The file has a plain header and raw arrays, no
pickle, and is there whole or not at all. Arguments may go through a pipe: loky notices when their
reader dies.
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
from optimizer.sweep.tiles import TileResult

RECEIPT_BYTES = 128
"""Largest receipt: with what joblib adds below 512 bytes, which POSIX writes to a pipe in one piece.

Linux does so up to 4,096 bytes.
"""


_Kind = TypeVar("_Kind", bound=type)

_RESTORED: dict[str, type] = {}
"""What an object of a file may become, by name; a file names nothing else."""


def restorable(kind: _Kind) -> _Kind:
    """Let results hold objects of a class.

    Args:
        kind: a dataclass, or an error of one text.
    """
    _RESTORED[kind.__name__] = kind
    return kind


for _kind in (
    BarsweepError, DataError, ExportError, SignalError, StrategyError, StudyError, StudyFileError,
    UntrustedCodeError, TileResult,
):  # fmt: skip
    restorable(_kind)


class LostResultError(Exception):
    """A file that a receipt names is gone or damaged."""


@dataclass(frozen=True)
class Receipt:
    """What comes back through the pool.

    Attributes:
        number: of the call, which names the file of its result.
        checksum: CRC-32 of the file.
        error: why there is no file, as an ``errno``; 0 where there is one.
    """

    number: int
    checksum: int
    error: int = 0

    def __post_init__(self) -> None:
        assert len(ForkingPickler.dumps(self)) <= RECEIPT_BYTES


class Handover:
    """The parent's end.

    Args:
        folder: for the files, absolute; the caller removes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    def task(self, function: Callable[..., Any], call: Sequence[Any]) -> tuple[Any, ...]:
        """The arguments of ``respond`` for a call of a function."""
        return (str(self._folder), next(self._numbers), function, *call)

    def receive(self, receipt: Receipt) -> Any:
        """What the function returned. The file is removed.

        Raises:
            BarsweepError: the function raised it.
            LostResultError: the file of the result is gone or damaged.
            MemoryError: the worker ran out of memory.
            RuntimeError: the function raised something else; the text is its traceback.
            StudyError: the result cannot be written.
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
        """Remove what dead workers left."""
        for path in self._folder.glob("result-*"):
            path.unlink(missing_ok=True)


def respond(folder: str, number: int, function: Callable[..., Any], *call: Any) -> Receipt:
    """In a worker: call a function and write what it returns.

    It raises nothing: an exception would travel with its traceback, which has any length.
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
    """Write bytes and return the checksum of the file, which is there whole or not at all.

    No ``fsync``: it has to outlive a process, not the machine.
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
    """Length of the header, the header as JSON, the bytes of its arrays."""
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
        # A copy is aligned and writable: numba compiles for that, and callers may change it.
        return flat.reshape(shape).copy()

    return _valued(json.loads(content[_LENGTH_BYTES:place]), array)


def _plain(value: Any, arrays: list[npt.NDArray[Any]]) -> Any:
    """As JSON has it, with arrays put aside; each object but a list names what it stands for."""
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
    """What ``_plain`` was given; arrays come in the order of the file."""
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
