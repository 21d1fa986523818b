"""How the modules of mannkern import each other: without a circle, and without packages that are extras."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from mannkern.backends import BACKENDS

ROOT = Path(__file__).parents[1]
Graph = dict[str, set[str]]


def circle(graph: Graph) -> list[str]:
    """Modules that import each other in a ring, the first one at both ends; [] where there is no ring."""
    done: set[str] = set()

    def search(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph.get(module, ())):
            if ring := search(other, [*path, module]):
                return ring
        done.add(module)
        return []

    return next((ring for module in sorted(graph) if (ring := search(module, []))), [])


def imports_of(source: str, package: str, modules: set[str]) -> set[str]:
    """Those of ``modules`` that a file imports anywhere, in functions too; not the packages that they lie in.

    package: the one that the file lies in, from which relative imports count
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in modules else base)
    return found & modules


def graph_of_mannkern() -> Graph:
    files = {}
    for path in (ROOT / "mannkern").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        parts = parts[:-1] if is_package else parts
        files[".".join(parts)] = path, ".".join(parts if is_package else parts[:-1])
    return {name: imports_of(path.read_text(), package, set(files)) for name, (path, package) in files.items()}


def test_a_circle_of_three_by_hand() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_by_hand() -> None:
    """``from m import a`` is the module m.a where there is one, else m; imports in functions count."""
    source = "import m.b\nfrom m import a, VALUE\nfrom .c import x\ndef f():\n    from . import d\n    import os\n"
    assert imports_of(source, "m", {"m", "m.a", "m.b", "m.c", "m.d", "m.e"}) == {"m", "m.a", "m.b", "m.c", "m.d"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = graph_of_mannkern()
    assert "mannkern.experiments.registry" in graph["mannkern.commands.train"]
    assert len(graph) > 80
    assert circle(graph) == []


def test_the_engine_knows_no_experiment() -> None:
    graph = graph_of_mannkern()
    for module in graph:
        above = {other for other in graph[module] if other.startswith(("mannkern.experiments", "mannkern.commands"))}
        if module.startswith(("mannkern.training", "mannkern.models", "mannkern.tasks")):
            assert not above, f"{module} imports {above}"
        elif module.startswith("mannkern.experiments"):
            assert not any(other.startswith("mannkern.commands") for other in above), f"{module} imports {above}"


@pytest.mark.parametrize("folder", ["training", "experiments", "commands"])
def test_nothing_asks_for_the_class_of_a_config(folder: str) -> None:
    """What differs between kinds of runs is a field, a property or a method of their settings."""
    for path in (ROOT / "mannkern" / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                assert "onfig" not in ast.unparse(node), f"{path}: {ast.unparse(node)}"


WITHOUT_EXTRAS = """
import sys, warnings

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"numpy", "matplotlib", "PIL", "tqdm", "tensorboard"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
warnings.simplefilter("ignore")  # torch says that there is no numpy
from mannkern.__main__ import main

for command in sys.argv[1:]:
    try:
        code = main(command.split())
    except SystemExit as exit:
        code = exit.code
    print("exit code", code)
"""


@pytest.mark.slow
def test_help_and_verify_need_torch_alone() -> None:
    commands = ("--help", "train copy --help", "evaluate --help", "verify --help")
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS, *commands], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.count("exit code 0") == len(commands), done.stderr


def test_importing_mannkern_imports_no_extra_and_no_experiment() -> None:
    code = "import sys, mannkern; print(*sorted(name for name in sys.modules if name.startswith('mannkern.')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "mannkern.functional" in done.stdout
    for folder in ("training", "experiments", "commands", "tasks", "models"):
        assert f"mannkern.{folder}" not in done.stdout


def texts_of(source: str) -> set[str]:
    """The strings of a file; docstrings are among them, whole."""
    return {x.value for x in ast.walk(ast.parse(source)) if isinstance(x, ast.Constant) and isinstance(x.value, str)}


def test_no_backend_is_named_outside_its_folder() -> None:
    """A new backend is one file and one entry; "reference" is the definition, and "cuda" also a type of device."""
    assert texts_of('x = backend == "cpp"') == {"cpp"}
    names = BACKENDS.keys() - {"reference", "cuda"}
    assert names == {"cpp", "triton"}
    files = [x for x in (ROOT / "mannkern").rglob("*.py") if "backends" not in x.parts]
    assert len(files) > 100
    assert [str(x) for x in files if texts_of(x.read_text(encoding="utf-8")) & names] == []


def test_modules_that_the_documentation_names_need_no_import_of_their_own() -> None:
    code = """
import sys, mannkern
assert not {"mannkern.models", "mannkern.tasks", "mannkern.viz"} & set(sys.modules), "imported at their first use"
assert {"models", "optim", "reference", "tasks", "viz"} <= set(dir(mannkern))
mannkern.models.EpisodeClassifier, mannkern.reference.lrua_step, mannkern.tasks.EpisodeSampler, mannkern.viz.record
try:
    mannkern.nothing
except AttributeError as error:
    assert str(error) == "module 'mannkern' has no attribute 'nothing'"
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
