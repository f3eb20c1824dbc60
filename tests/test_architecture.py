"""The house stands: imports run only downwards and never in a circle, files say what they are for, torch loads late."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground upwards; the files at the top of the package lie below every folder.
FLOORS = [
    "errors defaults",
    "rngcli",
    "atomic signals device pages",
    "nets diffusion images metrics",
    "models data",
    "methods",
    "inference",
    "batch",
    "api",
    "training",
    "evaluation",
    "cli",
]
FLOOR = {unit: floor for floor, units in enumerate(FLOORS) for unit in units.split()}

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.glob("rngcli/**/*.py"))
}


def unit_of(module):
    """The family or the file that a module belongs to: rngcli.nets.unet -> nets; `python -m rngcli` is the command."""
    return [*module.split("."), module][1].replace("__main__", "cli")


def imports_of(module):
    """Every module that a file imports, at its top or later, by its full name."""
    path = FILES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield from (name if (name := f"{base}.{alias.name}") in FILES else base for alias in node.names)


@pytest.mark.parametrize("module", FILES)
def test_imports_run_downwards(module):
    here = unit_of(module)
    assert here in FLOOR, f"give {here} a floor"
    for name in imports_of(module):
        there = unit_of(name)
        if name.split(".")[0] == "rngcli" and there != here:
            assert FLOOR[here] > FLOOR[there], f"{module} must not import {name}"


def test_imports_never_run_in_a_circle():
    TopologicalSorter({module: set(imports_of(module)) - {module} for module in FILES}).prepare()


@pytest.mark.parametrize("module", FILES)
def test_a_file_begins_by_saying_what_it_is_for(module):
    source = FILES[module].read_text()
    assert source.startswith('"""')
    assert ast.get_docstring(ast.parse(source))


WITHOUT_TORCH = [m for m in FILES if unit_of(m) == "images" or m.endswith((".scheduler", ".tiling"))]


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_files_that_need_no_torch_never_import_it(module):
    assert "torch" not in {name.split(".")[0] for name in imports_of(module)}


@pytest.mark.parametrize("module", ["rngcli.cli", "rngcli.images", "rngcli.inference.tiling"])
def test_torch_is_not_loaded_by(module):
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print('torch' in sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert loaded.stdout.strip() == "False"
