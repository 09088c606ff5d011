import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from morl.stats import (
    StatisticsError,
    bootstrap,
    difference,
    holm,
    improvement_interval,
    iqm,
    iqm_intervals,
    iqm_truncated,
    mean,
    median,
    median_of_task_means,
    optimality_gap,
    paired_difference,
    pairwise_rank_tests,
    performance_profile,
    performance_profile_band,
    probability_of_improvement,
    stratified_rank_test,
)
from morl.types import MorlError

TEN_RUNS_OF_TWELVE_TASKS = np.random.default_rng(0).normal(1.0, 0.3, (10, 12))


def generator(seed=0):
    return np.random.default_rng(seed)


# Aggregates


def test_the_interquartile_mean_takes_scores_at_the_edge_by_their_share():
    assert iqm([0.0, 1.0, 100.0]) == pytest.approx(26 / 1.5)  # 17.33
    assert iqm([0.0, 1.0, 2.0, 100.0]) == 1.5
    assert iqm([1.0, 2.0, 3.0, 4.0, 100.0]) == pytest.approx((0.75 * 2 + 3 + 0.75 * 4) / 2.5)
    assert iqm([7.0]) == 7.0


def test_the_truncated_interquartile_mean_of_three_scores_is_their_mean():
    assert iqm_truncated([0.0, 1.0, 100.0]) == pytest.approx(101 / 3)  # 33.67
    assert iqm_truncated([0.0, 1.0, 2.0, 100.0]) == 1.5


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30))
def test_the_truncated_interquartile_mean_is_scipys_trimmed_mean(scores):
    assert iqm_truncated(scores) == pytest.approx(scipy.stats.trim_mean(scores, 0.25), abs=1e-9)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12), st.integers(2, 5))
def test_the_interquartile_mean_does_not_change_when_scores_are_repeated(scores, times):
    assert iqm(scores * times) == pytest.approx(iqm(scores), abs=1e-9)
    assert iqm(scores * 4) == pytest.approx(iqm_truncated(scores * 4), abs=1e-9)


def test_aggregates_pool_runs_and_tasks():
    scores = [[0.0, 10.0], [2.0, 20.0], [4.0, 90.0]]

    assert mean(scores) == 21.0
    assert median(scores) == 7.0
    assert median_of_task_means(scores) == (2 + 40) / 2
    assert iqm(scores) == pytest.approx((0.5 * 2 + 4 + 10 + 0.5 * 20) / 3)


def test_the_optimality_gap_counts_scores_above_the_target_as_the_target():
    assert optimality_gap([0.5, 1.0, 3.0]) == pytest.approx(0.5 / 3)
    assert optimality_gap([0.5, 1.0, 3.0], target=2.0) == pytest.approx((1.5 + 1.0) / 3)


@pytest.mark.parametrize(
    "statistic", [mean, median, median_of_task_means, iqm, iqm_truncated, optimality_gap]
)
def test_every_aggregate_handles_many_tables_at_once(statistic):
    tables = generator().normal(size=(4, 5, 3))

    together = statistic(tables)

    assert together.shape == (4,)
    assert together.tolist() == [pytest.approx(statistic(table)) for table in tables]


@pytest.mark.parametrize(
    "statistic", [mean, median, median_of_task_means, iqm, iqm_truncated, optimality_gap]
)
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, np.nan], "1 of 2 are not finite"),
        ([], "none of them empty"),
        (np.empty((0, 3)), "none of them empty"),
        (3.0, r"expected shape \(run, task\)"),
        ([[1.0], [1.0, 2.0]], "not a table of numbers"),
    ],
)
def test_every_aggregate_refuses_what_has_no_value(statistic, scores, message):
    with pytest.raises(StatisticsError, match=message):
        statistic(scores)


# Bootstrap


def test_the_interval_of_an_interquartile_mean_agrees_with_rliable():
    """rliable 1.2.0 found [0.9651, 1.0801] for these scores, with 10,000 resamples."""
    interval = bootstrap(TEN_RUNS_OF_TWELVE_TASKS, rng=generator(1))

    assert interval.estimate == iqm(TEN_RUNS_OF_TWELVE_TASKS)
    assert (interval.low, interval.high) == pytest.approx((0.9651, 1.0801), abs=2e-3)
    assert (interval.confidence, interval.method) == (0.95, "percentile")


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_the_interval_of_two_runs_by_hand(method):
    # The mean of two draws from {0, 1} is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4: symmetric, so
    # there is nothing to correct.
    how = {"num_resamples": 4000, "method": method}
    wide = bootstrap([0.0, 1.0], mean, rng=generator(), confidence=0.6, **how)
    narrow = bootstrap([0.0, 1.0], mean, rng=generator(), confidence=0.4, **how)

    assert (wide.low, wide.estimate, wide.high) == (0.0, 0.5, 1.0)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_runs_are_resampled_within_their_task():
    """Tasks of very different level and no noise leave nothing to be unsure of."""
    scores = np.tile([1.0, 1000.0, 1e6], (5, 1))

    for method in ("percentile", "bca"):
        interval = bootstrap(scores, mean, rng=generator(), num_resamples=200, method=method)
        assert interval.low == interval.high == interval.estimate == pytest.approx(mean(scores))


def test_tasks_are_resampled_independently_of_each_other():
    noise = generator(2).normal(size=(8, 1))
    same_noise_everywhere = np.repeat(noise, 16, axis=1)

    one = bootstrap(noise, mean, rng=generator())
    many = bootstrap(same_noise_everywhere, mean, rng=generator())

    assert (many.high - many.low) == pytest.approx((one.high - one.low) / 4, rel=0.05)


def test_the_bias_corrected_interval_is_scipys():
    scores = generator(3).exponential(size=12)
    expected = scipy.stats.bootstrap(
        (scores,), np.mean, method="BCa", n_resamples=20_000, rng=generator()
    ).confidence_interval

    interval = bootstrap(scores, mean, rng=generator(5), num_resamples=20_000, method="bca")

    assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=0.02)
    assert interval.method == "bca"
    # Skewed to the right: further from the mean above than below.
    assert interval.high - interval.estimate > 1.2 * (interval.estimate - interval.low)


def test_leaving_a_run_out_keeps_the_weight_of_its_task():
    tables = []

    def watched(scores):
        tables.append(scores)
        return mean(scores)

    scores = [[0.0, 10.0], [1.0, 11.0], [2.0, 12.0]]
    bootstrap(scores, watched, rng=generator(), num_resamples=1, method="bca")

    without_first_of_first_task, without_last_of_second_task = tables[-2][0], tables[-1][2]
    assert np.sort(without_first_of_first_task, axis=0).T.tolist() == [
        [1, 1, 1, 2, 2, 2],
        [10, 10, 11, 11, 12, 12],
    ]
    assert np.sort(without_last_of_second_task, axis=0).T.tolist() == [
        [0, 0, 1, 1, 2, 2],
        [10, 10, 10, 11, 11, 11],
    ]


def test_the_acceleration_of_a_task_does_not_depend_on_tasks_without_noise():
    scores = generator(3).exponential(size=(9, 1))
    with_constants = np.hstack([scores, np.full((9, 2), 5.0)])

    alone = bootstrap(scores, mean, rng=generator(), num_resamples=20_000, method="bca")
    beside = bootstrap(with_constants, mean, rng=generator(), num_resamples=20_000, method="bca")

    assert beside.low == pytest.approx((alone.low + 10.0) / 3, abs=0.01)
    assert beside.high == pytest.approx((alone.high + 10.0) / 3, abs=0.01)


def test_the_same_generator_gives_the_same_interval_and_the_global_one_is_left_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - it is what must not change

    first = bootstrap(TEN_RUNS_OF_TWELVE_TASKS, rng=generator(4), num_resamples=500)
    again = bootstrap(TEN_RUNS_OF_TWELVE_TASKS, rng=generator(4), num_resamples=500)
    other = bootstrap(TEN_RUNS_OF_TWELVE_TASKS, rng=generator(5), num_resamples=500)

    assert first == again != other
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


@pytest.mark.parametrize(
    ("runs", "low", "high"),
    [(3, 0.72, 0.79), (10, 0.90, 0.96)],  # 0.752 and 0.930 in 3,000 studies
)
def test_the_interval_covers_the_truth_as_often_as_the_module_says(runs, low, high):
    rng = generator(11)
    studies = rng.normal(3.0, 1.0, (1000, runs))
    intervals = [bootstrap(study, rng=rng, num_resamples=1000) for study in studies]

    coverage = np.mean([interval.low <= 3.0 <= interval.high for interval in intervals])

    assert low < coverage < high


def test_the_corrected_interval_covers_a_skewed_truth_at_least_as_often():
    rng = generator(12)
    covered = {"percentile": 0, "bca": 0}
    for study in rng.exponential(1.0, (250, 15)):
        for method in covered:
            interval = bootstrap(study, mean, rng=rng, num_resamples=1000, method=method)
            covered[method] += interval.low <= 1.0 <= interval.high

    assert covered["bca"] >= covered["percentile"] > 0.82 * 250
    assert covered["bca"] < 0.99 * 250


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"confidence": 1.0}, "confidence"),
        ({"confidence": np.nan}, "confidence"),
        ({"num_resamples": 0}, "num_resamples"),
        ({"method": "studentised"}, "method: .* 'studentised'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(StatisticsError, match=message):
        bootstrap([1.0, 2.0], rng=generator(), **arguments)


@pytest.mark.parametrize("interval", [difference, paired_difference, improvement_interval])
def test_one_run_has_no_interval(interval):
    with pytest.raises(StatisticsError, match="scores: a bootstrap needs at least 2 runs"):
        bootstrap([1.0], rng=generator())
    with pytest.raises(StatisticsError, match="scores: a bootstrap needs at least 2 runs"):
        interval([[1.0, 2.0]], [[1.0, 2.0]], rng=generator())
    with pytest.raises(StatisticsError, match="other: 1 of 2 are not finite"):
        interval([1.0, 2.0], [1.0, np.nan], rng=generator())


# Comparisons


def test_what_pairs_share_cancels():
    rng = generator(6)
    shared = rng.normal(0.0, 10.0, (12, 3))
    better, worse = shared + rng.normal(1.0, 0.1, (12, 3)), shared

    paired = paired_difference(better, worse, mean, rng=generator())
    unpaired = difference(better, worse, mean, rng=generator())

    assert paired.estimate == unpaired.estimate == pytest.approx(1.0, abs=0.1)
    assert 0.9 < paired.low < paired.high < 1.1
    assert unpaired.low < 0.0 < unpaired.high


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_a_paired_difference_of_means_is_the_mean_of_differences(method):
    rng = generator(7)
    one, two = rng.normal(size=(8, 2)), rng.normal(size=(8, 2))
    arguments = {"num_resamples": 2000, "method": method}

    pairs = paired_difference(one, two, mean, rng=generator(1), **arguments)
    single = bootstrap(one - two, mean, rng=generator(1), **arguments)

    assert (pairs.low, pairs.estimate, pairs.high) == pytest.approx(
        (single.low, single.estimate, single.high)
    )


def test_a_difference_allows_different_numbers_of_runs():
    interval = difference([1.0, 1.0, 1.0], [0.0, 0.0], mean, rng=generator(), num_resamples=50)

    assert (interval.low, interval.estimate, interval.high) == (1.0, 1.0, 1.0)


def test_pairs_need_the_same_shape_and_all_need_the_same_tasks():
    with pytest.raises(StatisticsError, match=r"other: pairs need .* \(3, 1\), got \(2, 1\)"):
        paired_difference([1.0, 2.0, 3.0], [1.0, 2.0], rng=generator())
    for compare in (difference, improvement_interval):
        with pytest.raises(StatisticsError, match="other: 1 tasks, but the scores have 2"):
            compare(np.ones((2, 2)), np.ones(2), rng=generator())
    with pytest.raises(StatisticsError, match="other: 1 tasks, but the scores have 2"):
        probability_of_improvement(np.ones((2, 2)), np.ones(2))


def test_the_probability_of_improvement_counts_ties_half():
    assert probability_of_improvement([1.0, 2.0], [1.0, 0.0]) == (0.5 + 1 + 1 + 1) / 4
    assert probability_of_improvement([1.0, 1.0], [1.0]) == 0.5
    # One task won, one lost by half.
    assert probability_of_improvement([[2.0, 1.0]], [[1.0, 1.0], [1.0, 2.0]]) == (1 + 0.25) / 2


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=8),
    st.lists(st.integers(0, 5), min_size=1, max_size=8),
)
def test_the_probability_of_improvement_is_mann_whitneys_and_antisymmetric(one, two):
    u = scipy.stats.mannwhitneyu(one, two, method="asymptotic").statistic

    assert probability_of_improvement(one, two) == pytest.approx(u / (len(one) * len(two)))
    assert probability_of_improvement(two, one) == pytest.approx(
        1 - probability_of_improvement(one, two)
    )


def test_the_interval_of_improvement_is_that_of_resampling_runs_one_by_one():
    rng = generator(8)
    one, two = rng.normal(0.5, 1.0, (6, 2)), rng.normal(0.0, 1.0, (7, 2))
    slowly = []
    for _ in range(1500):
        drawn_one = np.take_along_axis(one, rng.integers(0, 6, one.shape), axis=0)
        drawn_two = np.take_along_axis(two, rng.integers(0, 7, two.shape), axis=0)
        slowly.append(probability_of_improvement(drawn_one, drawn_two))

    interval = improvement_interval(one, two, rng=generator(), num_resamples=20_000)

    assert interval.estimate == probability_of_improvement(one, two)
    assert (interval.low, interval.high) == pytest.approx(
        tuple(np.quantile(slowly, [0.025, 0.975])), abs=0.03
    )


def test_a_performance_profile_is_the_share_above_each_threshold():
    scores = [[0.0, 1.0], [2.0, 3.0]]

    assert performance_profile(scores, [-1.0, 0.0, 1.0, 2.5, 3.0]).tolist() == [
        1.0,
        0.75,
        0.5,
        0.25,
        0.0,
    ]


def test_the_band_holds_the_profile_and_the_whole_true_curve():
    thresholds = np.linspace(-2.0, 2.0, 9)
    truth = 1.0 - scipy.stats.norm.cdf(thresholds)
    rng = generator(9)
    held = 0
    for _ in range(100):
        band = performance_profile_band(
            rng.normal(size=(12, 3)), thresholds, rng=rng, num_resamples=300
        )
        assert (band.low <= band.profile).all()
        assert (band.profile <= band.high).all()
        held += bool((band.low <= truth).all() and (truth <= band.high).all())

    assert 85 <= held <= 100
    assert band.thresholds.tolist() == thresholds.tolist()
    assert band.low.min() >= 0.0
    assert band.high.max() <= 1.0


@pytest.mark.parametrize("thresholds", [0.5, [[0.5]], [np.nan]])
def test_thresholds_that_are_no_list_are_refused(thresholds):
    with pytest.raises(StatisticsError, match="thresholds"):
        performance_profile([1.0], thresholds)


# Multiple tests


def test_holm_multiplies_the_smallest_by_the_number_of_tests_and_so_on_down():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([0.03]) == pytest.approx([0.03])
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_keeps_the_order_and_never_lowers_a_p_value(p_values):
    adjusted = holm(p_values)

    assert (adjusted >= np.array(p_values)).all()
    assert (adjusted <= np.minimum(np.array(p_values) * len(p_values), 1.0).max()).all()
    assert (np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0.0).all()


@pytest.mark.parametrize("p_values", [[1.1], [-0.1], [np.nan], [[0.5]]])
def test_what_is_no_p_value_is_refused(p_values):
    with pytest.raises(StatisticsError, match="p_values"):
        holm(p_values)


def test_the_error_is_one_that_the_command_line_prints_and_a_value_error():
    assert issubclass(StatisticsError, MorlError)
    assert issubclass(StatisticsError, ValueError)


# Expanded intervals, many rows at once


def test_the_expanded_interval_takes_percentiles_as_far_out_as_students():
    # Ten runs: t of 9 degrees of freedom is 2.2622, a normal tail of 1.1843 %.
    scores = generator(1).normal(size=10)
    expanded = bootstrap(scores, mean, rng=generator(), num_resamples=20_000, method="expanded")
    wide = bootstrap(
        scores, mean, rng=generator(), num_resamples=20_000, confidence=1 - 2 * 0.011843
    )
    assert (expanded.low, expanded.high) == pytest.approx((wide.low, wide.high), abs=1e-4)
    assert expanded.method == "expanded"


def test_over_many_tasks_the_deviation_of_the_bootstrap_decides():
    # Eight tasks of ten runs: sqrt(10/9) * 1.95996 = 2.0660 is more than t of 72, 1.9935.
    scores = generator(1).normal(size=(10, 8))
    expanded = bootstrap(scores, mean, rng=generator(), num_resamples=20_000, method="expanded")
    tail = scipy.stats.norm.cdf(-2.0660)
    wide = bootstrap(scores, mean, rng=generator(), num_resamples=20_000, confidence=1 - 2 * tail)
    assert (expanded.low, expanded.high) == pytest.approx((wide.low, wide.high), abs=1e-4)


def test_the_expanded_interval_of_ten_runs_covers_what_it_promises():
    rng = generator(13)
    studies = rng.normal(3.0, 1.0, (2000, 10))
    intervals = iqm_intervals(studies, rng=rng, num_resamples=2000)
    coverage = np.mean([interval.low <= 3.0 <= interval.high for interval in intervals])
    assert 0.93 < coverage < 0.97


def test_intervals_of_many_rows_are_those_of_each_alone():
    rows = generator(2).normal(size=(5, 7)) * np.arange(1, 6)[:, None]
    together = iqm_intervals(rows, rng=generator(3), num_resamples=40_000)
    for row, interval in zip(rows, together, strict=True):
        alone = bootstrap(row, iqm, rng=generator(4), num_resamples=40_000, method="expanded")
        assert interval.estimate == pytest.approx(alone.estimate, abs=1e-12)
        scale = alone.high - alone.low
        assert abs(interval.low - alone.low) < 0.05 * scale
        assert abs(interval.high - alone.high) < 0.05 * scale
    blocks = iqm_intervals(np.tile(rows, (24, 1)), rng=generator(3), num_resamples=40_000)
    assert blocks[:5] == together
    assert blocks[-5:] == together


def test_intervals_need_two_runs():
    with pytest.raises(StatisticsError, match="at least 2 runs"):
        iqm_intervals([[1.0]], rng=generator())


# Rank sums over tasks


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=9),
    st.lists(st.integers(0, 6), min_size=2, max_size=9),
)
def test_on_one_task_the_stratified_test_is_mann_whitneys(one, two):
    found = stratified_rank_test([one], [two])
    if len({*one, *two}) == 1:
        assert found == 1.0
        return
    theirs = scipy.stats.mannwhitneyu(one, two, method="asymptotic", use_continuity=False)
    assert found == pytest.approx(theirs.pvalue, abs=1e-9)


def test_small_differences_on_many_tasks_add_up():
    rng = generator(5)
    one = [rng.normal(0.5, 1.0, 10) for _ in range(8)]
    two = [rng.normal(0.0, 1.0, 10) for _ in range(8)]
    alone = [stratified_rank_test([a], [b]) for a, b in zip(one, two, strict=True)]
    assert min(alone) > 0.01 > stratified_rank_test(one, two)
    # A task won and one lost alike cancel.
    assert stratified_rank_test([[1, 2], [3, 4]], [[3, 4], [1, 2]]) == 1.0


def test_equal_agents_differ_as_often_as_the_level_says():
    rng = generator(6)
    values = [
        stratified_rank_test(list(rng.normal(size=(4, 7))), list(rng.normal(size=(4, 6))))
        for _ in range(1500)
    ]
    assert 0.035 < np.mean(np.array(values) < 0.05) < 0.065


def test_the_stratified_test_needs_the_same_tasks():
    with pytest.raises(StatisticsError, match="2 tasks, but the scores have 1"):
        stratified_rank_test([[1.0]], [[1.0], [2.0]])


@given(st.integers(0, 2**32 - 1))
def test_all_pairs_in_one_go_are_the_pairs_one_by_one(seed):
    rng = generator(seed)
    levels = int(rng.integers(2, 30))
    scores = [
        [rng.integers(0, levels, int(rng.integers(1, 7))).astype(float) for _ in range(3)]
        for _ in range(4)
    ]
    together = pairwise_rank_tests(scores)
    for one in range(4):
        for two in range(4):
            alone = 1.0 if one == two else stratified_rank_test(scores[one], scores[two])
            assert together[one, two] == pytest.approx(alone, abs=1e-12)


def test_all_pairs_need_the_same_tasks():
    with pytest.raises(StatisticsError, match="the same tasks"):
        pairwise_rank_tests([[[1.0]], [[1.0], [2.0]]])
