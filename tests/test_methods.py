"""A method is a contract: one that nothing here has heard of runs through scheduler, pipeline, worker and command."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from typer.testing import CliRunner

from rngcli import evaluation, methods
from rngcli.batch.file_options import FileOptions
from rngcli.batch.inputs import plan
from rngcli.batch.worker import run
from rngcli.cli import app
from rngcli.diffusion.operators import Identity, Seen
from rngcli.diffusion.process import Process
from rngcli.diffusion.residual import ProcessSpec, ResidualDiffusion
from rngcli.errors import ModelError, UsageError
from rngcli.inference.engine import Job, denoise
from rngcli.inference.number_format import stays_finite
from rngcli.inference.pipeline import Pipeline
from rngcli.methods import open_method
from rngcli.methods.contract import SIDES, STATE, Frame, Request
from rngcli.methods.rng import rng_of, with_rng
from rngcli.models.bundle import Bundle, MethodSpec, load, save
from tests.tiny import identity_bundle, random_bundle

SIZES = ((100, 45), (48, 48), (7, 90), (1, 1))
DARK = 0.2  # tiles whose mean is below need nothing


def blurred(x):
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, stride=1)


class SlowBlur:
    """Each pixel fourfold, and in three steps a blend towards a blur; what noise there is on the way is taken away."""

    frame = Frame(tile=(48, 48), context=4, scale=2, overlap=12, discard=3)
    holds = {"large": (3, 112, 112), "goal": (3, 112, 112), "grey": (1, 56, 56), STATE: (3, 112, 112)}  # noqa: RUF012
    understands = frozenset({"detail", "seed"})
    end, unit = 0.0, 1.0
    draws_first_noise = stochastic = True

    def __init__(self, amount, operator):
        assert isinstance(operator, Identity)
        self.amount = amount

    def require(self, request):
        pass

    def start(self, seen, request):
        assert seen.valid.shape == (len(seen.pixels), 1, 56, 56)
        large = F.interpolate(seen.pixels, scale_factor=2)
        goal = large + self.amount * (blurred(large) - large)
        bright = self.frame.middle(seen.pixels).mean(dim=(1, 2, 3)) > DARK
        plans = [(1.0, 0.6, 0.2) if tile and request.generates else () for tile in bright]
        return {"large": large, "goal": goal, "grey": seen.pixels.mean(1, keepdim=True)}, plans

    def _at(self, level, held, noise):
        level = level[:, None, None, None]
        return (1 - level) * held["goal"] + level * (held["large"] + noise)

    def begin(self, held, level, noise):
        assert 0.9 < noise.std() < 1.1
        return self._at(level, held, noise)

    def step(self, held, step):
        assert (step.now > step.after).all()
        assert torch.allclose(held["large"].mean(1, keepdim=True)[..., ::2, ::2], held["grey"], atol=1e-6)
        return self._at(step.after, held, step.noise)

    def finish(self, held):
        return held["large"], held[STATE] - held["large"]

    def start_share(self, level):
        return level


@pytest.fixture
def toy(monkeypatch):
    """A bundle of RnG and, first, of the toy."""
    monkeypatch.setitem(
        methods.KINDS,
        "slow-blur",
        lambda bundle, name, device, dtype, operator: SlowBlur(operator=operator, **bundle.methods[name].settings),
    )
    rng = random_bundle()
    return replace(rng, methods={"blur": MethodSpec("slow-blur", {}, {"amount": 0.5}), **rng.methods})


def expected(pixels, detail=1.0):
    """What the toy makes of a whole picture (H, W, 3) at once."""
    context = 4
    wide = np.pad(pixels, ((context, context), (context, context), (0, 0)), mode="reflect")
    large = F.interpolate(torch.from_numpy(wide).permute(2, 0, 1)[None], scale_factor=2)
    out = large + 0.5 * detail * (blurred(large) - large)
    return out[0, :, 2 * context : -2 * context, 2 * context : -2 * context].permute(1, 2, 0).numpy()


def pictures():
    rng = np.random.default_rng(0)
    return [Job(str(i), 0.3 + 0.6 * rng.random((*size, 3), np.float32)) for i, size in enumerate(SIZES)]


@pytest.mark.parametrize("capacity", [1, 3])
@pytest.mark.parametrize("detail", [0.0, 0.5, 1.0])
def test_a_second_method_runs_on_slots_and_a_frame_of_its_own(toy, capacity, detail):
    pipeline = Pipeline(toy, "cpu", "fp32", capacity)
    assert {key: tuple(held.shape[1:]) for key, held in pipeline.slots.held.items()} == SlowBlur.holds
    results = {result.key: result for result in denoise(pictures(), pipeline, Request(detail=detail))}
    for job in pictures():
        result = results[job.key]
        height, width = job.pixels.shape[:2]
        assert result.pixels.shape == (2 * height, 2 * width, 3)
        assert (result.grid.height, result.grid.tile, len(result.grid)) == (2 * height, (96, 96), result.steps.size)
        assert set(result.steps.flat) == {3 if detail else 0}
        if min(height, width) > 4:
            np.testing.assert_allclose(result.pixels, expected(job.pixels, detail), atol=2e-6)


def test_tiles_without_a_plan_are_only_the_base_whatever_the_slot_held_before(toy):
    bright, dark = np.full((60, 60, 3), 0.8, np.float32), np.full((60, 60, 3), 0.1, np.float32)
    dark[::2] = 0.05
    results = denoise([Job("bright", bright), Job("dark", dark)], Pipeline(toy, "cpu", "fp32", 2), Request())
    found = {result.key: result for result in results}
    assert (set(found["bright"].steps.flat), set(found["dark"].steps.flat)) == ({3}, {0})
    np.testing.assert_allclose(found["dark"].pixels, dark.repeat(2, 0).repeat(2, 1), atol=1e-6)
    assert found["bright"].starts.all()
    assert not found["dark"].starts.any()


def test_holes_and_noise_levels_reach_the_method(toy, monkeypatch):
    seen, start = [], SlowBlur.start

    def watched(self, what, request):
        seen.append(what)
        return start(self, what, request)

    monkeypatch.setattr(SlowBlur, "start", watched)
    valid = np.ones((40, 46), bool)
    valid[10:20, 5:9] = False
    job = Job("x", np.full((*valid.shape, 3), 0.5, np.float32), valid, 0.1)
    list(denoise([job], Pipeline(toy, "cpu", "fp32", 1), Request()))
    (what,) = seen
    assert what.sigma.tolist() == [pytest.approx(0.1)]
    tile = what.valid[0, 0].bool().numpy()
    assert np.array_equal(tile[8:48, 5:51], valid), "a tile of 48 and a context of 4 around the picture"
    assert tile.sum() == valid.sum(), "beyond the border nothing is valid"


def test_an_option_that_a_method_lacks_is_refused_with_the_names_of_those_it_has(toy):
    pipeline = Pipeline(toy, "cpu", "fp32", 1)
    for option in ("steps", "max_steps", "budget"):
        flag = "--" + option.replace("_", "-")
        with pytest.raises(UsageError, match=rf"blur has no option {flag}.*--detail, --seed"):
            denoise([], pipeline, Request(**{option: 7}))
    Pipeline(toy, "cpu", "fp32", 1, method="rng").require(Request(7, 2, 0.3, 5))


def test_a_method_is_chosen_by_name_and_is_the_first_where_none_is_named(toy):
    assert isinstance(open_method(toy), SlowBlur)
    assert open_method(toy, "rng").frame == Frame(sides=SIDES)
    with pytest.raises(UsageError, match=r"no method 'sharpen'.*blur, rng"):
        open_method(toy, "sharpen")
    with pytest.raises(UsageError, match="no method"):
        open_method(Bundle({}))
    unknown = replace(toy, methods={"x": MethodSpec("from the future")})
    with pytest.raises(ModelError, match="from the future"):
        open_method(unknown)


def test_half_the_capacity_is_the_same_method(toy):
    half = Pipeline(toy, "cpu", "fp32", 4, method="rng").halved()
    assert (half.capacity, half.name, set(half.slots.held)) == (2, "rng", {"x", "r", STATE})


def test_the_worker_writes_what_a_second_method_makes(toy, tmp_path):
    pixels = np.random.default_rng(1).integers(80, 256, (70, 50, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tasks = plan([tmp_path / "a.png"], tmp_path / "out").tasks
    files = FileOptions(step_maps=tmp_path / "maps")
    (outcome,) = run(tasks, Pipeline(toy, "cpu", "fp32", 2), Request(), files)
    assert (outcome.error, outcome.notes, outcome.steps) == (None, (), 3)
    written = np.asarray(Image.open(tasks[0].target))
    assert np.abs(written[..., :3] / 255 - expected(np.float32(pixels[..., :3] / 255))).max() <= 0.51 / 255
    assert np.array_equal(written[..., 3], pixels[..., 3].repeat(2, 0).repeat(2, 1))
    assert Image.open(tmp_path / "maps" / "a.png.steps.png").size == (100, 140)


def test_the_command_takes_a_bundle_with_a_second_method(toy, tmp_path):
    save(toy, tmp_path / "two.safetensors")
    pixels = np.random.default_rng(1).integers(80, 256, (60, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")

    def rng(out, *options):
        paths = [str(tmp_path / name) for name in ("a.png", out, "two.safetensors")]
        arguments = ["denoise", *paths[:2], "--model", paths[2], "--device", "cpu", "--precision", "fp32"]
        return CliRunner().invoke(app, [*arguments, *options])

    assert rng("blur.png").exit_code == 0
    written = np.asarray(Image.open(tmp_path / "blur.png"))
    assert np.abs(written / 255 - expected(np.float32(pixels / 255))).max() <= 0.51 / 255
    assert rng("rng.png", "--method", "rng").exit_code == 0
    assert Image.open(tmp_path / "rng.png").size == (40, 60)
    refused = rng("no.png", "--steps", "2")
    assert isinstance(refused.exception, UsageError)
    assert "blur has no option --steps" in str(refused.exception)
    assert not (tmp_path / "no.png").exists()


def test_the_methods_of_a_bundle_are_columns_of_a_comparison(toy):
    columns = evaluation.methods(["blur", "rng"], evaluation.Sweep(), lambda: Pipeline(toy, "cpu", "fp32", 1))
    job = Job("x", np.full((60, 40, 3), 0.6, np.float32))
    blur, rng = (next(column.run([job], None)) for column in columns)
    assert ([column.name for column in columns], blur.pixels.shape, rng.pixels.shape) == (
        ["blur", "rng"], (120, 80, 3), (60, 40, 3),
    )  # fmt: skip


# --- RnG as a method -------------------------------------------------------------------------------------------


def test_rng_in_a_batch_of_mixed_levels_equals_its_tiles_one_by_one():
    method = open_method(random_bundle())
    seen = Seen(torch.rand(3, 3, 288, 288), torch.ones(3, 1, 288, 288), torch.full((3,), float("nan")))
    held, plans = method.start(seen, Request())
    held[STATE] = torch.randn(3, 3, 288, 288)
    now, after, noise = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.3, 0.9, 1.0]), torch.zeros(3, 3, 288, 288)
    together = method.step(held, methods.contract.Step(now, after, noise))
    for i in range(3):
        one = {key: value[i : i + 1] for key, value in held.items()}
        step = methods.contract.Step(*(part[i : i + 1] for part in (now, after, noise)))
        torch.testing.assert_close(method.step(one, step), together[i : i + 1], atol=1e-5, rtol=1e-5)
    assert all(list(levels) == sorted(levels) for levels in plans)


def test_rng_refuses_what_is_more_than_noise():
    class Shifted:
        scale, margin = 1, 3

    with pytest.raises(UsageError, match="takes noise away"):
        open_method(random_bundle(), operator=Shifted())


def test_changes_to_rng_leave_what_other_methods_share(toy):
    shared = replace(toy, methods={**toy.methods, "other": MethodSpec("slow-blur", {"prior": "nafnet"})})
    changed = with_rng(shared, nafnet=rng_of(identity_bundle()).nafnet)
    assert changed.networks["nafnet"] is toy.networks["nafnet"]
    assert rng_of(changed).nafnet is not toy.networks["nafnet"]
    assert set(with_rng(changed, generator=None, controller=None).networks) == {"nafnet", "nafnet-2"}
    alone = with_rng(toy, nafnet=rng_of(identity_bundle()).nafnet)
    assert list(alone.networks).count("nafnet") == 1
    assert set(alone.networks) == set(toy.networks)
    assert list(alone.methods) == ["blur", "rng"], "the order of methods stays"


def test_unknown_settings_of_rng_are_errors():
    bundle = random_bundle()
    spec = bundle.methods["rng"]
    for stray in ({"temperature": 1}, {"process": {**spec.settings["process"], "sigma": 1}}):
        damaged = replace(bundle, methods={"rng": replace(spec, settings={**spec.settings, **stray})})
        with pytest.raises(ModelError, match="'rng' is damaged"):
            open_method(damaged)
    swapped = replace(spec, networks={**spec.networks, "generate": "nafnet"})
    with pytest.raises(ModelError, match="a network of the kind nafnet cannot generate"):
        open_method(replace(bundle, methods={"rng": swapped}))
    with pytest.raises(ModelError, match="chooses among 11 budgets, 2 are there"):
        open_method(with_rng(bundle, budgets=rng_of(bundle).budgets[:2]))


# --- processes and operators -----------------------------------------------------------------------------------


def returns_x0(process: Process, levels: list[float]) -> None:
    """With an oracle in the network's place, any walk that ends at `process.end` returns x0."""
    x0, noise = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    walk = [torch.full((2,), level) for level in (*levels, process.end)]
    state = process.corrupt(x0, walk[0], noise)
    for level, after in pairwise(walk):
        state = process.step(state, process.target(x0, level, noise), level, after, noise)
    torch.testing.assert_close(state, x0, atol=1e-5, rtol=0)


@pytest.mark.parametrize("levels", [[0.5], [0.3, 0.9], [0.2, 0.4, 0.6, 0.8, 0.95]])
def test_the_residual_process_keeps_the_contract(levels):
    returns_x0(ResidualDiffusion(ProcessSpec()), levels)


def test_meeting_what_was_seen_weighs_by_precision():
    y, x = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    valid = torch.ones(2, 1, 4, 4)
    valid[:, :, 0] = 0
    variance, sigma = torch.tensor([0.04, 1.0]), torch.tensor([0.2, 0.0])
    met = Identity().meet(y, Seen(x, valid, sigma), variance)
    torch.testing.assert_close(met[0, :, 1:], (y[0, :, 1:] + x[0, :, 1:]) / 2)
    torch.testing.assert_close(met[1, :, 1:], x[1, :, 1:])
    assert torch.equal(met[:, :, 0], y[:, :, 0])


def test_a_bundle_of_both_comes_back(toy, tmp_path):
    save(toy, tmp_path / "two.safetensors")
    after = load(tmp_path / "two.safetensors")
    assert after.methods == toy.methods
    assert isinstance(open_method(after), SlowBlur)


@pytest.mark.parametrize(
    ("method", "network"), [("rng", "generator"), ("rng", "nafnet"), ("rddm", "walker"), ("diffpir", "net")]
)
def test_a_number_format_is_tried_on_every_network_of_a_method(method, network):
    opened = open_method(random_bundle(), method, torch.device("cpu"), torch.float32, Identity())
    assert stays_finite(opened, torch.device("cpu"))
    for parameter in getattr(opened, network).parameters():
        torch.nn.init.constant_(parameter, float("inf"))
    assert not stays_finite(opened, torch.device("cpu"))
