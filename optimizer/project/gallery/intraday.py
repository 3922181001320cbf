"""Hold from one hour of the day to another."""

from optimizer import FLAT, LONG

PARAMETERS = {"enter": (21, 0, 23), "hours": (2, 1, 23)}
FEATURES = {"hour": ("hour",)}


def signal(hour, volatility, enter, hours):
    # What is decided at the close of a bar fills at the open of the next one: an hour later.
    if (hour + 1 - enter) % 24 < hours:
        return LONG, volatility, 1.0
    return FLAT, 0.0, 0.0
