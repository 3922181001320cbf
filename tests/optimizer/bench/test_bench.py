"""The bench: what it counts in assembly, its JSON, its comparison, its bad inputs. No timings."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.growth import exponent
from benchmarks.tables import markdown, publish
from kernels import layout
from kernels._jit import jit_borrowing
from optimizer.bench import suite
from optimizer.bench.assembly import Mix, instruction_mix, instruction_set
from optimizer.bench.case import Repeated
from optimizer.bench.limits import Limits
from optimizer.bench.machine import Machine, this_machine
from optimizer.bench.record import Bench, Measurement, compare_times, load_times, same_machine
from optimizer.cli import main
from optimizer.errors import DataError
from optimizer.types import FloatArray
from tests.support.command import barsweep

x86 = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="reads x86 assembly"
)

# --- Instructions ---------------------------------------------------------------------------------

LOOP = """
\tvbroadcastsd\t%xmm0, %zmm0
.LBB0_1:
\tvmovupd\t(%rax,%rsi,8), %zmm1
\tvmovupd\t64(%rax,%rsi,8), %zmm2
\tvmulpd\t(%rcx,%rsi,8), %zmm1, %zmm1
\tvmulpd\t64(%rcx,%rsi,8), %zmm2, %zmm2
\tvdivpd\t%zmm1, %zmm0, %zmm1
\tvdivpd\t%zmm2, %zmm0, %zmm2
\tvmovupd\t%zmm1, (%rdx,%rsi,8)
\tvmovupd\t%zmm2, 64(%rdx,%rsi,8) {%k1}
\tvaddsd\t%xmm3, %xmm4, %xmm4
\taddq\t$16, %rsi
\tcmpq\t$64, %rsi
\tjne\t.LBB0_1
\tretq
"""


def test_a_loop_is_counted_for_8_lanes() -> None:
    assert instruction_mix(LOOP) == [Mix(divides=1, arithmetic=1, loads=2, stores=1)]
    assert instruction_set(LOOP) == "AVX-512 zmm"


def test_a_narrower_register_needs_more_instructions() -> None:
    narrow = LOOP.replace("%zmm", "%ymm").replace("$16", "$8")
    assert instruction_mix(narrow) == [Mix(divides=2, arithmetic=2, loads=4, stores=2)]
    assert instruction_set(narrow) == "AVX2 ymm"


def test_a_counter_in_bytes() -> None:
    text = LOOP.replace("(%rax,%rsi,8)", "(%rax,%rsi)").replace("(%rcx,%rsi,8)", "(%rcx,%rsi)")
    text = text.replace("(%rdx,%rsi,8)", "(%rdx,%rsi)").replace("$16", "$128")
    assert instruction_mix(text) == [Mix(divides=1, arithmetic=1, loads=2, stores=1)]


def test_code_outside_a_loop_was_unrolled_over_all_lanes() -> None:
    text = "\n".join(f"\tvaddpd\t{64 * k}(%rax), %zmm{k}, %zmm{k}" for k in range(8))
    assert instruction_mix(text, lanes=64) == [Mix(arithmetic=1, loads=1)]


def test_a_pointer_that_moves_by_whole_rows_is_no_counter_of_lanes() -> None:
    rows = "\n".join(f"\tvaddpd\t{64 * k}(%rax), %zmm{k}, %zmm{k}" for k in range(8))
    text = f".LBB0_1:\n{rows}\n\taddq\t$16128, %rax\n\tjne\t.LBB0_1\n"
    assert instruction_mix(text, lanes=64) == [Mix(arithmetic=1, loads=1)]


def test_scalar_code_has_none() -> None:
    assert instruction_mix("\tvaddsd\t%xmm1, %xmm0, %xmm0\n\tretq\n") == []
    assert instruction_set("\tvaddsd\t%xmm1, %xmm0, %xmm0\n") == "scalar"


@jit_borrowing
def _known(x: FloatArray, y: FloatArray, a: float) -> None:
    """One load, one multiplication with memory, one division, one store."""
    for b in range(layout.B):
        y[layout.EQUITY + b] = a / (x[layout.CASH + b] * x[layout.EQUITY + b])


@x86
def test_a_known_kernel() -> None:
    x, y = layout.aligned_zeros((2 * layout.STRIDE,)), layout.aligned_zeros((2 * layout.STRIDE,))
    x[: layout.LANES] = np.arange(layout.LANES) + 1.0
    x[layout.STRIDE : layout.STRIDE + layout.LANES] = 2.0
    repeated = Repeated(_known)
    repeated(3, x, y, 8.0)
    assert y[layout.STRIDE + 3] == 1.0
    total = Mix()
    for mix in instruction_mix(repeated.assembly):
        total += mix
    per_8 = 8 / {"zmm": 8, "ymm": 4, "xmm": 2}[instruction_set(repeated.assembly).split()[1]]
    assert (total.divides, total.arithmetic) == (per_8, per_8)
    # Unless the compiler keeps a second version for buffers that overlap, there is nothing more.
    assert (total.loads, total.stores) == (2 * per_8, per_8)


def test_buffers_begin_on_a_cache_line() -> None:
    for shape in ((3,), (20, layout.STRIDE), (70_001,)):
        zeros = layout.aligned_zeros(shape)
        assert zeros.ctypes.data % layout.CACHE_LINE == 0
        assert zeros.shape == shape and zeros.flags.c_contiguous and not zeros.any()
    assert layout.STRIDE * 8 % layout.CACHE_LINE == 0


def test_the_busiest_unit_sets_the_bound() -> None:
    limits = Limits(divide_ns=3.0, arithmetic_ns=0.25, load_ns=0.5, store_ns=1.0, read_gb_s=10.0)
    assert limits.bound_ns(Mix(divides=2, arithmetic=8, loads=4, stores=2)) == 6.0
    assert limits.bound_ns(Mix(divides=0, arithmetic=8, loads=4, stores=1)) == 2.0
    assert limits.bound_ns(Mix(divides=0, arithmetic=1, loads=1, stores=4)) == 4.0
    assert Mix(1, 2, 3, 4) + Mix(1, 1, 1, 1).times(0.5) == Mix(1.5, 2.5, 3.5, 4.5)


# --- JSON and comparison --------------------------------------------------------------------------


def row(kernel: str, ns: float) -> Measurement:
    return Measurement(kernel, "bar", ns, ns * 1.1, 8.0, ns / 2, "instructions", 64, "AVX2 ymm")


@pytest.fixture
def result() -> Bench:
    limits = Limits(3.0, 0.25, 0.5, 1.0, 10.0)
    return Bench(this_machine(), limits, {"one": Mix(1, 2, 3, 4)}, (row("one", 1.0), row("two", 2)))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command prints."""
    folder = tmp_path_factory.mktemp("bench")
    done = barsweep("bench", "--json", "--turns", 1, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    path = folder / "old.json"
    path.write_text(done.stdout)
    return path


def test_what_the_command_prints(measured: Path) -> None:
    content = json.loads(measured.read_text())
    assert set(content) == {
        "schema_version",
        "machine",
        "limits",
        "instructions_per_8_lanes",
        "kernels",
    }
    assert Machine(**content["machine"]) == this_machine()
    assert all(value > 0.0 for value in content["limits"].values())
    names = [one["kernel"] for one in content["kernels"]]
    assert len(set(names)) == len(names)
    for family in (
        *("feature sma", "feature ema", "feature rsi", "feature momentum", "feature volatility"),
        *("feature atr", "feature correlation", "signal momentum", "signal mean reversion"),
        *("signal average cross", "signal breakout", "sizing", "marks", "accounts", "stops"),
        *("regime HMM, 3 states", "regime SVM", "metrics", "overfitting, selection"),
        *("decide, event flow", "simulation, 1 symbol, own lookbacks"),
        "simulation, 10 symbols, shared, correlation",
    ):
        assert family in names
    for one in content["kernels"]:
        assert 0.0 < one["ns"] <= one["median_ns"]
        assert (one["share"] is None) == (one["limit_ns"] is None) == (one["limit"] == "")
    machine, times = load_times(measured)
    assert same_machine(machine, this_machine())
    assert list(times) == names


@x86
def test_what_the_lanes_ask_for(measured: Path) -> None:
    mixes = json.loads(measured.read_text())["instructions_per_8_lanes"]
    # The inverses of the equity and of the exposure; no sum divides.
    assert mixes["accounts"]["divides"] % 2 == 0 and mixes["accounts"]["divides"] > 0
    assert mixes["sums"]["divides"] == 0 and mixes["sums"]["arithmetic"] > 0
    assert mixes["mean correlation"]["divides"] > 0
    for name in ("sizing", "signal momentum", "marks"):
        assert mixes[name]["divides"] == 0
        assert mixes[name]["arithmetic"] > 0


def test_a_kernel_is_slower_beyond_the_noise(result: Bench) -> None:
    old = {"one": 1.0 / 1.09, "two": 2.0 / 1.11, "gone": 1.0}
    changes = compare_times(result, old)
    assert [(c.kernel, c.slower) for c in changes] == [("one", False), ("two", True)]
    assert changes[1].ratio == pytest.approx(1.11)
    assert compare_times(result, {}) == []


def test_another_machine(result: Bench) -> None:
    machine = result.machine
    assert same_machine(machine, replace(machine, numba="0.1"))
    assert not same_machine(machine, replace(machine, processor="other"))
    assert not same_machine(machine, replace(machine, cores=machine.cores + 1))


GOOD = {
    "schema_version": 1,
    "machine": {"processor": "p", "cores": 2, "python": "3", "numba": "0", "numpy": "2"},
    "kernels": [{"kernel": "one", "ns": 1.0}],
}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        ("{", "not JSON"),
        ("[]", "not a result of barsweep bench"),
        ("3", "not a result of barsweep bench"),
        (json.dumps({**GOOD, "schema_version": 7}), "schema_version 7"),
        (json.dumps({**GOOD, "machine": {"cores": 2}}), "not a result of barsweep bench"),
        (json.dumps({**GOOD, "kernels": [{"kernel": "one"}]}), "not a result of barsweep bench"),
        (json.dumps({**GOOD, "kernels": [{"kernel": "one", "ns": 0}]}), "one: ns = 0.0"),
        (json.dumps({**GOOD, "kernels": [{"kernel": "one", "ns": "x"}]}), "not a result"),
        ('{"schema_version": 1, "machine"', "not JSON"),
    ],
)
def test_files_that_cannot_be_compared(
    content: str | None,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "old.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=str(path)):
        load_times(path)
    # Refused before anything is measured.
    monkeypatch.setattr(suite, "run_bench", lambda turns: pytest.fail("measured"))
    code, out, err = called(monkeypatch, capsys, "--compare", path)
    assert code == 2 and out == ""
    assert len(err.splitlines()) == 1
    assert str(path) in err and words in err


def called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[Any, str, str]:
    monkeypatch.setattr(sys, "argv", ["barsweep", "bench", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main.main()
    output = capsys.readouterr()
    return end.value.code, output.out, output.err


def test_the_table_marks_what_got_slower(
    result: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = tmp_path / "old.json"
    old.write_text(json.dumps(result.to_dict()))
    slower = replace(result, rows=(row("one", 1.5), row("two", 2.0)))
    monkeypatch.setattr(suite, "run_bench", lambda turns: slower)
    code, out, err = called(monkeypatch, capsys, "--compare", old)
    assert code in (0, None) and err == ""
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert "1.50 slower" in lines["one"]
    assert "1.00" in lines["two"] and "slower" not in lines["two"]
    assert "slower by more than 10%: 1 of 2 kernels" in out

    code, out, err = called(monkeypatch, capsys, "--compare", old, "--json")
    assert code in (0, None) and err == ""
    assert [one["slower"] for one in json.loads(out)["compared"]] == [True, False]


def test_a_result_of_another_machine_is_a_warning(
    result: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = tmp_path / "old.json"
    other = replace(result, machine=replace(result.machine, processor="another one"))
    old.write_text(json.dumps(other.to_dict()))
    monkeypatch.setattr(suite, "run_bench", lambda turns: result)
    code, out, err = called(monkeypatch, capsys, "--compare", old, "--json")
    assert code in (0, None)
    assert json.loads(out)["kernels"]
    assert len(err.splitlines()) == 1
    assert err.startswith("warning: ") and "another one" in err and str(old) in err


# --- Tables ---------------------------------------------------------------------------------------


def test_the_exponent_of_a_power_law() -> None:
    assert exponent((10, 100, 1000), (3.0, 30.0, 300.0)) == pytest.approx(1.0)
    assert exponent((1, 2, 4), (1.0, 4.0, 16.0)) == pytest.approx(2.0)


def test_a_table_stands_between_its_markers(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- a:start -->\nold\n<!-- a:end -->\nafter\n")
    table = markdown(("x", "y"), [(1, 2)])
    publish("a", table, {"x": 1}, readme, tmp_path / "results")
    publish("a", table, {"x": 1}, readme, tmp_path / "results")
    assert readme.read_text() == (
        "before\n<!-- a:start -->\n\n| x | y |\n| --- | --- |\n| 1 | 2 |\n\n<!-- a:end -->\nafter\n"
    )
    assert json.loads((tmp_path / "results" / "a.json").read_text()) == {"x": 1}
    with pytest.raises(ValueError, match="no <!-- b:start -->"):
        publish("b", table, {}, readme, tmp_path / "results")
