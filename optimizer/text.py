"""Parts of messages: counts, lists, values and names, cut to a readable length."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def counted(number: int, what: str) -> str:
    """A number and what it counts, in the singular where it is 1: ``1 trial``, ``2,048 trials``.

    Args:
        number: 0 or more.
        what: the noun for one of them.
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def probability(value: float | None) -> str:
    """A probability that no sample makes certain: never shown as 0 or 1.

    Args:
        value: 0 to 1; None or NaN where it is undefined.

    Returns:
        Three significant digits, ``>0.999``, ``<0.001``, or ``-``.
    """
    if value is None or math.isnan(value):
        return "-"
    return ">0.999" if value > 0.999 else "<0.001" if value < 0.001 else f"{value:.3g}"


def list_text(names: Iterable[str], limit: int = 20) -> str:
    """A list of up to ``limit`` names with commas, and how many more there are.

    Args:
        names: the names in order.
        limit: most names.
    """
    shown = list(names)
    more = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {more} more" if more > 0 else "")


def one_line(error: BaseException) -> str:
    """The message of another library's error, on one line without a full stop at the end.

    Args:
        error: the error of another library.
    """
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def path_text(path: str | Path) -> str:
    """A path as messages show it: relative if it is under the current folder.

    Args:
        path: the path of a file or folder.
    """
    path = Path(path)
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def quoted(value: object, limit: int = 60) -> str:
    """A value as a study file would write it, a text in quotes, cut to ``limit`` characters.

    Args:
        value: a value of any kind.
        limit: characters.
    """
    try:
        text = _literal(value)
    except RecursionError:
        return "a value nested too deep to print"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _literal(value: object) -> str:
    if isinstance(value, (bool, str)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_literal, value)) + "]"
    try:
        return str(value)
    except ValueError:  # an integer of thousands of digits
        return "a number too long to print"


LONGEST_NAME = 200
"""Characters of a name: of a study, a symbol, a strategy, a parameter."""

LONGEST_PATH = 1024
"""Characters of a path that a file names; three of them joined are still one for the system."""

_LONGEST_PART = 255


def name_problem(name: str, longest: int = LONGEST_NAME) -> str:
    """Why a text from a file cannot be a name; empty if it can. The rule for every kind of file.

    A name is printable: it has no control characters, no line breaks, and no marks that change the
    direction of writing, which would show another name than there is.

    Args:
        name: the name of a study, a symbol, a strategy or a parameter.
        longest: characters.
    """
    if len(name) > longest:
        return f"has {len(name):,} characters; a name has at most {longest:,}"
    if not name.isprintable():
        return "has characters that cannot be printed; remove them"
    return ""


def path_problem(path: str) -> str:
    """Why a text from a file cannot be a path; empty if it can.

    Args:
        path: the path as the file has it.
    """
    if problem := name_problem(path, LONGEST_PATH):
        return problem
    longest = max(len(part.encode(errors="replace")) for part in path.replace("\\", "/").split("/"))
    if longest > _LONGEST_PART:
        return f"has a part of {longest:,} bytes; a file name has at most {_LONGEST_PART}"
    return ""


def suggest(name: str, valid: Sequence[str], limit: int = 1_000) -> str:
    """The end of a message about an unknown name: the nearest valid one, if any, and all of them.

    Args:
        name: what was given.
        valid: every valid name.
        limit: most names to list.
    """
    lowered = {known.lower(): known for known in valid}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    hint = f'did you mean "{lowered[near[0]]}"? ' if near else ""
    return f"{hint}valid: {list_text(valid, limit)}"
