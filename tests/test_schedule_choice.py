"""Stage 3 takes the best choice in whose pictures no tile border shows."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from rngcli.methods.rng import rng_of, with_rng
from rngcli.training import schedule_choice
from rngcli.training.host import Silent
from rngcli.training.labels import CLASSES, Labels
from rngcli.training.recipe import Recipe
from rngcli.training.schedule_choice import CHECKED, ScheduleChoice
from rngcli.training.schedule_search import MOST_TRIALS, SamplerSetting, Trial
from tests.tiny import random_bundle


@pytest.fixture
def choice():
    return ScheduleChoice(None, None, "cpu", Silent())


@pytest.fixture
def bundle_of():
    bundle = random_bundle()
    return lambda gain: with_rng(bundle, process=replace(rng_of(bundle).process, gain=float(gain)))


@pytest.fixture
def asked(monkeypatch):
    """The gains that were looked at, in order; only 3 shows no border."""
    seen = []

    def agreeing(bundle, device):
        process = rng_of(bundle).process
        seen.append(process.gain)
        return with_rng(bundle, process=replace(process, agreement=0.5)), process.gain == 3

    monkeypatch.setattr(schedule_choice, "with_agreement", agreeing)
    return seen


def test_the_first_seamless_choice_is_taken(choice, bundle_of, asked):
    best, bundle = choice.seamless([1, 2, 3, 4], bundle_of)
    assert (best, rng_of(bundle).process.gain, rng_of(bundle).process.agreement) == (3, 3, 0.5)
    assert asked == [1, 2, 3]


def test_where_none_is_seamless_the_best_is_taken_after_a_few(choice, bundle_of, asked):
    best, bundle = choice.seamless(range(10, 100), bundle_of)
    assert (best, rng_of(bundle).process.gain) == (10, 10)
    assert len(asked) == CHECKED


def test_what_was_looked_at_for_the_schedule_is_not_for_the_gain(choice, bundle_of, asked):
    first = choice.seamless([1, 3], bundle_of)
    assert rng_of(choice.seamless([3], bundle_of)[1]).process == rng_of(first[1]).process
    assert asked == [1, 3]


@pytest.mark.parametrize(("patches", "kept"), [(4, True), (8, False)])
def test_what_was_learned_from_fewer_patches_is_not_gone_on_with(tmp_path, patches, kept):
    bundle, state = random_bundle(), tmp_path / "controller" / "state.pt"
    state.parent.mkdir()
    state.touch()
    labels = Labels(tmp_path / "controller" / "labels.pt", bundle, "")
    figures = torch.zeros(4, CLASSES)
    torch.save({"made_by": labels.made_by, "lpips": figures, "psnr": figures}, labels.file)
    assert len(Recipe(tmp_path, "cpu").labels_so_far(bundle, patches, "")) == 4
    assert state.exists() is kept


def test_labels_are_kept_where_the_controller_was_given_another_gain(tmp_path):
    bundle = random_bundle().with_provenance("schedule", {"gain": 1.4})
    labels = Labels(tmp_path / "labels.pt", bundle, "")
    figures = torch.zeros(4, CLASSES)
    torch.save({"made_by": labels.made_by, "lpips": figures, "psnr": figures}, labels.file)
    process = replace(rng_of(bundle).process, gain=0.7, agreement=0.9)
    again = Labels(labels.file, with_rng(bundle, process=process), "")
    assert (len(again), again.gain) == (4, 1.4)
    other = bundle.with_provenance("schedule", {"gain": 1.0})
    assert len(Labels(labels.file, other, "")) == 0
    assert len(Labels(labels.file, bundle, "other photographs")) == 0


class Listening(Silent):
    """Keeps what is said, and what work is counted."""

    def __init__(self):
        self.said, self.counted = [], []

    def say(self, line):
        self.said.append(line)

    def track(self, work, doing, total, unit):
        self.counted.append((doing, total, unit))
        return work


def test_what_is_told_is_words_and_every_long_work_is_counted(asked, monkeypatch):
    trial = Trial(SamplerSetting(0.6, 0.3, 1), 1.4, 0.8, -0.2, 0.9)
    batches = SimpleNamespace(held_out=lambda n, noise: (None, None), device="cpu")
    monkeypatch.setattr(schedule_choice, "Sampler", lambda bundle, device: None)
    monkeypatch.setattr(schedule_choice, "search_schedule", lambda *about: iter([trial]))
    monkeypatch.setattr(
        schedule_choice, "gains_of_choices", lambda s, b, lpips, pairs: {3.0: (0.8, -0.1 * len(list(pairs)))}
    )
    listener = Listening()
    choice = ScheduleChoice(batches, None, "cpu", listener)
    choice.gain(choice.schedule(random_bundle()))
    assert [(total, unit) for _, total, unit in listener.counted] == [(MOST_TRIALS, "trials"), (4, "kinds of noise")]
    assert listener.said[0] == (
        "from σ 0.6 to 0.3 in 1 evaluation, gain 1.4: LPIPS ×0.800, PSNR -0.20 dB, helps 90% of the patches"
    )
    assert not any("(" in line or "=" in line for line in listener.said), "no reprs"
