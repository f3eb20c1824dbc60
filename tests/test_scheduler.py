"""Every tile is stepped exactly through its plan in a slot of its own, and no batch runs short while there is work."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rngcli.inference.scheduler import Scheduler, TileState, by_age

PLAN_LENGTHS = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=6), max_size=8)


@st.composite
def schedulers(draw):
    capacity = draw(st.integers(1, 5))
    return Scheduler(capacity, draw(st.none() | st.integers(capacity, 3 * capacity)))


def tiles_of(image, lengths):
    return [TileState(image, index) for index in range(len(lengths))]


class Run:
    """The engine's loop over pictures given as lists of plan lengths; records what happened."""

    def __init__(self, scheduler, pictures):
        self.scheduler, self.plans, self.pictures = scheduler, dict(enumerate(pictures)), iter(enumerate(pictures))
        self.steps, self.starts, self.retired = [], [], []
        self.draw_while_hungry()
        while not scheduler.idle:
            self.turn()
            self.draw_while_hungry()
            assert len(self.steps) <= sum(1 + n for lengths in pictures for n in lengths), "no progress"

    def draw_while_hungry(self):
        while self.scheduler.hungry and (picture := next(self.pictures, None)):
            self.scheduler.add(tiles_of(*picture))

    def turn(self):
        fresh = self.scheduler.admit()
        for tile in fresh:
            tile.plan = tuple(range(self.plans[tile.image][tile.index]))
        batch = self.scheduler.batch()
        self.scheduler.advance(batch)
        self.starts.append(fresh)
        self.steps.append(batch)
        self.retired += self.scheduler.retire()


@given(schedulers(), PLAN_LENGTHS)
def test_each_tile_is_stepped_through_its_plan_and_retires_once(scheduler, pictures):
    run = Run(scheduler, pictures)
    expected = {(image, index): n for image, plan in enumerate(pictures) for index, n in enumerate(plan)}
    stepped = Counter((tile.image, tile.index) for batch in run.steps for tile in batch)
    assert {key: stepped[key] for key in expected} == expected
    assert sorted((tile.image, tile.index) for tile in run.retired) == sorted(expected)


@given(st.integers(1, 5), st.integers(0, 9), st.lists(st.integers(0, 5), max_size=30), st.randoms())
def test_slots_are_never_shared_and_the_oldest_start_first(capacity, more, lengths, random):
    scheduler = Scheduler(capacity, capacity + more)
    waiting = [TileState(random.randrange(4), index) for index in range(len(lengths))]
    held, late = {}, random.sample(waiting, len(waiting) // 2)
    scheduler.add(tile for tile in random.sample(waiting, len(waiting)) if tile not in late)
    while not scheduler.idle or late:
        scheduler.add([late.pop()] if late else [])
        for tile in scheduler.admit():
            assert all(other.slot >= 0 for other in waiting if other not in late and by_age(other) < by_age(tile))
            assert 0 <= tile.slot < capacity + more
            assert tile.slot not in held
            held[tile.slot] = tile
            tile.plan = (0.5,) * lengths[tile.index]
        batch = scheduler.batch()
        assert len(batch) <= capacity
        assert [tile.slot for tile in batch] == sorted(tile.slot for tile in batch)
        scheduler.advance(batch)
        for tile in scheduler.retire():
            assert held.pop(tile.slot) is tile
    assert not held


@given(st.integers(1, 5), PLAN_LENGTHS)
def test_with_twice_the_slots_starts_and_steps_are_full(capacity, pictures):
    run = Run(Scheduler(capacity, 2 * capacity), pictures)
    starting = [len(fresh) for fresh in run.starts if fresh]
    assert all(n == capacity for n in starting[:-1])


@given(st.integers(1, 5), st.integers(0, 5), st.lists(st.integers(1, 6), min_size=1, max_size=30))
def test_steps_are_full_as_long_as_tiles_wait(capacity, more, lengths):
    run = Run(Scheduler(capacity, capacity + more), [[n] for n in lengths])
    last_start = max(turn for turn, fresh in enumerate(run.starts) if fresh)
    assert all(len(batch) == capacity for batch in run.steps[:last_start])


def test_pictures_are_drawn_only_when_slots_would_stay_empty():
    scheduler = Scheduler(4)
    scheduler.add(tiles_of(0, [9] * 6))
    assert not scheduler.hungry
    for tile in scheduler.admit():
        tile.plan = (1.0,) * (1 + tile.index)
    assert not scheduler.hungry
    for hungry in (False, False, True):  # a tile leaves a turn; two wait for the first two of the four slots
        scheduler.advance(scheduler.batch())
        scheduler.retire()
        for tile in scheduler.admit():
            tile.plan = (1.0,) * 9
        assert scheduler.hungry is hungry


def test_a_step_that_failed_is_simply_tried_again():
    scheduler = Scheduler(2)
    scheduler.add(tiles_of(0, [1, 1]))
    for tile in scheduler.admit():
        tile.plan = (0.5,)
    assert scheduler.batch() == scheduler.batch()
    assert scheduler.retire() == []


@pytest.mark.parametrize(("capacity", "slots"), [(0, None), (-1, 4), (4, 3)])
def test_impossible_capacities_are_refused(capacity, slots):
    with pytest.raises(ValueError, match="capacity"):
        Scheduler(capacity, slots)
