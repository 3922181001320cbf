"""What differs between two studies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def differences(
    before: Any, now: Any, place: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Where two studies differ.

    Args:
        before, now: what ``Study.to_dict`` returned for each.
        place: keys that lead to them.

    Yields:
        The keys that lead to a difference, and both values.
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            yield from differences(before.get(key), now.get(key), (*place, key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (one, other) in enumerate(zip(before, now, strict=True), 1):
            yield from differences(one, other, (*place, f"#{number}"))
    elif before != now:
        yield place, before, now
