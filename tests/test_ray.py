"""Many machines by Ray, with real Ray processes: the same outputs, each picture told once, whoever dies."""

import json
from collections import Counter

import pytest
from typer.testing import CliRunner

from rngcli.batch import ray_actor
from rngcli.batch.batch import Batch
from rngcli.batch.batch_options import BatchOptions
from rngcli.batch.inputs import plan
from rngcli.batch.ray_cluster import Cluster
from rngcli.cli.commands import app
from rngcli.errors import EnvironmentFault, UsageError
from rngcli.models.bundle import save
from tests.tiny import clouds, random_bundle

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'rngcli[ray]'")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    Cluster("local", 2).connect()
    yield
    ray.shutdown()


@pytest.fixture
def place(tmp_path):
    (tmp_path / "in").mkdir()
    clouds(tmp_path / "in", 10, (300, 200))
    (tmp_path / "in" / "broken.png").write_text("no picture")
    save(random_bundle(), tmp_path / "tiny")
    return tmp_path


def batch_of(place, out="out", cluster=None):
    options = BatchOptions(
        model=str(place / "tiny"), device="auto", precision="fp32", capacity=2, cluster=cluster, overwrite=False
    )
    return Batch(plan([place / "in"], place / out), options)


def run(batch, on_outcome=lambda outcome: None):
    batch.prepare()
    outcomes = []
    for outcome in batch.run():
        outcomes.append(outcome)
        on_outcome(outcome)
    return outcomes


def pictures(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_actors_give_what_one_process_gives_also_when_one_of_them_is_killed(place, monkeypatch):
    run(batch_of(place, "alone"))
    pools, killed = [], []
    start = ray_actor._Pool.start
    monkeypatch.setattr(ray_actor._Pool, "start", lambda pool, i, **more: (pools.append(pool), start(pool, i, **more)))

    def kill_one(outcome):
        if not killed and not outcome.error:
            killed.append(pools[0].actors[0])
            ray.kill(killed[0])

    outcomes = run(batch_of(place, cluster=Cluster("local", 2)), kill_one)
    assert killed
    assert pictures(place / "out") == pictures(place / "alone")
    assert set(Counter(outcome.task.name for outcome in outcomes).values()) == {1}, "each told once"
    assert len(outcomes) == 11
    assert [outcome.task.name for outcome in outcomes if outcome.error] == ["broken.png"]
    assert all(outcome.megapixels and not outcome.before for outcome in outcomes if not outcome.error)
    assert len(batch_of(place, cluster=Cluster("local", 2)).done) == 10


def test_the_command_on_a_cluster_tells_what_it_tells_on_one_machine(place):
    command = ["denoise", str(place / "in"), str(place / "out"), "--model", str(place / "tiny"), "--ray", "local",
               "--workers", "2", "--json"]  # fmt: skip
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1, done.output
    *rows, summary = (json.loads(line) for line in done.stdout.splitlines())
    assert (summary["summary"]["done"], summary["summary"]["failed"]) == (10, 1)
    assert Counter(row["status"] for row in rows) == Counter(done=10, failed=1)
    again = CliRunner().invoke(app, command)
    assert json.loads(again.stdout.splitlines()[-1])["summary"]["skipped"] == 10


def test_what_a_cluster_cannot_mean_is_refused(place):
    command = ["denoise", str(place / "in"), str(place / "out")]
    for more in (["--workers", "2"], ["--ray", "local", "--device", "cpu"]):
        failed = CliRunner().invoke(app, [*command, *more])
        assert isinstance(failed.exception, UsageError), failed.output


def test_without_ray_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(EnvironmentFault, match=r"rngcli\[ray\]"):
        Cluster("local").connect()
