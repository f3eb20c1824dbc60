"""`rng bench`: the real device by name, what the model's own settings cost, and how long a photograph takes."""

import json

import pytest
from typer.testing import CliRunner

from rngcli.cli import app
from rngcli.models.bundle import save
from tests.tiny import BUDGETS, identity_bundle, random_bundle


@pytest.mark.parametrize(("bundle", "most"), [(random_bundle, BUDGETS[-1].evaluations), (identity_bundle, 0)])
def test_the_table_says_where_and_how_much(tmp_path, bundle, most):
    save(bundle(), tmp_path / "tiny.safetensors")
    arguments = ["bench", "--model", str(tmp_path / "tiny.safetensors"), "--device", "auto", "--repeats", "1"]
    rows = [json.loads(line) for line in CliRunner().invoke(app, [*arguments, "--json"]).output.splitlines()]
    assert {row["precision"] for row in rows} == {"fp32", "bf16"}
    for row in rows:
        assert row["device"] not in ("auto", "")
        assert row["evaluations"] == most
        assert 0 < row["mpx"] <= row["mpx_0"]
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"}).output
    assert f" on {rows[0]['device']}" in shown
    assert f"{most} steps [Mpx/s]" in shown
    assert "s for 24 Mpx" in shown
