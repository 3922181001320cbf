"""The time of MetaTrader's servers: that of New York plus seven hours; a day ends with its session.

Most brokers keep it, for five daily bars a week. No database of time zones has it: it is UTC+2, and UTC+3
while New York, not Europe, has summer time.
"""

from __future__ import annotations

import importlib.resources
import io
import struct
import zoneinfo
from functools import cache
from pathlib import Path

NAME = "MetaTrader"
"""The name under which `--timezone` takes it."""

_AHEAD = 7 * 3600
_HEADER = struct.Struct(">4sc15x6l")
_LOCAL_TIME = struct.Struct(">lBB")
_RULE = b"\n<+02>-2<+03>-3,M3.2.0/9,M11.1.0/9\n"
"""The rule after the last change of the clock that is listed, as POSIX writes it."""


@cache
def server_zone() -> zoneinfo.ZoneInfo:
    """The zone, from New York's: the clock changes at the same moments.

    Returns:
        A zone that knows every change of New York's clock.

    Raises:
        zoneinfo.ZoneInfoNotFoundError: this machine has no time zones.
    """
    data = bytearray(_new_york())
    start = 0
    for time_size in (4, 8):  # the same twice: for readers of the first version, and for all others
        *_, n_utc, n_standard, n_leaps, n_times, n_types, n_letters = _HEADER.unpack_from(
            data, start
        )
        types = start + _HEADER.size + n_times * (time_size + 1)
        for place in range(types, types + n_types * _LOCAL_TIME.size, _LOCAL_TIME.size):
            offset, summer, name = _LOCAL_TIME.unpack_from(data, place)
            _LOCAL_TIME.pack_into(data, place, offset + _AHEAD, summer, name)
        start = types + n_types * _LOCAL_TIME.size + n_letters
        start += n_leaps * (time_size + 4) + n_standard + n_utc
    return zoneinfo.ZoneInfo.from_file(io.BytesIO(bytes(data[:start]) + _RULE), key=NAME)


def _new_york() -> bytes:
    """The file of New York's time zone (RFC 8536), of this machine or of the package tzdata."""
    for folder in zoneinfo.TZPATH:
        path = Path(folder) / "America" / "New_York"
        if path.is_file():
            return path.read_bytes()
    try:
        return (
            importlib.resources.files("tzdata.zoneinfo.America").joinpath("New_York").read_bytes()
        )
    except (ModuleNotFoundError, OSError):
        raise zoneinfo.ZoneInfoNotFoundError(NAME) from None
