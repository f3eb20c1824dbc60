"""Memory that runs out at any moment, however torch says it: the same pictures, and full batches again."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from rngcli import evaluation, methods
from rngcli.device import is_out_of_memory
from rngcli.errors import EnvironmentFault
from rngcli.inference import recovery
from rngcli.inference.canvas import Canvas
from rngcli.inference.engine import Job, denoise
from rngcli.inference.pipeline import Pipeline
from rngcli.inference.slots import Slots
from rngcli.methods.contract import STATE, Frame, Request
from rngcli.models.bundle import MethodSpec
from tests.pretend_device import pretended_device
from tests.tiny import random_bundle

KINDS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    torch.AcceleratorError("CUDA error: out of memory", 2) if hasattr(torch, "AcceleratorError") else MemoryError(),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1 GB, max allowed: 9 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: tried 8 bytes"),
    MemoryError(),
)


class Halving:
    """A method that costs nothing: halves the state towards the picture, as often as the tile is bright."""

    frame = Frame(tile=(32, 32), context=4, overlap=8, discard=2)
    holds = {"x": (3, 40, 40), STATE: (3, 40, 40)}  # noqa: RUF012
    understands = frozenset({"detail", "seed"})
    end, unit = 0.0, 1.0
    draws_first_noise = stochastic = True

    def require(self, request):
        pass

    def start(self, seen, request):
        budgets = (seen.pixels.mean(dim=(1, 2, 3)) * 6).long().tolist()
        return {"x": seen.pixels}, [tuple(0.5**k for k in range(n)) if request.generates else () for n in budgets]

    def begin(self, held, level, noise):
        return held["x"] + level[:, None, None, None] * noise

    def step(self, held, step):
        return (held["x"] + held[STATE]) / 2 + 0.01 * step.noise

    def finish(self, held):
        return held["x"], (held[STATE] - held["x"]) / 8

    def start_share(self, level):
        return level


@pytest.fixture
def bundle(monkeypatch):
    monkeypatch.setitem(methods.KINDS, "halving", lambda *_: Halving())
    made = random_bundle()
    return replace(made, methods={"halving": MethodSpec("halving"), **made.methods})


def pictures(count=3):
    rng = np.random.default_rng(0)
    sizes = [(70, 45), (20, 90), (33, 33), (9, 7)]
    return [Job(str(i), rng.random((*sizes[i % 4], 3), np.float32) ** rng.uniform(0.3, 3)) for i in range(count)]


def restored(pipeline, jobs=None, on_step=None):
    return {r.key: r for r in denoise(jobs or pictures(), pipeline, Request(), on_step)}


def assert_alike(results, calm):
    assert results.keys() == calm.keys()
    for key, result in results.items():
        assert result.error is None
        assert np.abs(result.pixels - calm[key].pixels).max() < 1 / 255
        assert np.array_equal(result.steps, calm[key].steps)


class Failing:
    """Lets a method of a class fail at some of its calls, all in all `times` times."""

    def __init__(self, monkeypatch, owner, name, error, first, times):
        self.calls, self.left, original = 0, times, getattr(owner, name)

        def failing(*args, **kwargs):
            self.calls += 1
            if self.calls >= first and self.left:
                self.left -= 1
                raise error
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, failing)


PLACES = [
    *((Pipeline, name) for name in ("upload", "canvas", "start", "step", "finish")),
    *((Slots, name) for name in ("__init__", "write")),
    *((Halving, name) for name in ("start", "step", "finish")),
    (Canvas, "put"),
]


def test_memory_that_runs_out_anywhere_changes_no_picture(bundle):
    calm = restored(Pipeline(bundle, "cpu", "fp32", 8))
    happened = 0
    for seed in range(200):
        chosen = random.Random(seed)
        with pytest.MonkeyPatch.context() as patch:
            owner, name = chosen.choice(PLACES)
            failing = Failing(patch, owner, name, chosen.choice(KINDS), chosen.randint(1, 5), chosen.randint(1, 2))
            results = restored(Pipeline(bundle, "cpu", "fp32", chosen.choice([4, 8])))
            happened += failing.calls > 0 and not failing.left
        assert_alike(results, calm)
    assert happened > 150


def test_memory_that_runs_out_on_a_device_between_any_two_launches(bundle):
    calm = restored(Pipeline(bundle, "cpu", "fp32", 4))
    with pretended_device() as device:
        for seed in range(5):
            chosen, pipeline = random.Random(seed), Pipeline(bundle, "cuda", "fp32", 4)
            left = [chosen.randint(1, 500)]

            def fail(line, left=left, error=KINDS[seed]):
                left[0] -= 1
                if not left[0]:
                    raise error

            device.fail = fail
            assert_alike(restored(pipeline), calm)
            assert left[0] <= 0


def test_batches_grow_again_when_memory_is_there_again(bundle, monkeypatch):
    monkeypatch.setattr(recovery, "PATIENCE", 3)
    Failing(monkeypatch, Halving, "step", KINDS[0], 2, 1)
    sizes = []
    jobs = pictures(16)
    results = restored(Pipeline(bundle, "cpu", "fp32", 8), jobs, sizes.append)
    assert len(results) == 16
    assert sizes[0] == 8
    half = next(i for i in range(len(sizes)) if max(sizes[i : i + 3]) == 4)
    assert max(sizes[half:]) == 8


def test_a_picture_for_which_there_is_no_memory_fails_alone(bundle, monkeypatch):
    put = Canvas.put

    def refusing(self, i, share):
        if self.grid.width == 90:
            raise MemoryError
        put(self, i, share)

    monkeypatch.setattr(Canvas, "put", refusing)
    results = restored(Pipeline(bundle, "cpu", "fp32", 4))
    assert [key for key, result in results.items() if result.error] == ["1"]
    assert "more memory" in str(results["1"].error)


@pytest.mark.parametrize("capacity", [1, 2])
def test_jobs_that_run_out_of_memory_themselves_are_not_taken_for_the_last(bundle, capacity):
    def jobs():
        yield from (Job(str(i), np.full((48, 48, 3), 0.5, np.float32)) for i in range(3))
        raise MemoryError

    with pytest.raises(MemoryError):
        list(denoise(jobs(), Pipeline(bundle, "cpu", "fp32", capacity), Request()))


def test_not_even_one_tile(bundle, monkeypatch):
    Failing(monkeypatch, Halving, "start", KINDS[2], 1, 10**9)
    with pytest.raises(EnvironmentFault, match="one tile"):
        restored(Pipeline(bundle, "cpu", "fp32", 4), pictures(4))


def test_a_model_that_does_not_fit_is_a_fault_of_the_machine(monkeypatch):
    Failing(monkeypatch, torch.nn.Module, "to", KINDS[1], 1, 1)
    with pytest.raises(EnvironmentFault, match="does not fit"):
        Pipeline(random_bundle(), "cpu", "fp32", 1)


def test_a_comparison_recovers_too(bundle, monkeypatch):
    (column,) = evaluation.methods(["halving"], evaluation.Sweep(), lambda: Pipeline(bundle, "cpu", "fp32", 8))
    calm = {r.key: r for r in column.run(pictures(), None)}
    Failing(monkeypatch, Halving, "step", KINDS[2], 2, 2)
    assert_alike({r.key: r for r in column.run(pictures(), None)}, calm)


@pytest.mark.parametrize("error", KINDS, ids=lambda error: type(error).__name__)
def test_all_its_names_are_known(error):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
