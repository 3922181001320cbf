"""Compiled kernels that a wheel brings along, so that a first study need not compile them.

A pack holds numba's cache of the kernels for one level of x86-64 processors. It is used where it fits:
the same sources of the kernels, compilers and bytecode, and a processor that has the level. Otherwise,
and for a kernel that it lacks, numba compiles as ever.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import platform
import sys
import zipfile
from pathlib import Path
from typing import Any

from optimizer.files import part_path

_LEVELS = {
    # LLVM would use half of the registers' width: on the first processors that had it, the whole
    # slowed the clock.
    "x86-64-v4": ("avx512f avx512bw avx512cd avx512dq avx512vl", "-prefer-256-bit"),
    "x86-64-v3": ("avx avx2 bmi bmi2 f16c fma lzcnt movbe", ""),
}
"""Levels of the x86-64 psABI that packs are made for, the highest first: the instruction sets that each
adds to the one below, and the features with which it is compiled, by LLVM's names."""

_TARGET = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")

PACKS = "prebuilt"
"""The folder of the packs, in that of the kernels."""

_FITS = "fits"
"""The entry of a pack that says what it fits; the others are files of numba's cache."""


def levels() -> dict[str, str]:
    """The levels that this processor has, the highest first.

    Returns:
        The features with which kernels are compiled for it, by the level's name.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return {}
    from llvmlite.binding import get_host_cpu_features

    host: Any = get_host_cpu_features
    present = {name for name, there in host().items() if there}
    found = {}
    for level, (adds, features) in reversed(_LEVELS.items()):
        if not present.issuperset(adds.split()):
            break
        found[level] = features
    return dict(reversed(found.items()))


def pack_name(level: str) -> str:
    """The file name of the pack of a level for this Python.

    Args:
        level: the name of the level.
    """
    return f"{level}-{sys.implementation.cache_tag}.zip"


def pack(cache: Path, kernels: Path, key: str, path: Path) -> int:
    """Pack the compiled kernels of a cache folder.

    Args:
        cache: the folder, as ``compile_cache.configure`` returns it.
        kernels: the folder of the kernels that were compiled.
        key: the kernels and compilers, see ``compile_cache.source_key``.
        path: the pack to write.

    Returns:
        How many files it holds.
    """
    folders = _cache_folders(kernels)
    found = [
        (f"{name}/{file.name}", file)
        for name, folder in folders.items()
        for file in sorted((cache / folder).glob("*.nb[ic]"))
    ]
    found += [(file.name, file) for file in sorted(cache.glob("compiled-*"))]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr(_FITS, _fits(key))
        for name, file in found:
            target.write(file, name)
    return len(found)


def unpack(kernels: Path, key: str, cache: Path) -> bool:
    """Fill an empty cache folder with the pack that fits, if there is one.

    Whatever is amiss with a pack, the kernels are compiled instead. So they are where numba was told
    what processor to compile for: other machines may read what it keeps.

    Args:
        kernels: the folder of the kernels, with the packs in it.
        key: the kernels and compilers, see ``compile_cache.source_key``.
        cache: the folder to fill.

    Returns:
        Whether it was filled.
    """
    folder = kernels / PACKS
    if not folder.is_dir() or any(os.environ.get(name) for name in _TARGET):
        return False
    for level in levels():
        path = folder / pack_name(level)
        if path.is_file():
            with contextlib.suppress(Exception):
                return _filled(path, kernels, key, cache)
    return False


def _filled(path: Path, kernels: Path, key: str, cache: Path) -> bool:
    folders = _cache_folders(kernels)
    with zipfile.ZipFile(path) as source:
        if source.read(_FITS).decode() != _fits(key):
            return False
        # An index last: what it names is there then, should this process be killed.
        for entry in sorted(source.namelist(), key=lambda name: name.endswith(".nbi")):
            folder, _, name = entry.rpartition("/")
            content = source.read(entry)
            if entry.endswith(".nbi"):
                content = _for_this_processor(content)
            if entry != _FITS:
                target = cache / folders[folder] / name if folder else cache / name
                target.parent.mkdir(exist_ok=True)
                part = part_path(target.with_name(f"{name}.{os.getpid()}"))
                part.write_bytes(content)
                part.replace(target)
    return True


def _for_this_processor(index: bytes) -> bytes:
    """An index of numba's cache whose code, made for a level, counts as made for this processor."""
    from numba.core.registry import cpu_target

    codegen: Any = cpu_target.target_context.codegen()
    triple, name, features = codegen.magic_tuple()
    version = pickle.loads(index)
    head = pickle.dumps(version, protocol=-1)
    stamp, overloads = pickle.loads(index[len(head) :])
    known = {
        (signature, (triple, name, features), source): file
        for (signature, made_for, source), file in overloads.items()
        if made_for[0] == triple
    }
    return head + pickle.dumps((stamp, known), protocol=-1)


def _cache_folders(kernels: Path) -> dict[str, str]:
    """Numba's name for the cache of each folder of the kernels, by its path from the outermost one."""
    from numba.core.caching import UserProvidedCacheLocator

    locator: Any = UserProvidedCacheLocator
    return {
        path.parent.relative_to(kernels.parent).as_posix(): locator.get_suitable_cache_subpath(
            str(path)
        )
        for path in kernels.rglob("__init__.py")
    }


def _fits(key: str) -> str:
    return f"{key} {importlib.util.MAGIC_NUMBER.hex()} {sys.platform}"
