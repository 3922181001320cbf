"""Compiled kernels of a wheel: used where they fit, and as if they were not there elsewhere."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest

from optimizer.compile_cache import source_key
from optimizer.prebuilt import PACKS, levels, pack, pack_name, unpack
from tests.support.package_copy import CALL, INNER, package_copy, start

pytestmark = pytest.mark.skipif(not levels(), reason="packs are for x86-64-v3 and above")
CODE = f"import optimizer; {CALL}"
MAGIC = (
    "import optimizer; from numba.core.registry import cpu_target;"
    "print(cpu_target.target_context.codegen().magic_tuple())"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages with a pack of this processor's highest level, made in another folder than theirs."""
    made = package_copy(tmp_path_factory.mktemp("made"))
    level, features = next(iter(levels().items()))
    cache = made / "cache"
    given = {"NUMBA_CPU_NAME": level, "NUMBA_CPU_FEATURES": features}
    done = start(made, CODE, NUMBA_CACHE_DIR=str(cache), **given)
    assert done.stdout.split() == ["20.0", "0"], done.stderr
    assert level in start(made, MAGIC, NUMBA_CACHE_DIR=str(cache), **given).stdout
    (folder,) = (cache / "barsweep").iterdir()
    kernels = made / "kernels"
    (kernels / PACKS).mkdir()
    key = source_key(kernels, python="")
    assert pack(folder, kernels, key, kernels / PACKS / pack_name(level)) == 4
    shutil.rmtree(cache)
    return Path(made.rename(made.parent / "elsewhere"))


@pytest.fixture
def installed(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "installed"
    shutil.copytree(built, folder)
    return folder


def pack_of(folder: Path) -> Path:
    (found,) = (folder / "kernels" / PACKS).iterdir()
    return found


def test_the_first_start_compiles_nothing(installed: Path) -> None:
    done = start(installed, CODE)
    assert done.stdout.split() == ["20.0", "1"], done.stderr
    # Its code is this processor's from then on.
    pack_of(installed).unlink()
    assert start(installed, CODE).stdout.split() == ["20.0", "1"]


def test_a_processor_that_was_named_is_compiled_for(installed: Path) -> None:
    """Other machines, which lack what this one has, may read the folder."""
    done = start(installed, CODE, NUMBA_CPU_NAME="x86-64-v2")
    assert done.stdout.split() == ["20.0", "0"], done.stderr


def test_edited_kernels_are_compiled(installed: Path) -> None:
    inner = installed / "kernels" / "inner.py"
    inner.write_text(INNER.format("2.0"))
    done = start(installed, CODE)
    assert done.stdout.split() == ["30.0", "0"], done.stderr


@pytest.mark.parametrize("harm", ["cut", "other", "absent", "index"])
def test_a_pack_that_does_not_fit_is_as_if_not_there(installed: Path, harm: str) -> None:
    path = pack_of(installed)
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif harm == "absent":
        path.unlink()
    else:
        with zipfile.ZipFile(path) as source:
            entries = {name: source.read(name) for name in source.namelist()}
        (name,) = (
            ["fits"] if harm == "other" else [n for n in entries if "outer" in n and "nbi" in n]
        )
        entries[name] = b"another numba" if harm == "other" else entries[name][:-1]
        with zipfile.ZipFile(path, "w") as target:
            for name, content in entries.items():
                target.writestr(name, content)
    done = start(installed, CODE)
    assert (done.stdout.split(), done.stderr) == (["20.0", "0"], "")


def test_code_of_another_platform_is_not_taken(installed: Path) -> None:
    path = pack_of(installed)
    with zipfile.ZipFile(path) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    for name, content in entries.items():
        if name.endswith(".nbi"):
            version = pickle.loads(content)
            head = pickle.dumps(version, protocol=-1)
            stamp, overloads = pickle.loads(content[len(head) :])
            foreign = {
                (one, ("aarch64-apple-darwin", *made_for[1:]), code): file
                for (one, made_for, code), file in overloads.items()
            }
            assert foreign
            entries[name] = head + pickle.dumps((stamp, foreign), protocol=-1)
    with zipfile.ZipFile(path, "w") as target:
        for name, content in entries.items():
            target.writestr(name, content)
    done = start(installed, CODE)
    assert (done.stdout.split(), done.stderr) == (["20.0", "0"], "")


def test_a_processor_without_the_level_compiles(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: {"sse2": True})
    kernels = installed / "kernels"
    (tmp_path / "empty").mkdir()
    assert levels() == {}
    assert not unpack(kernels, source_key(kernels, python=""), tmp_path / "empty")
    assert os.listdir(tmp_path / "empty") == []
