"""The way over a CUDA device, on one that is pretended: the CPU's bits, and no wait that is not needed."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rngcli import device as device_module
from rngcli.cli import app
from rngcli.device import find_device, find_precision, usual_capacity
from rngcli.errors import EnvironmentFault
from rngcli.inference.engine import Job, denoise
from rngcli.inference.pipeline import Pipeline
from rngcli.inference.tiling import with_few_shapes
from rngcli.methods.contract import Request
from rngcli.methods.rng import RnG, RnGParts, rng_of, with_rng
from rngcli.models.bundle import save
from rngcli.nets.folding import plain_convolutions
from rngcli.nets.nafnet import NAFNet
from tests.pretend_device import pretended_device
from tests.tiny import NAF, random_bundle, scramble


@pytest.fixture(autouse=True)
def operators_that_every_device_has():
    with plain_convolutions():
        yield


@pytest.fixture(autouse=True)
def tiles_that_a_gpu_has_as_well(monkeypatch):
    monkeypatch.setattr(Pipeline, "_framed_for_batches", lambda self, frame: with_few_shapes(frame))


SIZES = ((980, 30), (40, 990), (256, 256), (7, 9))


def pictures():
    rng = np.random.default_rng(0)
    return [Job(str(i), rng.random((*size, 3), np.float32) * (i + 1) / len(SIZES)) for i, size in enumerate(SIZES)]


def run(device, jobs=None, capacity=2, bundle=None, method=None, **request):
    pipeline = Pipeline(bundle or random_bundle(), device, "fp32", capacity, method)
    return {r.key: r for r in denoise(jobs or pictures(), pipeline, Request(**request))}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert one[key].error is None
        assert np.array_equal(one[key].pixels, other[key].pixels)
        assert np.array_equal(one[key].steps, other[key].steps)
        assert np.array_equal(one[key].starts, other[key].starts)


@pytest.mark.parametrize("request_", [{}, {"detail": 0}, {"detail": 0.5, "max_steps": 2}])
def test_the_same_bits_as_the_cpu(request_):
    here = run("cpu", **request_)
    with pretended_device() as device:
        there = run("cuda", **request_)
        assert device.launches.total() > 100
    assert_same(here, there)
    if not request_:
        assert len({int(s) for r in here.values() for s in r.steps.flat}) > 1, "the budgets are mixed"


def test_every_method_and_stochastic_steps_too():
    bundle = random_bundle()
    noisy = with_rng(bundle, process=replace(rng_of(bundle).process, eta=1.0))
    several = [Job(str(i), pictures()[0].pixels[i:]) for i in range(3)]  # of one shape of tiles
    for case in ({"bundle": noisy}, {"method": "rddm"}, {"method": "diffpir", "steps": 3}):
        here = run("cpu", several, **case)
        with pretended_device(graphs=True) as device:
            assert_same(here, run("cuda", several, **case))
            assert device.launches["a graph"], "steps are recorded"


class Watched(Pipeline):
    """Notes how often the host waited in each call."""

    def __init__(self, device, *args):
        super().__init__(random_bundle(), "cuda", *args)
        self.device_seen, self.waits = device, Counter()

    def _count(self, name, call, *args):
        before = self.device_seen.waits.total()
        got = call(*args)
        self.waits[name, self.device_seen.waits.total() - before] += 1
        return got

    def upload(self, *args):
        return self._count("upload", super().upload, *args)

    def start(self, *args):
        return self._count("start", super().start, *args)

    def step(self, *args):
        return self._count("step", super().step, *args)

    def finish(self, *args):
        return self._count("finish", super().finish, *args)


@pytest.mark.parametrize("graphs", [False, True])
def test_the_host_waits_once_a_start_and_once_a_finish_and_never_in_a_step(graphs):
    with pretended_device(graphs=graphs) as device:
        pipeline = Watched(device, "fp32", 3)
        device.forget()
        results = list(denoise(pictures(), pipeline, Request()))
        waits = pipeline.waits
        assert dict(waits.keys()) == {"upload": 0, "start": 1, "step": 0, "finish": 0}
        finishes = waits["finish", 0]
        starts = waits["start", 1]
        # What the device has finished is waited for once a batch; and for each size of tiles once more for its last.
        changes = 3  # of SIZES, between pictures whose tiles differ
        assert device.waits.total() <= starts + finishes + 1 + changes, device.waits
        assert len(results) == len(SIZES)


def test_a_run_without_detail_never_waits_for_a_start():
    with pretended_device() as device:
        pipeline = Watched(device, "fp32", 3)
        list(denoise(pictures(), pipeline, Request(detail=0)))
        assert set(pipeline.waits) == {("upload", 0), ("start", 0), ("finish", 0)}


def test_steps_that_are_recorded_once_are_the_same_steps():
    here = run("cpu", steps=4)
    with pretended_device(graphs=True) as device:
        there = run("cuda", steps=4)
        assert device.launches["a graph"] > 3
    assert_same(here, there)


def test_a_picture_too_large_for_the_device_stays_on_the_host():
    here = run("cpu")
    with pretended_device(memory=(2**33, 8 * 200 * 300 * 12)):
        pipeline = Pipeline(random_bundle(), "cuda", "fp32", 2)
        homes = {job.key: pipeline.upload(job.pixels).pixels.device.type for job in pictures()}
        assert homes == {"0": "cuda", "1": "cuda", "2": "cpu", "3": "cuda"}
        assert_same(here, {r.key: r for r in denoise(pictures(), pipeline, Request())})


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_are_uploaded_as_they_are_and_mean_the_same(dtype):
    full = np.iinfo(dtype).max
    stored = np.random.default_rng(0).integers(0, full + 1, (980, 40, 3), dtype)
    whole = Job("x", stored.astype(np.float32) / np.float32(full))
    assert_same(run("cpu", [Job("x", stored)]), run("cpu", [whole]))
    with pretended_device() as device:
        pipeline = Pipeline(random_bundle(), "cuda", "fp32", 2)
        device.forget()
        pipeline.upload(stored)
        assert device.moved.total() == 2 * stored.nbytes, "read once, written once"
        assert_same(run("cpu", [whole]), run("cuda", [Job("x", stored)]))


def test_a_device_that_is_forgotten_is_noticed():
    """The pretended device itself: it raises where devices are mixed, and what is not waited for is poison."""
    with pretended_device() as device:
        there = torch.ones(3, device="cuda:0")
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="same device"):
            torch.ones(2, 3) @ there
        assert (there + torch.ones(())).tolist() == [2, 2, 2], "a number may come from the host"
        device.forget()
        there[[0, 1]]
        there[0].item()
        there.cpu()
        torch.ones(3).to("cuda:0", non_blocking=True)
        assert device.waits.total() == 4
        torch.ones(3).pin_memory().to("cuda:0", non_blocking=True)
        assert device.waits.total() == 4
        on_host = torch.empty_like(there, device="cpu", pin_memory=True)
        on_host.copy_(there, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        assert on_host.isnan().all()
        event.synchronize()
        assert on_host.tolist() == [1, 1, 1]


# --- precision -------------------------------------------------------------------------------------------------


def bundle_that_overflows(above):
    """A reconstruction whose first features leave float16's range where a picture is brighter than `above`."""
    torch.manual_seed(0)
    net = scramble(NAFNet(NAF))
    with torch.no_grad():
        net.intro.weight.fill_(65504 / above / 27)
        net.intro.bias.zero_()
        net.ending.weight.mul_(1e-5)
    return RnGParts(net).bundle()


def test_a_tile_that_leaves_the_range_of_float16_is_computed_again_in_float32():
    dark, bright = np.full((40, 50, 3), 0.2, np.float32), np.full((40, 50, 3), 0.9, np.float32)
    jobs = [Job("dark", dark), Job("bright", bright)]
    bundle = bundle_that_overflows(above=0.5)
    exact = {r.key: r for r in denoise(jobs, Pipeline(bundle, "cpu", "fp32", 1), Request(detail=0))}
    with pretended_device():
        half = {r.key: r for r in denoise(jobs, Pipeline(bundle, "cuda", "fp16", 2), Request(detail=0))}
    assert half["dark"].error is None
    assert np.array_equal(half["bright"].pixels, exact["bright"].pixels)
    assert not np.array_equal(half["dark"].pixels, exact["dark"].pixels), "float16 has its own roundings"


def test_a_model_that_float16_is_too_narrow_for_runs_in_bfloat16():
    with pretended_device():
        assert Pipeline(bundle_that_overflows(above=0.5), "cuda", capacity=1).dtype == torch.bfloat16
        assert Pipeline(random_bundle(), "cuda", capacity=1).dtype == torch.float16
        assert Pipeline(bundle_that_overflows(above=0.5), "cuda", "fp16", 1).dtype == torch.float16, "as it was asked"


def test_float32_on_a_gpu_is_the_standards():
    with pretended_device():
        before = torch.backends.cudnn.conv.fp32_precision
        seen = []
        pipeline = Pipeline(random_bundle(), "cuda", "fp32", 1)
        pipeline.method.nafnet.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.conv.fp32_precision))
        list(denoise(pictures()[:1], pipeline, Request()))
        assert set(seen) == {"ieee"}
        assert torch.backends.cudnn.conv.fp32_precision == before, "training chooses for itself"


# --- the device itself -----------------------------------------------------------------------------------------


def test_precision_and_capacity_go_by_the_device():
    gpu = torch.device("cuda", 0)
    with pretended_device((7, 5)):
        assert find_precision(gpu) == torch.float16
    with pretended_device((6, 1)):
        assert find_precision(gpu) == torch.float32
    for free, whole, capacity in ((78, 80, 32), (22, 24, 8), (15, 16, 8), (7, 8, 4), (2, 80, 2), (0, 80, 1)):
        with pretended_device(memory=(free * 2**30, whole * 2**30)):
            assert usual_capacity(gpu) == capacity, (free, whole)


def test_a_card_that_cannot_run_is_named_and_the_cpu_taken(caplog):
    for cache in (device_module.cannot_run, device_module._tell):
        cache.cache_clear()

    def no_kernel(line):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")

    try:
        with pretended_device((6, 1)) as device:
            device.fail = no_kernel
            assert [find_device().type for _ in range(2)] == ["cpu", "cpu"]
            with pytest.raises(EnvironmentFault, match=r"a pretended GPU.*no kernel image"):
                find_device("cuda")
    finally:
        device_module.cannot_run.cache_clear()
    assert [record.message for record in caplog.records] == [
        "a pretended GPU (cuda:0) cannot run this torch "
        "(CUDA error: no kernel image is available for execution on the device): computing elsewhere"
    ]


def test_verify_says_how_far_a_device_is_from_the_cpu(tmp_path, monkeypatch):
    torch.manual_seed(0)
    net = scramble(NAFNet(NAF))
    with torch.no_grad():
        net.ending.weight.mul_(0.01)
        net.ending.bias.zero_()
    save(RnGParts(net).bundle(), tmp_path / "tiny.safetensors")
    asked = ["models", "verify", str(tmp_path / "tiny.safetensors"), "--device"]
    with pretended_device():
        good = CliRunner().invoke(app, [*asked, "cuda"])
        assert "rng on cuda:0 in float16, the reconstruction: " in good.stdout
        weighted = Pipeline.finish

        def wrong(self, tiles, *rest):
            finished = weighted(self, tiles, *rest)
            return replace(finished, shares=finished.shares // 2) if self.device.type == "cuda" else finished

        monkeypatch.setattr(Pipeline, "finish", wrong)
        assert "does not compute what the CPU does" in str(CliRunner().invoke(app, [*asked, "cuda"]).exception)


def test_a_step_that_cannot_be_recorded_is_taken_as_it_is(monkeypatch):
    here = run("cpu", pictures()[:1], steps=4)
    step = RnG.step

    def asking(self, held, step_):
        step_.now.tolist()
        return step(self, held, step_)

    monkeypatch.setattr(RnG, "step", asking)
    with pretended_device(graphs=True) as device:
        assert_same(here, run("cuda", pictures()[:1], steps=4))
        assert not device.launches["a graph"]
