"""What may import what, checked on the source; each check is shown to fail on a tampered copy."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

ALLOWED_IN_KERNELS = {"numpy", "numba", "kernels", "typing", "collections.abc", "__future__"}
LAYERS = [
    *(
        "isolation",
        "errors",
        "types",
        "catalogue",
        "text",
        "files",
        "prebuilt",
        "compile_cache",
        "extras",
        "versions",
    ),
    *("bars", "market", "strategies", "study_file", "sweep", "store", "analytics", "flow"),
    *("engine", "selection", "review", "trading", "search", "views", "bench", "project", "cli"),
]
"""The modules and packages of ``optimizer``: each imports only itself and those before it."""

AROUND_LAYERS = {"__init__", "__main__"}
"""The doors of the package, which name what lies behind them."""

COMPILERS = {"njit", "jit", "vectorize", "guvectorize", "cfunc", "stencil", "jit_module"}
NOT_OURS = {
    *(".git", ".venv", "venv", "out", "build", "dist", "__pycache__"),
    *(".hypothesis", ".mypy_cache", ".ruff_cache", ".pytest_cache"),
}
# In parts, so that this file does not hold them either.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("crates", "io"),
        ("deb", "debian", "org"),
        ("proxy", "golang", "org"),
        ("anaconda", "org"),
    )
]


# --- Reading the source -------------------------------------------------------------------------


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def is_for_types_alone(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    )


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that can run: what is under ``if TYPE_CHECKING`` is left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and is_for_types_alone(child):
            for other in child.orelse:
                yield other
                yield from statements(other)
        else:
            yield child
            yield from statements(child)


def imports(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of each module a file imports, at its top or within a function.

    ``from a import b`` gives ``a`` and ``a.b``, since b may be a module.
    """
    package = path.relative_to(root).with_suffix("").parts[:-1]
    for node in statements(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield node.lineno, base
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def module_path(name: str, root: Path) -> Path | None:
    base = root.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


# --- Checks: a list of what is wrong under a root -----------------------------------------------


def foreign_imports_of_kernels(root: Path) -> list[str]:
    problems = []
    for path in sorted((root / "kernels").rglob("*.py")):
        for line, name in imports(path, root):
            allowed = name.split(".")[0] in ALLOWED_IN_KERNELS - {"collections.abc"}
            if (
                not allowed
                and name != "collections.abc"
                and not name.startswith("collections.abc.")
            ):
                problems.append(f"{path.relative_to(root)}:{line} imports {name}")
    return problems


def direct_compilers_in_kernels(root: Path) -> list[str]:
    """Numba outside of ``_jit`` and ``_linked``, and fastmath anywhere."""
    problems = []
    for path in sorted((root / "kernels").rglob("*.py")):
        for node in ast.walk(tree_of(path)):
            place = f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}"
            if path.name not in ("_jit.py", "_linked.py"):
                if isinstance(node, ast.Attribute) and node.attr in COMPILERS:
                    problems.append(f"{place} uses {ast.unparse(node)}")
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("numba"):
                    problems.append(f"{place} imports from {node.module}")
            pairs: list[tuple[object, ast.expr]] = []
            if isinstance(node, ast.Call):
                pairs = [(keyword.arg, keyword.value) for keyword in node.keywords]
            elif isinstance(node, ast.Dict):
                pairs = [
                    (key.value, value)
                    for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant)
                ]
            for key, value in pairs:
                off = isinstance(value, ast.Constant) and value.value is False
                if key == "fastmath" and not off:
                    problems.append(f"{place} sets fastmath")
    return problems


def imports_that_climb(root: Path) -> list[str]:
    """Imports of a lower layer, at the top of a module, in a function or for types; new layers."""
    problems = []
    folder = root / "optimizer"
    for path in sorted(folder.rglob("*.py")):
        layer = path.relative_to(folder).with_suffix("").parts[0]
        if layer in AROUND_LAYERS:
            continue
        if layer not in LAYERS:
            problems.append(f"{path.relative_to(root)} belongs to no layer")
            continue
        lower = set(LAYERS[LAYERS.index(layer) + 1 :])
        for line, name in imports(path, root):
            parts = name.split(".")
            if parts[0] == "optimizer" and len(parts) > 1 and parts[1] in lower:
                problems.append(f"{path.relative_to(root)}:{line} imports {name}")
    return problems


def import_cycles(root: Path) -> list[str]:
    """Modules that reach themselves through their own imports, those within functions included."""
    paths = sorted(
        path for name in ("kernels", "optimizer") for path in (root / name).rglob("*.py")
    )
    graph = {}
    for path in paths:
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if module not in ("optimizer", "optimizer.__main__"):
            named = {name for _, name in imports(path, root)}
            graph[module] = {
                name
                for name in named  # a package's own modules name it without needing what it holds
                if module_path(name, root) and not f"{module}.".startswith(f"{name}.")
            }
    done: set[str] = set()
    problems = []

    def visit(module: str, chain: tuple[str, ...]) -> None:
        if module in chain:
            problems.append(" -> ".join((*chain[chain.index(module) :], module)))
        elif module not in done:
            for name in sorted(graph.get(module, ())):
                visit(name, (*chain, module))
            done.add(module)

    for module in graph:
        visit(module, ())
    return problems


def containers_that_know_each_other(root: Path) -> list[str]:
    problems = []
    folder = root / "optimizer" / "flow" / "containers"
    for path in sorted(folder.glob("*.py")):
        if path.name == "__init__.py":
            continue
        own = f"optimizer.flow.containers.{path.stem}"
        for line, name in imports(path, root):
            inside = name.startswith("optimizer.flow.containers.")
            if inside and name != own and not name.startswith(f"{own}."):
                problems.append(f"{path.relative_to(root)}:{line} imports {name}")
    return problems


def ways_to_optuna(root: Path) -> list[str]:
    """Chains of imports from the workers to Optuna through our own modules."""
    problems = []
    chains = {"optimizer.engine.workers": ["optimizer.engine.workers"]}
    waiting = ["optimizer.engine.workers"]
    while waiting:
        module = waiting.pop(0)
        path = module_path(module, root)
        assert path is not None, module
        for line, name in imports(path, root):
            if name.split(".")[0] == "optuna":
                where = f"{path.relative_to(root)}:{line}"
                problems.append(f"{' -> '.join(chains[module])} imports {name} at {where}")
            # Importing a module runs the packages above it too.
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                known = ".".join(parts[:end])
                ours = parts[0] in ("optimizer", "kernels") and module_path(known, root) is not None
                if ours and known not in chains:
                    chains[known] = [*chains[module], known]
                    waiting.append(known)
    return problems


def named_registries(root: Path) -> list[str]:
    problems = []
    for folder, folders, files in os.walk(root):
        folders[:] = [
            name for name in folders if name not in NOT_OURS and not name.endswith(".egg-info")
        ]
        for file in files:
            content = (Path(folder) / file).read_bytes()
            problems += [
                f"{Path(folder, file).relative_to(root)} names {host}"
                for host in REGISTRY_HOSTS
                if host.encode() in content
            ]
    return problems


def loose_pins(root: Path) -> list[str]:
    """Lines of constraints.txt that are more than name==version, one comment aside."""
    lines = (root / "constraints.txt").read_text().splitlines()
    return [
        line
        for line in lines
        if not line.startswith("#") and not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)
    ]


def unlisted_packages(root: Path) -> list[str]:
    """Packages that pyproject.toml does not list, or lists although they do not exist."""
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {
        ".".join(path.parent.relative_to(root).parts)
        for name in ("kernels", "optimizer")
        for path in (root / name).rglob("*.py")
    }
    return sorted(there.symmetric_difference(listed))


NAMING_WORDS = {
    *("The", "A", "An", "This", "These", "One", "Each", "Every", "All"),
    *("Whether", "What", "Which", "Where", "Why", "How"),
}
"""First words of a summary that names what is returned, so that no Returns need repeat it."""

PREPOSITIONS = {
    *("of", "by", "in", "as", "at", "for", "from", "with", "per", "to", "on", "under"),
    *("between", "before", "after"),
}
TEMPLATES = {
    *("optimizer/project/my_strategy.py", "optimizer/project/test_my_strategy.py"),
    *(str(path.relative_to(ROOT)) for path in (ROOT / "optimizer/project/gallery").glob("*.py")),
}
"""Files that `barsweep new` copies into a user's folder."""

Documented = ast.FunctionDef | ast.AsyncFunctionDef


def commands(root: Path) -> set[str]:
    """Names of the functions that `cli/app.py` makes commands; their options carry their own help."""
    for node in tree_of(root / "optimizer" / "cli" / "app.py").body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "COMMANDS":
            assert isinstance(node.value, ast.Dict)
            return {ast.unparse(value) for value in node.value.values}
    raise AssertionError("cli/app.py has no COMMANDS")


def parameters_of(function: Documented) -> list[str]:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return [one.arg for one in named if one is not None and one.arg not in ("self", "cls")]


def entries(docstring: str, section: str) -> dict[str, str]:
    """What a section of a docstring says, by name; ``first, second: both`` counts for each."""
    match = re.search(rf"^{section}:\n((?: {{4}}.*\n?)+)", docstring, re.MULTILINE)
    lines = re.findall(r"^ {4}(\S.*(?:\n {8}.*)*)", match[1], re.MULTILINE) if match else []
    found = {}
    for line in lines:
        names, _, text = " ".join(line.split()).partition(": ")
        found.update({name.strip("* "): text for name in names.split(",")})
    return found


def returns_unsaid(function: Documented, docstring: str) -> bool:
    """Whether a docstring leaves open what is returned.

    A summary that names it says enough, unless it is an array without a shape or several values.
    """
    kind = ast.unparse(function.returns) if function.returns else "None"
    if kind in ("None", "NoReturn", "Iterator[None]") or re.search(
        r"^(Returns|Yields):$", docstring, re.MULTILINE
    ):
        return False
    summary = docstring.split("\n\n")[0]
    array = re.search(r"Array\b|ndarray", kind) is not None and "shape" not in summary
    several = kind.startswith("tuple[") and not kind.endswith("...]")
    return array or several or summary.split()[0] not in NAMING_WORDS


def documented(root: Path) -> Iterator[tuple[str, str, Documented | None]]:
    """Place, docstring and signature of what is public in ``kernels`` and ``optimizer``.

    Those of a class are the arguments of its ``__init__``. Properties are left out.
    """
    known = commands(root)
    for path in [*(root / "kernels").rglob("*.py"), *(root / "optimizer").rglob("*.py")]:
        module = path.relative_to(root).as_posix()
        if module in TEMPLATES:
            continue
        top = tree_of(path).body
        kept = [(node, "") for node in top]
        for one in top:
            if isinstance(one, ast.ClassDef) and not one.name.startswith("_"):
                own = {n.name: n for n in one.body if isinstance(n, Documented)}
                yield f"{module}: {one.name}", ast.get_docstring(one) or "", own.get("__init__")
                kept += [(node, f"{one.name}.") for node in one.body]
        for node, owner in kept:
            if not isinstance(node, Documented) or node.name.startswith("_"):
                continue
            decorators = " ".join(map(ast.unparse, node.decorator_list))
            command = ".command(" in decorators or node.name in known
            if "property" in decorators or (module.startswith("optimizer/cli/") and command):
                continue
            yield f"{module}: {owner}{node.name}", ast.get_docstring(node) or "", node


def unfinished_docstrings(root: Path) -> list[str]:
    """Docstrings that leave out an argument or what is returned, or begin in the middle of a phrase."""
    problems = []
    for place, docstring, function in documented(root):
        arguments = entries(docstring, "Args")
        if function is not None:
            missing = [name for name in parameters_of(function) if name not in arguments]
            problems += [f"{place}: Args lacks {name}" for name in missing]
            if returns_unsaid(function, docstring):
                problems.append(f"{place}: has no Returns")
        problems += [
            f"{place}: {name}: {text}"
            for name, text in (arguments | entries(docstring, "Attributes")).items()
            if (text.split() or ["of"])[0].rstrip(".,") in PREPOSITIONS
        ]
    return problems


CHECKS: list[Callable[[Path], list[str]]] = [
    foreign_imports_of_kernels,
    direct_compilers_in_kernels,
    imports_that_climb,
    import_cycles,
    containers_that_know_each_other,
    ways_to_optuna,
    named_registries,
    loose_pins,
    unlisted_packages,
    unfinished_docstrings,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_source(check: Callable[[Path], list[str]]) -> None:
    assert check(ROOT) == []


# --- Each check fails where it should -----------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in ("kernels", "optimizer"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for file in ("constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path)
    return tmp_path


def add(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "import optimizer",
        "from optimizer.types import Bars",
        "from collections import OrderedDict",
        "def late():\n    import math",
        "import numpy, json.decoder",
    ],
)
def test_a_kernel_that_imports_more_is_found(copy: Path, text: str) -> None:
    assert foreign_imports_of_kernels(copy) == []
    add(copy / "kernels" / "risk.py", text)
    assert len(foreign_imports_of_kernels(copy)) >= 1
    add(copy / "kernels" / "lanes" / "marks.py", text)
    assert len(foreign_imports_of_kernels(copy)) >= 2


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("risk.py", "import numba\n@numba.njit\ndef double(x):\n    return 2 * x"),
        ("risk.py", "from numba import njit"),
        ("lanes/marks.py", "from numba import njit"),
        ("risk.py", "import numba as nb\ndouble = nb.vectorize(lambda x: 2 * x)"),
        ("risk.py", "double = jit(lambda x: 2 * x, fastmath=True)"),
        ("_jit.py", "_OTHERS = {'fastmath': True}"),
        ("_jit.py", "fast = numba.njit(fastmath={'nnan'})"),
    ],
)
def test_a_kernel_with_a_compiler_of_its_own_is_found(copy: Path, file: str, text: str) -> None:
    assert direct_compilers_in_kernels(copy) == []
    add(copy / "kernels" / file, text)
    assert len(direct_compilers_in_kernels(copy)) >= 1


@pytest.mark.parametrize(
    "text",
    [
        "from optimizer.flow.containers import beta",
        "import optimizer.flow.containers.beta",
        "from . import beta",
        "from .beta import Beta",
    ],
)
def test_a_container_that_knows_another_is_found(copy: Path, text: str) -> None:
    folder = copy / "optimizer" / "flow" / "containers"
    add(folder / "beta.py", "from optimizer.types import Bars")
    assert containers_that_know_each_other(copy) == []
    add(folder / "alpha.py", text)
    assert len(containers_that_know_each_other(copy)) >= 1


@pytest.mark.parametrize(
    "text",
    [
        "from optimizer.search.run import run_study",
        "import optimizer.cli.app",
        "from ... import views",
        "def late():\n    from optimizer.sweep import tiles",
    ],
)
def test_an_import_that_climbs_is_found(copy: Path, text: str) -> None:
    assert imports_that_climb(copy) == []
    add(copy / "optimizer" / "study_file" / "deep" / "more.py", text)
    assert len(imports_that_climb(copy)) >= 1


def test_a_module_outside_the_layers_is_found(copy: Path) -> None:
    add(copy / "optimizer" / "misc.py", "")
    assert imports_that_climb(copy) == ["optimizer/misc.py belongs to no layer"]


def test_a_cycle_within_a_layer_is_found(copy: Path) -> None:
    assert import_cycles(copy) == []
    add(
        copy / "optimizer" / "bars" / "alpha.py", "def late():\n    from optimizer.bars import beta"
    )
    add(copy / "optimizer" / "bars" / "beta.py", "from optimizer.bars.alpha import late")
    assert import_cycles(copy) == [
        "optimizer.bars.alpha -> optimizer.bars.beta -> optimizer.bars.alpha"
    ]


def test_a_detour_from_workers_to_optuna_is_found(copy: Path) -> None:
    assert ways_to_optuna(copy) == []
    add(copy / "optimizer" / "types.py", "from . import detour")
    add(copy / "optimizer" / "detour.py", "def later():\n    from optuna.trial import Trial")
    assert any(
        re.search(r"-> optimizer\.types -> optimizer\.detour imports optuna\.trial at ", problem)
        for problem in ways_to_optuna(copy)
    )


def test_imports_for_types_alone_do_not_count(copy: Path) -> None:
    add(
        copy / "optimizer" / "types.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import optuna",
    )
    assert ways_to_optuna(copy) == []
    add(copy / "optimizer" / "types.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import optuna")
    assert len(ways_to_optuna(copy)) == 1


def test_a_registry_or_a_loose_pin_is_found(copy: Path) -> None:
    assert named_registries(copy) == []
    add(copy / "constraints.txt", f"thing @ https://files.{REGISTRY_HOSTS[1]}/thing.whl")
    assert len(named_registries(copy)) == 1
    assert len(loose_pins(copy)) == 2  # the blank line, and the address


def test_a_package_that_is_not_listed_is_found(copy: Path) -> None:
    add(copy / "kernels" / "more" / "new.py", "")
    assert unlisted_packages(copy) == ["kernels.more"]


# --- What runs ----------------------------------------------------------------------------------


def loaded_after(statement: str, *names: str) -> set[str]:
    """Which modules a fresh interpreter has after a statement."""
    code = f"{statement}\nimport sys\nprint(*[n for n in {names!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_importing_the_package_is_light() -> None:
    heavy = ("numba", "numpy", "pandas", "pyarrow", "optuna", "sklearn", "scipy", "pydantic")
    assert loaded_after("import optimizer", *heavy) == set()
    assert loaded_after("import optimizer; optimizer.load_bars", *heavy) >= {"pandas", "numpy"}


def test_workers_run_without_optuna() -> None:
    assert loaded_after("import optimizer.engine.workers", "optuna", "numba") == {"numba"}


def test_public_names_are_what_they_say() -> None:
    code = (
        "import optimizer, types\n"
        "values = [getattr(optimizer, name) for name in optimizer.__all__]\n"
        "print([n for n, v in zip(optimizer.__all__, values) if isinstance(v, types.ModuleType)])\n"
        "from optimizer import backtest\n"
        "print(callable(backtest), set(optimizer.__all__) <= set(dir(optimizer)))\n"
        "try: optimizer.load_bar\n"
        "except AttributeError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines() == [
        "['errors', 'sweep']",
        "True True",
        "module 'optimizer' has no attribute 'load_bar'",
    ]


def test_kernels_are_ours() -> None:
    import kernels
    import optimizer

    assert Path(str(kernels.__file__)).parent.parent == Path(str(optimizer.__file__)).parent.parent
    assert Path(str(kernels.__file__)).parent == ROOT / "kernels"


def test_foreign_kernels_are_refused(tmp_path: Path) -> None:
    add(tmp_path / "kernels" / "__init__.py", "")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", "import optimizer"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode != 0
    assert "is not barsweep's" in done.stderr.splitlines()[-1]


def test_every_kernel_is_compiled_alike() -> None:
    """Whatever ``_jit`` is written like: the options that numba was given."""
    from numba.core.caching import NullCache
    from numba.core.registry import CPUDispatcher

    seen = 0
    for path in sorted((ROOT / "kernels").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
        for name, value in vars(module).items():
            if isinstance(value, CPUDispatcher):
                seen += 1
                kernel: Any = value
                options = kernel.targetoptions
                assert options.get("fastmath", False) is False, name
                assert options["error_model"] == "numpy", name
                assert options["nogil"] is True, name
                assert not isinstance(kernel._cache, NullCache), name
    assert seen > 20


def test_every_kernel_that_depends_on_a_users_signal_is_compiled_for_it() -> None:
    from optimizer.strategies.bound_kernels import BOUND

    imported = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): {n for _, n in imports(path, ROOT)}
        for path in (ROOT / "kernels").rglob("*.py")
    }
    depends = {"kernels.user_signal"}
    while more := {name for name, used in imported.items() if used & depends} - depends:
        depends |= more
    names = [module.__name__ for module in BOUND]
    assert {"kernels.user_signal", *names} == depends
    for position, name in enumerate(names):
        assert not imported[name] & set(names[position:]), f"{name} comes too early"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A house of one room: an application without commands."""
    (tmp_path / "optimizer").mkdir()
    add(tmp_path / "optimizer" / "cli" / "app.py", "COMMANDS: dict[str, object] = {}")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('def f(a: int) -> None:\n    """Do."""', "f: Args lacks a"),
        ('def f(*a: int, b: int) -> None:\n    """Do.\n\n    Args:\n        a: x."""', "f: Args lacks b"),
        ('def f(a: int) -> None:\n    """Do.\n\n    Args:\n        a: of b."""', "f: a: of b."),
        ('def f() -> int:\n    """Count."""', "f: has no Returns"),
        ('def f() -> FloatArray:\n    """The numbers."""', "f: has no Returns"),
        ('def f() -> tuple[int, int]:\n    """The numbers."""', "f: has no Returns"),
        ('class C:\n    """C."""\n    def __init__(self, a: int) -> None: ...', "C: Args lacks a"),
        ('class C:\n    """C."""\n    def f(self) -> int:\n        """Count."""', "C.f: has no Returns"),
        ('class C:\n    """C.\n\n    Attributes:\n        a: per bar."""\n    a: int', "C: a: per bar."),
    ],
)  # fmt: skip
def test_an_unfinished_docstring_is_found(house: Path, text: str, problem: str) -> None:
    add(house / "kernels" / "risk.py", text)
    add(house / "optimizer" / "cli" / "text.py", text)
    assert unfinished_docstrings(house) == [
        f"kernels/risk.py: {problem}",
        f"optimizer/cli/text.py: {problem}",
    ]


def test_a_finished_docstring_is_accepted(house: Path) -> None:
    text = """
def f(first: int, second: int, *more: int) -> FloatArray:
    \"\"\"Count.

    Args:
        first, second: the numbers of bars, 1 or more,
            of each symbol.
        *more: others.

    Returns:
        Shape (n,).
    \"\"\"


def g() -> int:
    \"\"\"The number of bars.\"\"\"
"""
    add(house / "kernels" / "risk.py", text)
    assert unfinished_docstrings(house) == []
