"""The grid covers any picture, its windows sum to one, and a canvas gives back what was cropped."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rngcli.errors import PictureError
from rngcli.inference.canvas import Canvas
from rngcli.inference.tiling import Axis, Grid


@st.composite
def grids(draw):
    tile = draw(st.tuples(st.integers(1, 16), st.integers(1, 16)))
    overlap = draw(st.integers(0, min(tile) - 1))
    discard = draw(st.integers(0, overlap // 2))
    return Grid(draw(st.integers(1, 30)), draw(st.integers(1, 30)), tile, overlap, discard)


def blend(grid, tiles, order):
    canvas = Canvas(grid)
    for i in order:
        canvas.add(i, tiles[i])
    return canvas.finish()


@given(grids())
def test_windows_sum_to_exactly_one(grid):
    total = np.zeros((grid.height, grid.width))
    for i in range(len(grid)):
        y, x = (start + np.arange(side) for start, side in zip(grid.origin(i), grid.tile, strict=True))
        on_y, on_x = (y >= 0) & (y < grid.height), (x >= 0) & (x < grid.width)
        window = grid.window(i)
        assert window.min() >= 0
        total[np.ix_(y[on_y], x[on_x])] += window[np.ix_(on_y, on_x)]
    assert (total == 1).all()


@pytest.mark.parametrize("agreement", [1.0, 0.9, 0.6])
def test_emphasis_keeps_the_strength_of_textures_that_agree_in_part(agreement):
    grid = Grid(500, 500, agreement=agreement)
    rng = np.random.default_rng(0)
    common = rng.normal(0, agreement**0.5, (500, 500, 3))
    tiles = []
    for i in range(len(grid)):
        texture = grid.crop(common, i) + rng.normal(0, (1 - agreement) ** 0.5, (256, 256, 3))
        tiles.append((texture * grid.emphasis(i)[..., None]).astype(np.float32))
    strength = blend(grid, tiles, range(len(grid))).std(axis=(0, 2))
    assert strength == pytest.approx(1, abs=0.12)
    assert strength.mean() == pytest.approx(1, abs=0.01)
    assert (Grid(500, 500).emphasis(0) == 1).all()


@given(grids())
def test_untouched_tiles_give_the_picture_back(grid):
    picture = np.random.default_rng(0).random((grid.height, grid.width, 3), dtype=np.float32)
    whole = blend(grid, [grid.crop(picture, i) for i in range(len(grid))], range(len(grid)))
    assert np.abs(whole - picture).max() <= len(grid) * 2.0**-24  # one rounding a tile


@settings(max_examples=30)
@given(grids(), st.randoms(use_true_random=False))
def test_order_of_arrival_does_not_change_a_bit(grid, random):
    rng = np.random.default_rng(1)
    tiles = rng.normal(0.5, 1, (len(grid), *grid.tile, 3)).astype(np.float32)
    order = random.sample(range(len(grid)), len(grid))
    assert np.array_equal(blend(grid, tiles, order), blend(grid, tiles, range(len(grid))))


@given(st.integers(2, 40), st.integers(1, 24), st.integers(0, 50))
def test_reflection_agrees_with_numpy(length, size, margin):
    axis = Axis(length, size, 0, 0)
    ends = axis.count * axis.stride - length
    padded = np.pad(np.arange(length), margin + ends, mode="reflect")
    for k in range(axis.count):
        first = axis.start(k) - margin + margin + ends
        assert np.array_equal(axis.indices(k, margin), padded[first : first + size + 2 * margin])


@pytest.mark.parametrize("shape", [(1, 1), (4000, 3), (3, 300), (255, 257), (256, 256), (480, 481)])
def test_default_tiles_on_odd_pictures(shape):
    grid = Grid(*shape)
    levels = np.random.default_rng(0).integers(0, 2**16, (*shape, 3))
    picture = np.float32(levels / 65535)
    tiles = [grid.crop(picture, i) for i in range(len(grid))]
    assert grid.crop(picture, 0, margin=64).shape == (384, 384, 3)
    assert np.array_equal(grid.crop(picture, 0, margin=64)[64:-64, 64:-64], tiles[0])
    assert np.array_equal(np.rint(blend(grid, tiles, range(len(grid))) * 65535), levels)


@given(grids())
def test_a_grid_sticks_out_alike_on_both_sides(grid):
    for axis in (grid.y, grid.x):
        before, after = -axis.start(0), axis.start(axis.count - 1) + axis.size - axis.length
        assert 0 <= after - before <= 1
        assert axis.count == 1 or before + after < axis.stride


@given(st.integers(1, 900), st.sampled_from([1, 2, 16]))
def test_aligned_tiles_begin_at_multiples_and_cover_the_picture(length, align):
    axis = Axis(length, 96, 32, 12, align)
    assert {axis.start(k) % align for k in range(axis.count)} == {0}
    assert axis.start(0) <= 0
    assert axis.start(axis.count - 1) + axis.size >= length


def test_sizes_that_need_no_padding_have_none():
    assert [len(Grid(256, 256)), len(Grid(480, 704)), len(Grid(257, 256))] == [1, 6, 2]
    assert Grid(480, 704).origin(5) == (224, 448)
    assert (Grid(256, 256).window(0) == 1).all()
    assert [len(Grid(256, 700, tile)) for tile in ((256, 256), (256, 704), (480, 368))] == [3, 1, 2]


def test_paper_geometry_12_px_dropped_8_blended():
    left, right = Axis(480, 256, 32, 12).weights(0), Axis(480, 256, 32, 12).weights(1)
    ramp = (np.arange(8) + 0.5) / 8
    assert np.array_equal(right[:32], np.concatenate([np.zeros(12), ramp, np.ones(12)]))
    assert np.array_equal(left[224:], right[:32][::-1])
    assert (left[:224] == 1).all()
    assert (right[32:] == 1).all()


def test_what_the_network_says_near_an_inner_side_is_dropped():
    grid = Grid(480, 256)
    good = np.full((256, 256, 3), 0.25, np.float32)
    bad_below = good.copy()
    bad_below[-12:] = 9
    whole = blend(grid, [bad_below, good], range(2))
    assert (whole == 0.25).all()


def test_canvas_refuses_nan_absurd_and_repeated_tiles_and_holes():
    grid = Grid(300, 100)
    tile = np.zeros((256, 256, 3), np.float32)
    canvas = Canvas(grid)
    with pytest.raises(PictureError):
        canvas.add(0, tile * np.nan)
    with pytest.raises(PictureError):
        canvas.add(0, tile + 1e3)
    canvas.add(0, tile)
    with pytest.raises(KeyError):
        canvas.add(0, tile)
    with pytest.raises(ValueError, match="1 of 2"):
        canvas.finish()


@pytest.mark.parametrize("wrong", [(0, 8, 2, 1), (9, 8, 8, 1), (9, 8, 2, 2), (9, 8, 2, -1)])
def test_axis_refuses_what_cannot_be_tiled(wrong):
    with pytest.raises(ValueError, match="overlap"):
        Axis(*wrong)


def test_a_canvas_holds_the_rows_that_are_not_finished_and_no_others():
    grid = Grid(3000, 300)
    canvas, tile = Canvas(grid), np.full((256, 256, 3), 0.5, np.float32)
    held = []
    for i in range(len(grid)):
        canvas.add(i, tile)
        held.append(sum(band.nbytes for band in canvas._bands.values()))
    assert max(held) <= (224 + 256) * 300 * 3 * 4, "two rows of tiles"
    assert held[-1] == 0
    assert canvas.whole
    assert (canvas.finish() == 0.5).all()
