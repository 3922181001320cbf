"""One way through the bars: many parameter sets at once, in lanes.

The package can be called: ``optimizer.sweep(bars, "momentum", lookback=[20, 60])`` is
``optimizer.search.sweeping.sweep``, a whole study.
"""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """This package, with a call: its name is also that of what users do with it."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        import optimizer

        return optimizer._public("sweep")(*args, **settings)


sys.modules[__name__].__class__ = _Callable
