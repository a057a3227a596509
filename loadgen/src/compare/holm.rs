//! Holm's correction: one of many tests is significant by chance more often than a single one is (Holm, A
//! Simple Sequentially Rejective Multiple Test Procedure, 1979).

/// The p values, adjusted so that comparing each with α keeps the chance of any false positive among them
/// at α.
#[must_use]
pub fn adjust(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&left, &right| p_values[left].total_cmp(&p_values[right]));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut largest = 0.0_f64;
    for (place, &index) in order.iter().enumerate() {
        // A hypothesis is only looked at once all with smaller p values have been rejected, so no adjusted
        // p value is below that of its predecessor.
        largest = largest.max(p_values[index] * (p_values.len() - place) as f64).min(1.0);
        adjusted[index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// statsmodels 0.15.0, `multipletests([...], method='holm')[1]`.
    #[test]
    fn the_adjusted_values_are_those_of_statsmodels() {
        for (p_values, expected) in [
            (&[0.01, 0.04, 0.03, 0.005, 0.6, 0.02][..], &[0.05, 0.09, 0.09, 0.03, 0.6, 0.08][..]),
            // Equal ones, and products beyond 1.
            (&[0.02, 0.02, 0.9, 1.0, 0.04, 0.001, 0.049, 0.3], &[0.14, 0.14, 1.0, 1.0, 0.2, 0.008, 0.2, 0.9]),
        ] {
            for (adjusted, expected) in adjust(p_values).iter().zip(expected) {
                assert!((adjusted - expected).abs() < 1e-12, "{adjusted} instead of {expected}");
            }
        }
    }

    #[test]
    fn a_single_test_needs_no_correction_and_none_is_none() {
        assert_eq!(adjust(&[0.03]), [0.03]);
        assert_eq!(adjust(&[]), [0.0; 0]);
    }
}
