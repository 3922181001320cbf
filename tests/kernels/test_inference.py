"""The max-test against an implementation that keeps every return, and on returns without alpha."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from kernels.inference import (
    bit_count,
    count_beyond,
    draw_multipliers,
    mixed,
    raise_maxima,
    score_sets,
)

Array = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Bounds = npt.NDArray[np.int64]
Made = Callable[[np.random.Generator, int, int], tuple[Array, Array]]
Random = np.random.Generator

DAY = 86_400 * 10**9
N_DRAWS = 1000


def days(n_bars: int) -> Bounds:
    return np.arange(n_bars) * DAY


def multipliers(bounds: Bounds, times: Bounds | None = None) -> Singles:
    out = np.empty((len(bounds) - 1, N_DRAWS), np.float32)
    draw_multipliers(days(int(bounds[-1])) if times is None else times, bounds, out)
    return out


def blocks_of(n_bars: int, n_blocks: int) -> Bounds:
    return np.linspace(0, n_bars, n_blocks + 1).astype(np.int64)


def scored(returns: Array, market: Array, bounds: Bounds) -> tuple[Array, Singles]:
    """Alphas and scores by the kernel, from the sums that a sweep has."""
    alphas = np.empty((returns.shape[1], 2))
    scores = np.empty((returns.shape[1], len(bounds) - 1), np.float32)
    places = np.empty(returns.shape[1], np.int64)
    n_rows = score_sets(
        np.add.reduceat(returns, bounds[:-1], axis=0),
        returns.sum(axis=0),
        (returns**2).sum(axis=0),
        returns.T @ market,
        np.add.reduceat(market, bounds[:-1]),
        float((market**2).sum()),
        np.diff(bounds).astype(np.float64),
        alphas,
        scores,
        places,
    )
    assert (np.diff(places[:n_rows]) > 0).all() and not np.isnan(alphas[places[:n_rows]]).any()
    return alphas, scores[:n_rows]


def p_value(returns: Array, market: Array, n_blocks: int = 64) -> float:
    """Family-wise, of the set with the largest statistic."""
    bounds = blocks_of(len(returns), n_blocks)
    alphas, scores = scored(returns, market, bounds)
    maxima = np.full(N_DRAWS, -np.inf, np.float32)
    raise_maxima(scores, multipliers(bounds), maxima)
    return (1 + int((maxima >= np.nanmax(alphas[:, 1])).sum())) / (N_DRAWS + 1)


def slow(returns: Array, market: Array, n_blocks: int, n_draws: int, seed: int) -> float:
    """The same from the whole matrix of returns, by least squares and normal multipliers."""
    n_bars, n_sets = returns.shape
    design = np.column_stack([np.ones(n_bars), market])
    random = np.random.default_rng(seed)
    statistics, errors = np.empty(n_sets), np.empty((n_bars, n_sets))
    for i in range(n_sets):
        found = np.linalg.lstsq(design, returns[:, i], rcond=None)[0]
        residuals = returns[:, i] - design @ found
        variance = residuals @ residuals / (n_bars - 2)
        covariance = variance * np.linalg.inv(design.T @ design)
        statistics[i] = found[0] / np.sqrt(covariance[0, 0])
        errors[:, i] = residuals / np.sqrt(variance)
    block = np.searchsorted(blocks_of(n_bars, n_blocks)[1:], np.arange(n_bars), side="right")
    largest = [
        (random.normal(size=n_blocks)[block] @ errors).max() / np.sqrt(n_bars)
        for _ in range(n_draws)
    ]
    return float(np.mean(np.array(largest) >= statistics.max()))


def independent(random: Random, n_bars: int, n_sets: int) -> tuple[Array, Array]:
    return random.normal(0.0, 0.01, (n_bars, n_sets)), random.normal(0.0, 0.01, n_bars)


def correlated(random: Random, n_bars: int, n_sets: int) -> tuple[Array, Array]:
    """Sets that share two factors and have the market in them, of different sizes."""
    market = random.normal(3e-4, 0.01, n_bars)
    factors = random.normal(0.0, 0.01, (n_bars, 2)) @ random.normal(size=(2, n_sets))
    own = random.normal(0.0, 0.003, (n_bars, n_sets))
    size = random.uniform(0.1, 2.0, n_sets)
    return size * (factors + own + random.uniform(0, 1, n_sets) * market[:, None]), market


def autocorrelated(random: Random, n_bars: int, n_sets: int) -> tuple[Array, Array]:
    """Sets whose returns are AR(1) with a coefficient of 0.3, of which every second trades rarely."""
    noise = random.standard_t(4, (n_bars, n_sets)) * 0.01
    returns = np.empty_like(noise)
    returns[0] = noise[0]
    for t in range(1, n_bars):
        returns[t] = 0.3 * returns[t - 1] + noise[t]
    idle = random.random((n_bars // 40 + 1, n_sets)).repeat(40, axis=0)[:n_bars] < 0.5
    returns[:, ::2] *= ~idle[:, ::2]
    return returns, random.normal(3e-4, 0.01, n_bars)


@pytest.mark.parametrize("made", [independent, correlated, autocorrelated])
@pytest.mark.parametrize("alpha", [0.0, 7e-4])
def test_p_values_are_those_of_the_whole_matrix(made: Made, alpha: float) -> None:
    returns, market = made(np.random.default_rng(5), 1280, 60)
    returns[:, 7] += alpha * returns[:, 7].std() / 0.01
    expected = slow(returns, market, 64, 4000, seed=1)
    found = p_value(returns, market)
    error = np.sqrt(max(expected * (1.0 - expected), 1e-3) * (1 / N_DRAWS + 1 / 4000))
    # The kernel allows for the mean that residuals lack, 1 block in 64, and drops hopeless sets.
    assert found == pytest.approx(expected, abs=4.0 * error + 0.01)


def test_each_statistic_is_that_of_least_squares() -> None:
    returns, market = correlated(np.random.default_rng(3), 900, 8)
    alphas, _ = scored(returns, market, blocks_of(900, 40))
    design = np.column_stack([np.ones(900), market])
    for i in range(8):
        found, (squares,), _, _ = np.linalg.lstsq(design, returns[:, i], rcond=None)
        error = np.sqrt(squares / 898 * np.linalg.inv(design.T @ design)[0, 0])
        np.testing.assert_allclose(alphas[i], [found[0], found[0] / error], rtol=1e-8)


def test_draws_are_the_products_of_scores_and_multipliers() -> None:
    random = np.random.default_rng(11)
    for n_sets, n_blocks in ((1, 8), (4, 9), (7, 64), (14, 11)):
        scores = random.normal(size=(n_sets, n_blocks)).astype(np.float32)
        given = random.normal(size=(n_blocks, 33)).astype(np.float32)
        maxima = np.full(33, -np.inf, np.float32)
        raise_maxima(scores, given, maxima)
        expected = (scores.astype(np.float64) @ given).max(axis=0)
        np.testing.assert_allclose(maxima, expected, atol=1e-5)


def test_draws_beyond_are_counted_set_by_set() -> None:
    random = np.random.default_rng(12)
    scores = random.normal(size=(9, 11)).astype(np.float32)
    given = random.normal(size=(11, 200)).astype(np.float32)
    draws = scores.astype(np.float64) @ given
    distances = random.uniform(0.0, 8.0, 9)
    counts = np.empty(9, np.int64)
    count_beyond(scores, given, draws.max(axis=0).astype(np.float32), distances, counts)
    expected = (draws.max(axis=0) - draws >= distances[:, np.newaxis]).sum(axis=1)
    assert np.abs(counts - expected).max() <= 1  # one draw may be rounded to the other side
    assert 0 < counts.min() < counts.max() < 200


def test_sets_taken_in_any_groups_and_order_give_the_same_bits() -> None:
    returns, market = correlated(np.random.default_rng(8), 640, 37)
    bounds = blocks_of(640, 32)
    _, scores = scored(returns, market, bounds)
    given = multipliers(bounds)
    whole = np.full(N_DRAWS, -np.inf, np.float32)
    raise_maxima(scores, given, whole)
    for parts in ([5, 6, 21], [1], [36]):
        found = np.full(N_DRAWS, -np.inf, np.float32)
        for part in np.split(scores[::-1].copy(), parts):
            raise_maxima(part, given, found)
        assert found.tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    ("made", "n_studies"), [(independent, 300), (correlated, 300), (autocorrelated, 200)]
)
def test_without_alpha_about_one_in_twenty_is_found(made: Made, n_studies: int) -> None:
    random = np.random.default_rng(17)
    found = [p_value(*made(random, 640, 40), n_blocks=32) <= 0.05 for _ in range(n_studies)]
    assert 0.01 <= np.mean(found) <= 0.06


def test_an_alpha_is_found() -> None:
    random = np.random.default_rng(19)
    found = []
    for _ in range(40):
        returns, market = correlated(random, 1600, 100)
        returns[:, 3] += 2.0 / np.sqrt(252) * returns[:, 3].std()  # a yearly ratio of 2
        found.append(p_value(returns, market) <= 0.05)
    assert np.mean(found) >= 0.9


def test_sets_that_trade_almost_alike_cost_nothing() -> None:
    random = np.random.default_rng(23)
    returns, market = correlated(random, 1280, 50)
    alike = np.repeat(returns, 10, axis=1)
    alike += random.normal(0.0, 1e-3, alike.shape) * returns.std(axis=0).repeat(10)
    assert p_value(alike, market) == pytest.approx(p_value(returns, market), abs=0.01)


def test_hopeless_sets_cost_nothing() -> None:
    returns, market = independent(np.random.default_rng(29), 1280, 20)
    losing = independent(np.random.default_rng(30), 1280, 2000)[0] - 3e-3
    both = np.concatenate([returns, losing], axis=1)
    assert p_value(both, market) == p_value(returns, market)


def test_a_set_without_returns_of_its_own_has_no_statistic() -> None:
    random = np.random.default_rng(31)
    market = random.normal(3e-4, 0.01, 640)
    returns = np.column_stack([np.zeros(640), np.full(640, 1e-4), market, 0.5 * market + 1e-4])
    alphas, scores = scored(returns, market, blocks_of(640, 32))
    assert np.isnan(alphas).all() and len(scores) == 0


def test_without_a_market_alpha_is_the_mean() -> None:
    returns, _ = independent(np.random.default_rng(37), 640, 3)
    alphas, _ = scored(returns, np.full(640, 1e-4), blocks_of(640, 32))
    mean, deviation = returns.mean(axis=0), np.sqrt(returns.var(axis=0) * 640 / 638)
    np.testing.assert_allclose(alphas[:, 0], mean, rtol=1e-9)
    np.testing.assert_allclose(alphas[:, 1], mean / deviation * np.sqrt(640), rtol=1e-9)


def test_multipliers_are_standard_normal_and_independent() -> None:
    given = multipliers(blocks_of(2000, 100)).astype(np.float64)
    assert given.mean() == pytest.approx(0.0, abs=4.0 / np.sqrt(given.size))
    assert given.std() == pytest.approx(1.0, abs=0.01)
    assert (given**4).mean() == pytest.approx(3.0, abs=0.1)
    between = np.corrcoef(given) - np.eye(100)
    assert np.abs(between).max() < 4.5 / np.sqrt(N_DRAWS)


def test_blocks_that_share_bars_share_their_multipliers() -> None:
    bounds = blocks_of(1600, 64)
    here = multipliers(bounds)
    times = days(1700)[5:]  # the same bars in a study that begins five bars later
    later = multipliers(bounds, times)
    shared = [np.corrcoef(a, b)[0, 1] for a, b in zip(here, later, strict=True)]
    assert np.mean(shared) == pytest.approx(20 / 25, abs=0.02)
    one_more = multipliers(np.append(bounds, 1625))
    assert one_more[:64].tobytes() == here.tobytes()


def test_numbers_are_mixed_as_published() -> None:
    """The first outputs of splitmix64 from the seed 0, as its authors' program prints them."""
    step, state = 0x9E3779B97F4A7C15, 0
    outputs = []
    for _ in range(3):
        state = (state + step) % 2**64
        outputs.append(int(mixed(np.uint64(state))))
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    for number in (0, 1, 2**64 - 1, 0xE220A8397B1DCDAF):
        assert int(bit_count(np.uint64(number))) == bin(number).count("1")
