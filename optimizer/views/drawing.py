"""Lines over time on a page without scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from optimizer.bars.times import time_text
from optimizer.types import FloatArray

_WIDTH, _HEIGHT, _LEFT = 900, 260, 70


def drawing(
    label: str,
    span: Sequence[Any],
    lines: Mapping[str, FloatArray],
    text: Callable[[float], str],
    shaded_from: int | None = None,
) -> dict[str, Any]:
    """Lines over time as the macro ``drawing`` draws them.

    Args:
        label: what they show.
        span: the first and the last time.
        lines: two by name, each of shape (n_values,).
        text: writes a value.
        shaded_from: the first value of the shaded part; None for none.

    Returns:
        Places in the picture, colours and texts.
    """
    low = min(float(one.min()) for one in lines.values())
    high = max(float(one.max()) for one in lines.values())
    if high - low <= 0.0:
        low, high = low - 1.0, high + 1.0

    def height(value: float) -> float:
        return round(10.0 + (_HEIGHT - 20.0) * (high - value) / (high - low), 1)

    def place(i: int, n_values: int) -> float:
        return round(_LEFT + (_WIDTH - _LEFT) * i / max(n_values - 1, 1), 1)

    drawn = []
    for (name, values), color, dash in zip(
        lines.items(), ("blue", "orange"), ("none", "5 3"), strict=True
    ):
        places = np.unique(np.linspace(0, len(values) - 1, 800).astype(int)).tolist()
        points = " ".join(f"{place(i, len(values))},{height(float(values[i]))}" for i in places)
        drawn.append({"name": name, "points": points, "color": color, "dash": dash})
    start, stop = (time_text(one.to_datetime64()) for one in span)
    n_values = max(map(len, lines.values()))
    return {
        "label": label,
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "lines": drawn,
        "levels": [(height(value), text(value)) for value in np.linspace(low, high, 5).tolist()],
        "start": start,
        "stop": stop,
        "shaded": None if shaded_from is None else place(shaded_from, n_values),
    }
