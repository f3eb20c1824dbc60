"""Training learns, is taken up where it stopped with the same bits, and stops on what is no number."""

import json
from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from rngcli.data.crops import Batches, Photographs
from rngcli.data.degrade import DegradeSpec, only
from rngcli.data.image_cache import Pool, is_held_out
from rngcli.diffusion.residual import ProcessSpec
from rngcli.diffusion.schedule import sigma_of
from rngcli.errors import ModelError, NoInputError, RngError, UsageError
from rngcli.methods.rng import rng_of, with_rng
from rngcli.metrics.detail_ratio import TEXTURES, spread, spread_by_texture
from rngcli.training import compile_fallback as compiling
from rngcli.training.labels import Labels, patches, source_of
from rngcli.training.optim import OPTIMISERS
from rngcli.training.perceptual import PERCEPTUAL_UP_TO, Perceptual
from rngcli.training.sampler import Sampler
from rngcli.training.schedule_search import (
    ALIKE,
    ETAS,
    GAINS,
    STARTS,
    SamplerSetting,
    best_of,
    gains_of_choices,
    ranked,
    ranked_gains,
    search_schedule,
)
from rngcli.training.stages import generate as stages
from rngcli.training.stages.control import Control, controller_that_sees, ladder
from rngcli.training.stages.generate import Generate
from rngcli.training.stages.reconstruct import Reconstruct
from rngcli.training.trainer import Trainer, TrainSpec
from tests.tiny import GEN, NAF, WIDER, clouds, identity_bundle, random_bundle, random_lpips


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return sorted(clouds(tmp_path_factory.mktemp("photographs"), 6, (320, 280)).glob("*.png"))


@pytest.fixture
def batches(paths):
    return Batches(Photographs.load(paths, 64), size=4)


def trained(stage_of, folder, steps, spec=None):
    torch.manual_seed(0)
    trainer = Trainer(stage_of(), spec or TrainSpec(steps=steps, lr=3e-3, warmup=1), folder)
    trainer.resume()
    return trainer, list(trainer.run())


def test_a_few_steps_lower_the_loss(batches, tmp_path):
    trainer, _ = trained(lambda: Reconstruct(NAF, batches), tmp_path / "a", 1)
    before = np.mean([trainer.stage.loss(trainer.average, torch.Generator().manual_seed(i)).item() for i in range(8)])
    trainer, _ = trained(lambda: Reconstruct(NAF, batches), tmp_path / "b", 40)
    after = np.mean([trainer.stage.loss(trainer.stage.net, torch.Generator().manual_seed(i)).item() for i in range(8)])
    assert after < 0.9 * before


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_resumed_run_equals_an_unbroken_one(batches, tmp_path, optimiser):
    spec = TrainSpec(steps=6, lr=3e-3, warmup=1, optimiser=optimiser)
    unbroken, _ = trained(lambda: Reconstruct(WIDER, batches), tmp_path / "unbroken", 6, spec)
    trainer = Trainer(_seeded(lambda: Reconstruct(WIDER, batches)), spec, tmp_path / "cut")
    for _ in range(3):
        trainer.train_step()
    trainer.save()
    resumed, _ = trained(lambda: Reconstruct(WIDER, batches), tmp_path / "cut", 6, spec)
    assert resumed.step == unbroken.step == 6
    for mine, other in ((resumed.stage.net, unbroken.stage.net), (resumed.average, unbroken.average)):
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), other.parameters(), strict=True))


def test_a_run_goes_on_only_with_its_own_optimiser(batches, tmp_path):
    for optimiser in ("muon", "adamw"):
        trainer = Trainer(Reconstruct(WIDER, batches), TrainSpec(steps=1, optimiser=optimiser), tmp_path)
        if optimiser == "muon":
            trainer.save()
    with pytest.raises(ModelError, match=r"no state of this network; give .*--optimiser"):
        trainer.resume()


def _seeded(make):
    torch.manual_seed(0)
    return make()


def test_the_log_has_a_line_for_each_checkpoint(batches, tmp_path):
    often = TrainSpec(steps=2, save_minutes=0, overhead=np.inf)
    _, progress = trained(lambda: Reconstruct(NAF, batches), tmp_path, 2, often)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [p.step for p in progress] == [1, 2]
    assert lines[0]["scores"]["psnr_25"] > 0
    _, again = trained(lambda: Reconstruct(NAF, batches), tmp_path, 2, often)
    assert [p.step for p in again] == [2], "a run at its end is told of once more …"
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2, "… but not logged"


@pytest.mark.parametrize("stage", ["reconstruct", "generate"])
def test_a_checkpoint_draws_held_out_crops_from_noisy_to_truth(batches, tmp_path, stage):
    bundle, spec = identity_bundle(), TrainSpec(steps=1, lr=0.0)
    stages_of = {
        "reconstruct": lambda: Reconstruct(NAF, batches),
        "generate": lambda: Generate(GEN, ProcessSpec(), rng_of(bundle).nafnet, batches),
    }
    trained(stages_of[stage], tmp_path, 1, spec)
    with Image.open(tmp_path / "samples" / "0000001.png") as png:
        drawn = np.asarray(png).reshape(png.height // 64, 64, -1, 64, 3).swapaxes(1, 2)  # (row, column, H, W, 3)
    columns = {"reconstruct": 3, "generate": 4}[stage]
    examples = batches.examples(2)
    assert drawn.shape == (2 * len(examples), columns, 64, 64, 3)
    for row, (clean, noisy) in zip(range(0, len(drawn), 2), examples.values(), strict=True):
        for column, truth in ((0, noisy), (columns - 1, clean)):
            expected = (truth.clamp(0, 1) * 255).round().permute(0, 2, 3, 1)
            assert np.abs(drawn[row : row + 2, column] - expected.numpy()).max() <= 1
    if stage == "generate":
        assert np.array_equal(drawn[:, 1], drawn[:, 0]), "the reconstruction here is the input"


def test_a_loss_that_is_no_number_stops_with_step_and_cause(batches, tmp_path):
    task = Reconstruct(NAF, batches)
    torch.nn.init.constant_(task.net.ending.bias, float("nan"))
    with pytest.raises(RngError, match="nan at step 0"):
        list(Trainer(task, TrainSpec(steps=3), tmp_path).run())


def test_a_run_that_diverged_goes_on_from_its_last_checkpoint(batches, tmp_path):
    trainer = Trainer(Reconstruct(NAF, batches), TrainSpec(steps=3), tmp_path)
    trainer.train_step()
    trainer.save()
    torch.nn.init.constant_(trainer.stage.net.ending.bias, float("inf"))
    with pytest.raises(RngError, match="at step 1"):
        list(trainer.run())
    again, _ = trained(lambda: Reconstruct(NAF, batches), tmp_path, 3)
    assert again.step == 3
    assert all(value.isfinite().all() for value in again.stage.net.parameters())



class NoNumbers(torch.autograd.Function):
    """The identity, whose gradient is NaN: what a compiler at fault makes of it."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


def test_where_only_the_compiled_network_gives_no_numbers_it_learns_without(batches, tmp_path, monkeypatch):
    spec, told = TrainSpec(steps=3, lr=3e-3, warmup=1), []
    plain, _ = trained(lambda: Reconstruct(NAF, batches), tmp_path / "plain", 3, spec)
    ways = [("first", lambda net, x: net(x) + float("nan")), ("second", lambda net, x: NoNumbers.apply(net(x)))]
    monkeypatch.setattr(compiling, "compiled", lambda net, _: [(name, partial(way, net)) for name, way in ways])
    trainer = Trainer(_seeded(lambda: Reconstruct(NAF, batches)), replace(spec, compile=True), tmp_path / "compiled")
    trainer.tell = told.append
    list(trainer.run())
    assert all(map(torch.equal, trainer.stage.net.parameters(), plain.stage.net.parameters()))
    assert [line.partition("again with ")[2].split(",")[0] for line in told] == ["second", "the network not compiled"]


def test_the_fault_may_be_the_networks_own(batches, tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "compiled", lambda net, _: [("compiled", net)])
    task = Reconstruct(NAF, batches)
    torch.nn.init.constant_(task.net.ending.bias, float("nan"))
    with pytest.raises(RngError, match="nan at step 0"):
        list(Trainer(task, TrainSpec(steps=3, compile=True), tmp_path).run())


def test_the_learning_rate_warms_up_and_ends_at_zero():
    spec = TrainSpec(steps=1000, lr=1e-3, warmup=100)
    rates = [spec.learning_rate(step, 0.0) for step in range(0, 1001, 50)]
    assert rates[0] < rates[1] < rates[2]
    assert rates[-1] == 0
    assert all(a >= b for a, b in pairwise(rates[2:]))
    assert TrainSpec(minutes=10).learning_rate(5000, 10.0) == 0
    with pytest.raises(UsageError):
        Trainer(None, TrainSpec(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("spec", "prediction"), [(GEN, "v"), (GEN, "eps"), (None, "v")])
def test_the_generator_learns_on_residuals_of_unit_variance(batches, tmp_path, spec, prediction):
    def make():
        return Generate(spec, ProcessSpec(prediction=prediction), rng_of(random_bundle()).nafnet, batches)

    trainer, progress = trained(make, tmp_path, 30)
    task = trainer.stage
    clean, noisy = batches.draw(torch.Generator().manual_seed(1))
    scaled = (clean - task._reconstruct(noisy)) / task.process.spec.sigma_d
    assert 0.5 < scaled.std() < 2
    untrained = make()
    losses = [[t.loss(t.net, torch.Generator().manual_seed(i)).item() for i in range(6)] for t in (task, untrained)]
    assert np.mean(losses[0]) < np.mean(losses[1])
    kinds = {f"{score}_{kind}" for score in ("dpsnr", "spread") for kind in batches.examples(1)}
    assert set(progress[-1].scores) == kinds | {f"spread_{texture}" for texture in TEXTURES}


def test_the_spread_of_detail_is_told_by_texture():
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 3, 48, 144, generator=rng)
    amounts = torch.tensor([0.2, 0.5, 1.0]).repeat_interleave(48)  # columns: little, some, much
    clean, missing = amounts * noise, noise.flip(3)
    found = spread_by_texture(amounts.flip(0) * missing, missing, clean)
    assert [found[name] for name in TEXTURES] == pytest.approx([1.0, 0.5, 0.2], rel=1e-3)
    assert spread(0.3 * missing, missing) == pytest.approx(0.3)


@pytest.fixture
def lpips():
    return random_lpips()


def test_lpips_is_learned_where_it_is_asked_for(batches, lpips, tmp_path):
    def make(weight):
        perceptual = Perceptual(lpips, weight) if weight else None
        return Generate(None, ProcessSpec(), rng_of(random_bundle()).nafnet, batches, perceptual)

    def loss(task):
        return task.loss(task.net, torch.Generator().manual_seed(0))

    little, more, much = (loss(make(weight)).item() for weight in (1.0, 2.0, 3.0))
    assert more > little
    assert much - little == pytest.approx(2 * (more - little), rel=1e-3)
    trainer, progress = trained(lambda: make(1.0), tmp_path, 30)
    assert loss(trainer.stage) < loss(make(1.0))
    assert progress[-1].scores["lpips_25"] > 0


def test_budgets_begin_where_lpips_is_learned():
    schedule, fullest = stages.WITH_PERCEPTUAL
    assert fullest.start == max(STARTS) == PERCEPTUAL_UP_TO
    assert sigma_of(float(schedule.gammas()[schedule.noisiest])) == pytest.approx(PERCEPTUAL_UP_TO, abs=0.005)


def test_the_perceptual_loss_is_a_share_of_what_the_reconstruction_leaves(lpips):
    rng = torch.Generator().manual_seed(0)
    clean = torch.rand(3, 3, 64, 64, generator=rng)
    amounts = torch.tensor([1e-6, 0.5, 1.0]).view(3, 1, 1, 1)
    r = clean + amounts * torch.randn(clean.shape, generator=rng)
    restored = (clean + (r - clean) / 2).requires_grad_()
    loss = Perceptual(lpips, 25.0)

    def share(picture):
        return loss(picture, r, clean, torch.Generator().manual_seed(0))

    assert share(r)[1:] == pytest.approx([25.0, 25.0], rel=1e-3)
    assert share(r)[0] < 1e-3, "nothing was left, and that counts as LEAST_LEFT"
    assert (share(restored)[1:] < 24).all()
    share(restored).sum().backward()
    assert restored.grad.isfinite().all()


def test_beside_lpips_the_error_is_a_share_of_what_is_missing(batches, lpips, monkeypatch):
    monkeypatch.setattr(stages, "BEGINNINGS", 1.0)
    monkeypatch.setattr(stages, "PLACED", 0.0)
    monkeypatch.setattr(stages, "NOT_EXCEEDED", 0.0)
    for sigma in (20.0, 55.0):
        noisy = replace(batches, noise=DegradeSpec(gaussian_share=1.0, sigma=(sigma, sigma)))
        task = Generate(None, ProcessSpec(), rng_of(random_bundle()).nafnet, noisy, Perceptual(lpips, 0.0))
        monkeypatch.setattr(task.process, "estimate", lambda d_t, answer, gamma: (torch.zeros_like(d_t), answer))
        rng = torch.Generator().manual_seed(0)
        assert task.loss(task.net, rng).item() == pytest.approx(stages.MOST_WEIGHT, rel=1e-4), "nothing is generated"


def test_gradients_of_lpips_are_numbers_where_no_feature_answers(lpips):
    flat = torch.zeros(1, 3, 64, 64, requires_grad=True)
    for layer in lpips.stack:
        if hasattr(layer, "bias"):
            torch.nn.init.constant_(layer.bias, -10.0)
    lpips(flat, torch.rand(1, 3, 64, 64)).sum().backward()
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize("sees", ["bands", "noisy", "parts"])
def test_stage_three_labels_searches_and_learns(sees, paths, lpips, tmp_path):
    batches = Batches(Photographs.load(paths, 256), size=2)
    sampler = Sampler(random_bundle(), torch.device("cpu"))
    pairs = [patches([0, 1], batches)]
    trials = list(search_schedule(sampler, lpips, pairs, (SamplerSetting(1.0, 0.1, 2), SamplerSetting(2.0, 0.1, 3))))
    assert [t.setting.evaluations for t in trials[: 2 * len(GAINS)]] == [2] * len(GAINS) + [3] * len(GAINS)
    assert [t.setting.eta for t in trials[2 * len(GAINS) :: len(GAINS)]] == list(ETAS)
    assert best_of(trials, most_db=1e9).lpips <= ALIKE * min(t.lpips for t in trials)
    assert best_of(trials, most_db=-1e9).dpsnr == max(t.dpsnr for t in trials)
    in_order = list(ranked(trials, most_db=1e9))
    assert len(in_order) == len(trials)
    assert in_order[0] == best_of(trials, most_db=1e9)
    assert in_order[1] == best_of([t for t in trials if t is not in_order[0]], most_db=1e9)
    bundle = with_rng(random_bundle(), budgets=ladder(2.0, 3, 0.1))
    labels = Labels(tmp_path / "labels.pt", bundle, "")
    labels.extend(sampler, lpips, batches)
    again = Labels(tmp_path / "labels.pt", bundle, "")
    again.extend(sampler, lpips, batches)
    assert len(Labels(tmp_path / "labels.pt", random_bundle(), "")) == 0, "other budgets, other labels"
    others = Batches(Photographs.load(paths[:-1], 256)), replace(batches, noise=only("film"))
    assert source_of(batches) not in [source_of(other) for other in others], "of other patches no label is taken over"
    assert again.lpips.shape == (4, 11)
    assert torch.equal(again.lpips[:2], labels.lpips)
    _, progress = trained(lambda: Control(controller_that_sees(sees), again, batches, sampler), tmp_path, 3)
    scores = progress[-1].scores
    assert scores["lpips_oracle"] <= scores["lpips"] + 1e-6
    found = gains_of_choices(sampler, random_bundle(), lpips, pairs)
    assert set(found) == {*GAINS, sampler.process.spec.gain}
    assert len(set(found.values())) > 1, "the gain makes a difference where something is generated"


def test_the_best_gain_is_one_that_can_be_afforded():
    found = {0.6: (0.9, -0.2), 1.0: (0.7, -0.9), 1.3: (0.6, -1.4)}
    assert [ranked_gains(found, most_db)[0] for most_db in (2.0, 1.0, 0.5, 0.1)] == [1.3, 1.0, 0.6, 0.6]
    assert ranked_gains(found, 1.0) == [1.0, 0.6, 1.3]
    assert ranked_gains({1.0: (0.8, -0.1), 1.4: (0.701, -0.3), 1.8: (0.7, -0.5)}) == [1.4, 1.8, 1.0]


def test_a_ladder_rises_in_noise_and_in_evaluations():
    rungs = ladder(3.0, 8, 0.05)
    assert len(rungs) == 11
    assert rungs[0].evaluations == 0
    assert rungs[-1].start == 3.0
    assert rungs[-1].evaluations == 8
    assert all(a.start <= b.start and a.evaluations <= b.evaluations for a, b in pairwise(rungs))


def test_crops_come_from_the_pictures_in_all_eight_symmetries(tmp_path):
    picture = np.arange(64 * 64 * 3, dtype=np.int64).reshape(64, 64, 3) % 251
    Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "a.png")
    pool = Pool([tmp_path / "a.png"], 64)
    crops = (pool.sample(64, torch.Generator().manual_seed(0)) * 255).round().to(torch.uint8)
    truth = torch.from_numpy(picture.astype(np.uint8)).permute(2, 0, 1)
    turned = [torch.rot90(t, k, (1, 2)) for t in (truth, truth.flip(2)) for k in range(4)]
    seen = [next(i for i, t in enumerate(turned) if torch.equal(t, crop)) for crop in crops]
    assert set(seen) == set(range(8))


def test_what_cannot_be_trained_on_is_said(tmp_path):
    Image.new("RGB", (30, 30)).save(tmp_path / "small.png")
    with pytest.raises(NoInputError, match="64×64"):
        Pool([tmp_path / "small.png"], 64)


def test_the_held_out_slice_depends_on_names_alone(paths):
    names = [paths[0].with_name(f"{i}.png") for i in range(2000)]
    share = sum(map(is_held_out, names)) / len(names)
    assert 0.02 < share < 0.045


def test_what_a_network_draws_itself_belongs_to_the_step(tmp_path):
    def losses(name, seed):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5))
        task = SimpleNamespace(net=net, loss=lambda forward, rng: forward(torch.ones(4, 8)).square().mean())
        trainer = Trainer(task, TrainSpec(steps=3), tmp_path / name)
        torch.manual_seed(seed)
        return [trainer.train_step() for _ in range(3)]

    assert losses("a", 1) == losses("b", 2)


def test_a_controller_that_nobody_knows_is_refused():
    with pytest.raises(UsageError, match="unknown controller 'band'"):
        controller_that_sees("band")
