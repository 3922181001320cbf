"""The places of parameter sets in blocks of lanes, and what the blocks say that their lanes share."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import layout
from optimizer.bench.inputs import momentum_sets, simulated_bars
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import NO_REGIME, Inputs, MarketRegime
from optimizer.sweep.lanes import LaneBlocks, lay_out_blocks, row_of
from optimizer.sweep.tiles import Tile

BARS = simulated_bars(300, 1)
FLAT = {NO_REGIME: MarketRegime.neutral(BARS.n_bars)}
FEATURES = [
    row
    for row in range(layout.N_COLUMN_ROWS)
    if row not in (row_of(layout.VOLATILITY_COLUMN), row_of(layout.REGIME_COLUMN))
]


@pytest.fixture(scope="module")
def sets() -> tuple[Inputs, Tile]:
    """Inputs, and 512 momentum sets with lookbacks of their own."""
    inputs, _, own = momentum_sets(BARS)
    return inputs, own


def with_lookbacks(tile: Tile, counts: dict[int, int]) -> Tile:
    """The first sets of a tile with these lookbacks, shuffled."""
    lookbacks = np.repeat(list(counts), list(counts.values())).astype(np.float64)
    np.random.default_rng(5).shuffle(lookbacks)
    few = tile.slice(0, len(lookbacks))
    return replace(few, columns={**few.columns, "momentum_lookback": lookbacks})


def lanes_of(blocks: LaneBlocks, k: int) -> list[tuple[int, ...]]:
    """The features that each lane of a block reads."""
    return [tuple(blocks.columns[k, FEATURES, b].tolist()) for b in range(layout.LANES)]


def test_blocks_that_read_the_same_come_first(sets: tuple[Inputs, Tile]) -> None:
    inputs, own = sets
    tile = with_lookbacks(own, {20: 130, 60: 70, 90: 30})
    blocks = lay_out_blocks([tile], inputs, FLAT)
    # 130 fill two blocks, 70 one, and 2 + 6 + 30 share the last.
    assert [len(set(lanes_of(blocks, k))) for k in range(4)] == [1, 1, 1, 3]
    assert blocks.same.tolist() == [layout.ALL_SAME] * 3 + [
        layout.SAME_VOLATILITY | layout.SAME_REGIME
    ]
    assert blocks.runs[3].tolist() == [0, 2, 8] + [layout.LANES] * (layout.MOST_RUNS - 2)


def test_every_set_keeps_its_place_in_the_results(sets: tuple[Inputs, Tile]) -> None:
    inputs, own = sets
    tile = with_lookbacks(own, {20: 70, 60: 70, 90: 3})
    [together] = evaluate(inputs, [tile], FLAT)
    for i in (0, 1, 41, 142):
        [alone] = evaluate(inputs, [tile.slice(i, i + 1)], FLAT)
        assert alone.in_sample.tobytes() == together.in_sample[i : i + 1].tobytes()


@settings(max_examples=30)
@given(counts=st.dictionaries(st.integers(5, 250), st.integers(1, 40), min_size=1, max_size=12))
def test_what_the_lanes_of_a_block_share(sets: tuple[Inputs, Tile], counts: dict[int, int]) -> None:
    inputs, own = sets
    tile = with_lookbacks(own, counts)
    blocks = lay_out_blocks([tile], inputs, FLAT)
    for k in range(len(blocks.same)):
        read = lanes_of(blocks, k)
        starts = [0, *(b for b in range(1, len(read)) if read[b] != read[b - 1])]
        if len(starts) > layout.MOST_RUNS:
            starts = []
        rest = [layout.LANES] * (layout.MOST_RUNS + 1 - len(starts))
        assert blocks.runs[k].tolist() == starts + rest
        assert bool(blocks.same[k] & layout.SAME_FEATURES) == (len(set(read)) == 1)
        for row, bit in (
            (layout.VOLATILITY_COLUMN, layout.SAME_VOLATILITY),
            (layout.REGIME_COLUMN, layout.SAME_REGIME),
        ):
            places = blocks.columns[k, row_of(row), : layout.LANES]
            assert bool(blocks.same[k] & bit) == (len(set(places.tolist())) == 1)
