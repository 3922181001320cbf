"""Reading JSON that may come from anybody: within bounds, of the expected types, or refused in one line.

A value is never used before its model has accepted it. The models are strict: a text is no number, and
a whole number no flag.
"""

from __future__ import annotations

import json
import math
import re
import stat
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from optimizer.text import name_problem, path_problem, quoted

MOST_BYTES = 64_000_000
"""A longer file is refused before it is read; the longest that barsweep writes is far below."""

LARGEST = 1e300
"""Numbers beyond are refused: sums and products of them overflow."""


def _name(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    if problem := name_problem(value):
        raise ValueError(problem)
    return value


def _path(value: str) -> str:
    if problem := path_problem(value):
        raise ValueError(problem)
    return value


Name = Annotated[str, AfterValidator(_name)]
"""A name, see ``name_problem``."""

PathText = Annotated[str, AfterValidator(_path)]
"""A path or another text of one line, as long as a path may be."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
"""A hash in hexadecimal digits."""

Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]
"""A whole number that a double holds exactly."""


BarsPerYear = Annotated[float, Field(ge=1e-3, le=1e9, allow_inf_nan=False)]
"""What annualizes: bars of a millennium to bars of some hundredths of a second."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Record(BaseModel):
    """Base of the models: strict; keys of other versions are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


def read_text(file: Path) -> str:
    """The text of a regular file.

    Args:
        file: the file to be read.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, which might never end, is too long, or is not UTF-8.
    """
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if status.st_size > MOST_BYTES:
        raise ValueError(
            f"it has {status.st_size / 1e6:,.0f} MB, more than {MOST_BYTES / 1e6:,.0f}"
        )
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text: {error.reason} at byte {error.start}") from None


def read_json(file: Path) -> Any:
    """The content of a JSON file, without NaN and infinity.

    Args:
        file: the file to be read.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, too long or nested too deep.
    """
    return parse_json(read_text(file))


def parse_json(text: str | bytes) -> Any:
    """The value that a JSON text states, without NaN and infinity, and without half surrogates.

    Args:
        text: the text of a file; bytes are UTF-8.

    Raises:
        ValueError: it is no JSON, nested too deep, or has a text that no file can hold.
    """
    if isinstance(text, bytes):
        text = text.decode()
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if _SURROGATE.search(text):  # whole pairs among them are one character each
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ValueError(f"a text in it has half a character, \\u{ord(half):04x}") from None
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def problem_of(error: ValidationError) -> str:
    """The first problem that a model found, such as ``symbols #2: got 3; a text is expected``.

    Args:
        error: the error of the model.
    """
    first = error.errors(include_url=False)[0]
    place = place_text(first["loc"])
    if first["type"] == "missing":
        return f"{place}: missing"
    reason = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    reason = reason if first["type"] == "value_error" else f"expected {reason}"
    return f"{place}: got {quoted(first['input'], 40)}; {reason}"


def place_text(place: tuple[int | str, ...]) -> str:
    """A place in a file as messages name it: keys, and list items counted from 1.

    Args:
        place: keys and indices.
    """
    names = (f"#{part + 1}" if isinstance(part, int) else quoted(part).strip('"') for part in place)
    return " ".join(names) or "the whole file"
