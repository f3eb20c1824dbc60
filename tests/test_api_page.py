"""docs/API.md is what the docstrings say, and docs/api.ipynb what its cells do.

`python -m tests.test_api_page` writes both anew, the notebook's outputs with the shipped model.
"""

from __future__ import annotations

import ast
import base64
import inspect
import io
import json
import os
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

import rngcli
from rngcli.models import bundle as checkpoint
from tests.tiny import random_bundle

ROOT = Path(__file__).parents[1]
PAGE, NOTEBOOK = ROOT / "docs" / "API.md", ROOT / "docs" / "api.ipynb"
SHOWN = ("denoise", "Denoiser", "denoise_folder", "Outcome", "Settings")
ERRORS = ("RngError", "UsageError", "PictureError", "NoInputError", "ModelError", "EnvironmentFault")


def signature_of(name: str, thing: Any) -> str:
    """As one would type it, an argument a line where there are many."""
    found = inspect.signature(thing)
    given = [p for p in found.parameters.values() if p.name != "self"]
    arguments = [_argument(p) for p in given]
    if (first := next((i for i, p in enumerate(given) if p.kind == p.KEYWORD_ONLY), None)) is not None:
        arguments.insert(first, "*")
    returned = f" -> {found.return_annotation}" if isinstance(found.return_annotation, str) else ""
    line = f"{name}({', '.join(arguments)}){returned}"
    return line if len(line) <= 100 else f"{name}(\n    " + ",\n    ".join(arguments) + f",\n){returned}"


def _argument(parameter: inspect.Parameter) -> str:
    stars = "**" if parameter.kind == parameter.VAR_KEYWORD else ""
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{stars}{parameter.name}: {parameter.annotation}{default}"


def section(name: str) -> str:
    thing = getattr(rngcli, name)
    if name in ("Outcome", "Settings"):
        fields = "\n".join(f"{key}: {str(kind).replace(chr(39), '')}" for key, kind in _fields(thing).items())
        return f"## {name}\n\n```python\n{fields}\n```\n\n{inspect.getdoc(thing)}\n"
    typed = signature_of(name, thing).removesuffix(" -> None")
    parts = [f"## {name}\n\n```python\n{typed}\n```\n\n{inspect.getdoc(thing)}\n"]
    if inspect.isclass(thing):
        parts[0] += f"\n{inspect.getdoc(thing.__init__)}\n"
        for method, shown in (("__call__", "denoiser"), ("many", "denoiser.many")):
            member = getattr(thing, method)
            parts.append(f"```python\n{signature_of(shown, member)}\n```\n\n{inspect.getdoc(member)}\n")
    return "\n".join(parts)


def _fields(thing: Any) -> dict[str, Any]:
    return {key: getattr(kind, "__forward_arg__", kind) for key, kind in thing.__annotations__.items()}


def document() -> str:
    errors = "\n".join(
        f"| `{name}` | {int(getattr(rngcli, name).code)} | {inspect.getdoc(getattr(rngcli, name)).splitlines()[0]} |"
        for name in ERRORS
    )
    sections = "\n".join(map(section, SHOWN))
    return f"""# rng from Python

```python
import numpy as np
import rngcli

clean = rngcli.denoise(noisy)                       # an array in, an array of the same type and shape out
clean = rngcli.denoise("a.jpg", detail=0.5)         # or a file's path

denoiser = rngcli.Denoiser("rng-s", device="cuda")  # networks stay loaded
patches = denoiser.many(patches, detail=0)

for outcome in rngcli.denoise_folder("photos/", "clean/"):
    print(outcome.task.name, outcome.error or f"σ {{outcome.sigma:.1f}}")
```

What comes out is what the command `rng denoise` writes, sample by sample: both run one engine. `import rngcli` loads
neither torch nor numpy; the first use does. Types are checked (`py.typed`). [api.ipynb](api.ipynb) shows all of it at
work. This page is made of the docstrings, by `python -m tests.test_api_page`, and compared by the tests. In a container
with a share of the CPUs, set `OMP_NUM_THREADS`: the command heeds that share, a library leaves torch's threads alone.

{sections}
## Errors

All are `RngError`s: `error.cause`, `error.remedy`, and `error.code`, the exit code that the command would end with.

| error | code | |
|---|---|---|
{errors}
"""


def run(notebook: dict[str, Any]) -> None:
    """Its code cells, one after the other, with the outputs that Jupyter would keep: what is printed, and pictures."""
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        tree, said = ast.parse("".join(cell["source"])), io.StringIO()
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        with redirect_stdout(said):
            exec(compile(tree, "cell", "exec"), names)
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None
        cell["outputs"] = [*_text(said.getvalue()), *_picture(value)]


def _text(said: str) -> list[dict[str, Any]]:
    return [{"name": "stdout", "output_type": "stream", "text": said.splitlines(keepends=True)}] if said else []


def _picture(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, Pillow.Image):
        return []
    data = io.BytesIO()
    value.save(data, "PNG", optimize=True)
    shown = {"image/png": base64.b64encode(data.getvalue()).decode(), "text/plain": [f"{value.width}×{value.height}"]}
    return [{"data": shown, "metadata": {}, "output_type": "display_data"}]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, and a small model by the name of the shipped one."""
    checkpoint.save(random_bundle(), tmp_path / "rng-s.safetensors")
    monkeypatch.setattr("rngcli.models.model_zoo.SHIPPED", tmp_path)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def test_the_page_is_what_the_docstrings_say():
    assert PAGE.read_text(encoding="utf-8") == document()


def test_the_notebook_runs_and_shows_what_it_did(place):
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    kept = [[output["output_type"] for output in cell.get("outputs", [])] for cell in notebook["cells"]]
    run(notebook)
    assert [[output["output_type"] for output in cell.get("outputs", [])] for cell in notebook["cells"]] == kept
    code = "".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    assert all(f"rngcli.{name}" in code for name in ("denoise(", "Denoiser(", "denoise_folder(", "RngError"))


if __name__ == "__main__":
    PAGE.write_text(document(), encoding="utf-8")
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run(found)
    NOTEBOOK.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
