"""The way over a CUDA device, on one that is pretended: the CPU's bits, and no wait that is not needed."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from rngcli.inference.engine import Job, denoise
from rngcli.inference.pipeline import Pipeline
from rngcli.methods.contract import Request
from rngcli.methods.rng import rng_of, with_rng
from tests.pretend_device import pretended_device
from tests.tiny import random_bundle

SIZES = ((260, 30), (40, 300), (256, 256), (7, 9))


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
    for case in ({"bundle": noisy}, {"method": "rddm"}, {"method": "diffpir", "steps": 3}):
        here = run("cpu", pictures()[:2], **case)
        with pretended_device():
            assert_same(here, run("cuda", pictures()[:2], **case))


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
        # What the device has finished is waited for once a batch; and once more for the very last rows.
        assert device.waits.total() <= starts + finishes + 1, device.waits
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
    stored = np.random.default_rng(0).integers(0, full + 1, (270, 40, 3), dtype)
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
