"""What is in the checkout is also in the wheel: every package is named, and every file that is no Python is data."""

import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
DATA = [
    path
    for path in sorted((ROOT / "rngcli").rglob("*"))
    if path.is_file() and path.suffix not in (".py", ".pyc")
]


def test_every_package_is_named():
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("rngcli/**/__init__.py")}
    assert packages | {"rngcli.models.weights"} == set(SETUPTOOLS["packages"])


def test_the_models_go_where_the_command_looks_for_them():
    assert SETUPTOOLS["package-dir"]["rngcli.models.weights"] == "models"
    assert "*.safetensors" in SETUPTOOLS["package-data"]["rngcli.models.weights"]


@pytest.mark.parametrize("path", DATA, ids=lambda path: path.name)
def test_every_data_file_is_packed(path):
    package = ".".join(path.parent.relative_to(ROOT).parts)
    patterns = SETUPTOOLS["package-data"].get(package, [])
    assert any(fnmatch(path.name, pattern) for pattern in patterns), f"name {path.name} in package-data"
