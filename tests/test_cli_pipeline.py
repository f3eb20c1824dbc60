"""`find … -print0 | rng denoise --files-from - -0 --json | …` in a real shell, with names as disks hold them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rngcli.models.bundle import save
from tests.tiny import identity_bundle

ROOT = Path(__file__).resolve().parents[1]
NAMES = (b"plain.jpg", b"with space.jpg", b"line\nend.jpg", b"-dash.jpg", b"trip/'quoted\".jpg", b"caf\xe9.jpg")
READER = """
import json, sys
rows = [json.loads(line) for line in sys.stdin]
json.dump({"files": [row["file"] for row in rows[:-1] if row["status"] == "done"], "end": rows[-1]}, sys.stdout)
"""

pytestmark = pytest.mark.skipif(
    not shutil.which("bash") or not shutil.which("find"), reason="there is no bash or no find here"
)


@pytest.fixture
def shell(tmp_path):
    """A folder of photographs, and lines of bash run beside it, where every member of a pipe must succeed."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    (tmp_path / "photos" / "trip").mkdir(parents=True)
    for name in NAMES:
        try:
            Image.fromarray(noise).save(os.fsdecode(os.fsencode(tmp_path / "photos") + b"/" + name))
        except OSError:
            pytest.skip("this disk takes no such names")
    Image.fromarray(noise).save(tmp_path / "photos" / "no-jpeg.png")
    save(identity_bundle(), tmp_path / "tiny.safetensors")
    rng = f"rng() {{ '{sys.executable}' -m rngcli \"$@\" --model tiny.safetensors --detail 0 --device cpu; }}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "READER": READER, "PYTHON": sys.executable}

    def run(line):
        return subprocess.run(
            ["bash", "-c", f"set -o pipefail; {rng}\n{line}"],
            cwd=tmp_path, env=environment, capture_output=True, check=False,
        )  # fmt: skip

    return run


def below(folder):
    """Every picture below a folder, by its bytes."""
    found = (os.path.join(root, name) for root, _, files in os.walk(os.fsencode(folder)) for name in files)
    return {os.path.relpath(path, os.fsencode(folder)) for path in found if b"/.rng/" not in path}


def test_find_rng_and_a_reader_of_json(shell, tmp_path):
    listed = "find photos -name '*.jpg' -print0 | rng denoise --files-from - -0 --out out/ --json"
    done = shell(f'{listed} | "$PYTHON" -c "$READER"')
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert sorted(said["files"]) == sorted("photos/" + name.decode("utf-8", "backslashreplace") for name in NAMES)
    assert said["end"]["summary"]["done"] == len(NAMES)
    assert below(tmp_path / "out" / "photos") == set(NAMES)
    assert below(tmp_path / "photos") == {*NAMES, b"no-jpeg.png"}
    # A reader that has seen enough stops no picture.
    shutil.rmtree(tmp_path / "out")
    done = shell(f"{listed} | head -n 1")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "done"
    assert below(tmp_path / "out" / "photos") == set(NAMES)
