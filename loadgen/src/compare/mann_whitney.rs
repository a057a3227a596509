//! The exact two-sided Mann-Whitney U test.
//!
//! Under the null hypothesis every way of dealing the pooled ranks to the two sides is equally likely. The
//! ways are counted, not approximated, and equal values share the mean of their ranks, so the result holds
//! for few runs and for ties, where the normal approximation and the usual tables do not.

/// The p value: how likely rank sums at least as far from their mean as the observed ones are when both
/// sides come from the same distribution. 1 when a side is empty.
#[must_use]
pub fn p_value(a: &[f64], b: &[f64]) -> f64 {
    let (smaller, larger) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if smaller.is_empty() {
        return 1.0;
    }
    let ranks = doubled_ranks(smaller, larger);
    let observed = ranks[..smaller.len()].iter().sum();
    p_of_rank_sum(&ranks, smaller.len(), observed)
}

/// Twice the rank of each value among all of both, first those of `a`, then those of `b`. Equal values get
/// the mean of their ranks; doubled, it is a whole number.
fn doubled_ranks(a: &[f64], b: &[f64]) -> Vec<usize> {
    let pooled: Vec<f64> = a.iter().chain(b).copied().collect();
    let doubled_rank = |value: &f64| {
        let below = pooled.iter().filter(|other| other.total_cmp(value).is_lt()).count();
        let equal = pooled.iter().filter(|other| other.total_cmp(value).is_eq()).count();
        // The ranks below + 1 to below + equal have this mean, doubled.
        2 * below + equal + 1
    };
    pooled.iter().map(doubled_rank).collect()
}

/// The share of all choices of `chosen` among the ranks whose sum is at least as far from the mean as
/// `observed`.
fn p_of_rank_sum(doubled_ranks: &[usize], chosen: usize, observed: usize) -> f64 {
    // Doubled ranks are at most twice their number.
    let sum_max = chosen * 2 * doubled_ranks.len();
    // ways[k][s]: how many choices of k of the ranks seen so far have the sum s. As f64, since there are
    // more than 2^64 choices from 34 runs a side on; sums of positive numbers lose nothing that matters.
    let mut ways = vec![vec![0.0_f64; sum_max + 1]; chosen + 1];
    ways[0][0] = 1.0;
    for &rank in doubled_ranks {
        // Downwards, so that no rank is chosen twice.
        for k in (1..=chosen).rev() {
            let (fewer, more) = ways.split_at_mut(k);
            for (to, from) in more[0][rank..].iter_mut().zip(&fewer[k - 1]) {
                *to += from;
            }
        }
    }
    // All doubled ranks together come to n (n + 1), of which a choice gets its share on average.
    let mean = chosen * (doubled_ranks.len() + 1);
    let all: f64 = ways[chosen].iter().sum();
    let as_far: f64 = ways[chosen]
        .iter()
        .enumerate()
        .filter(|(sum, _)| sum.abs_diff(mean) >= observed.abs_diff(mean))
        .map(|(_, ways)| ways)
        .sum();
    (as_far / all).min(1.0)
}

/// The smallest p value that so many runs without ties can have: all of one side above all of the other.
#[must_use]
pub fn p_min(a: usize, b: usize) -> f64 {
    let choices: f64 = (1..=a.min(b)).map(|k| (a.max(b) + k) as f64 / k as f64).product();
    (2.0 / choices).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() <= 1e-12 * expected, "{actual} instead of {expected}");
    }

    /// scipy 1.17.1, `scipy.stats.mannwhitneyu(a, b, method='exact').pvalue`.
    #[test]
    fn without_ties_the_figures_are_those_of_scipy() {
        assert_close(
            p_value(&[1.1, 2.2, 3.3, 4.4, 5.5], &[3.0, 6.1, 7.2, 8.3, 9.4]),
            0.055_555_555_555_555_55,
        );
        let a = [19.0, 22.0, 16.0, 29.0, 24.0, 41.0, 12.5];
        let b = [20.0, 11.0, 17.0, 12.0, 26.0, 33.0, 35.0, 37.0, 40.0];
        assert_close(p_value(&a, &b), 0.837_062_937_062_937_1);
        assert_close(p_value(&b, &a), 0.837_062_937_062_937_1);
        let a: Vec<f64> = (0..20).map(|k| f64::from(2 * k)).collect();
        let b: Vec<f64> = (0..25).map(|k| f64::from(2 * k + 7)).collect();
        assert_close(p_value(&a, &b), 0.008_570_229_869_246_798);
    }

    /// scipy 1.17.1, `mannwhitneyu(a, b, method=PermutationMethod(n_resamples=inf)).pvalue`. Where the sides
    /// are of equal size the distribution is symmetric, and all definitions of two-sided agree.
    #[test]
    fn with_ties_the_figures_are_those_of_scipys_permutations() {
        assert_close(
            p_value(&[1.0, 2.0, 2.0, 3.0, 3.0, 5.0], &[2.0, 3.0, 4.0, 4.0, 5.0, 5.0]),
            0.192_640_692_640_692_64,
        );
        let a = [5.0, 5.0, 6.0, 6.0, 7.0, 7.0, 8.0, 8.0, 9.0, 9.0];
        let b = [7.0, 7.0, 8.0, 9.0, 9.0, 10.0, 10.0, 10.0, 11.0, 12.0];
        assert_close(p_value(&a, &b), 0.007_480_135_963_108_099);
    }

    /// All 1,287 choices of 5 from `scipy.stats.rankdata(a + b)` (scipy 1.17.1), gone through one by one.
    #[test]
    fn with_ties_and_sides_of_different_size_every_choice_is_counted() {
        let a = [10.0, 10.0, 11.0, 12.0, 12.0];
        let b = [12.0, 13.0, 13.0, 13.0, 14.0, 10.0, 15.0, 15.0];
        assert_close(p_value(&a, &b), 33.0 / 1287.0);
    }

    /// For sides of so many values: the largest U that is significant at 0.05, its p value, and that of the
    /// next U. scipy 1.17.1, `mannwhitneyu(a, b, alternative='two-sided', method='exact')` on samples without
    /// ties that have these U.
    const CRITICAL: [(usize, usize, usize, f64, f64); 11] = [
        (5, 5, 2, 0.031_746_031_746_031_744, 0.055_555_555_555_555_55),
        (5, 8, 6, 0.045_066_045_066_045_07, 0.065_268_065_268_065_28),
        (6, 6, 5, 0.041_125_541_125_541_13, 0.064_935_064_935_064_93),
        (6, 12, 14, 0.041_478_129_713_423_836, 0.052_898_082_309_848_02),
        (7, 9, 12, 0.041_783_216_783_216_79, 0.054_895_104_895_104_8),
        (8, 8, 13, 0.049_883_449_883_449_88, 0.064_957_264_957_264_95),
        (8, 12, 22, 0.047_344_605_858_537_75, 0.057_378_740_970_072_24),
        (10, 10, 23, 0.043_257_052_544_978_23, 0.052_425_902_271_103_5),
        (12, 15, 49, 0.046_866_346_139_465_005, 0.052_857_995_865_130_08),
        (15, 15, 64, 0.045_333_899_097_922_65, 0.050_222_373_333_457_1),
        (20, 20, 127, 0.049_090_325_189_372_44, 0.052_399_521_872_849_72),
    ];

    #[test]
    fn what_is_critical_for_scipy_is_critical_here() {
        for (smaller, larger, critical_u, p_critical, p_next) in CRITICAL {
            let ranks: Vec<_> = (1..=smaller + larger).map(|rank| 2 * rank).collect();
            // U is the rank sum less the smallest possible one.
            let p = |u: usize| p_of_rank_sum(&ranks, smaller, 2 * u + smaller * (smaller + 1));
            assert_close(p(critical_u), p_critical);
            assert_close(p(critical_u + 1), p_next);
            assert!(p_critical <= 0.05 && p_next > 0.05, "{smaller} and {larger}");
        }
    }

    #[test]
    fn nothing_but_ties_and_nothing_at_all_prove_nothing() {
        assert_close(p_value(&[3.0; 6], &[3.0; 7]), 1.0);
        assert_close(p_value(&[], &[3.0; 7]), 1.0);
    }

    #[test]
    fn the_smallest_p_value_is_that_of_separated_sides() {
        for (a, b) in [(5_u32, 5_u32), (5, 9), (12, 6)] {
            let low: Vec<f64> = (0..a).map(f64::from).collect();
            let high: Vec<f64> = (0..b).map(|k| f64::from(100 + k)).collect();
            assert_close(p_value(&low, &high), p_min(a as usize, b as usize));
        }
        // 2 of 252: scipy 1.17.1 agrees.
        assert_close(p_min(5, 5), 0.007_936_507_936_507_936);
    }
}
