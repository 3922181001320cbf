"""What one process of the tests has compiled serves the others, which all start with nothing."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

from optimizer import compile_cache

NAME = "tests-"


def own_folder(worker: str) -> None:
    """Give a worker of pytest-xdist a folder of compiled kernels that no other writes to.

    Several processes that compile into one folder at once can leave it broken.
    """
    shared = Path(os.environ["NUMBA_CACHE_DIR"]).parent
    os.environ["NUMBA_CACHE_DIR"] = str(shared / f"{NAME}{worker}")
    compile_cache.configure()


def share() -> None:
    """Copy a kernel that this worker's folder lacks from one that has it, instead of compiling it.

    numba names a kernel in a folder's index before it writes its machine code: until that is there,
    the kernel counts as not compiled.
    """
    from numba.core import caching

    from optimizer.engine import ahead

    # The process that compiles ahead would compile what another worker has. It needs two cores.
    compiling: Any = ahead
    compiling.cpu_count = lambda: 1
    own = Path(os.environ["NUMBA_CACHE_DIR"])
    base = own.parent.parent
    if not base.name.startswith(NAME):
        return
    file: Any = caching.IndexDataCacheFile
    load = file.load

    def load_or_copy(self: Any, key: object) -> object:
        data, path = load(self, key), Path(self._cache_path)
        if data is not None or not path.is_relative_to(own):
            return data
        for other in base.parent.glob(f"{NAME}*/{own.relative_to(base)}"):
            there = copy.copy(self)
            there._cache_path = str(other / path.relative_to(own))
            there._index_path = os.path.join(there._cache_path, self._index_name)
            data = load(there, key)
            if data is not None:
                path.mkdir(parents=True, exist_ok=True)
                self.save(key, data)
                return data
        return None

    file.load = load_or_copy
