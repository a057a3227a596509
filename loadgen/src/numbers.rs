//! How numbers are written for people.

/// A number with its thousands apart.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share as a percentage that only reads 100 when nothing is missing.
#[must_use]
pub fn floor_percent(share: f64) -> String {
    format!("{:.4}", (share * 1e6).floor() / 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_never_rounded_up_to_everything() {
        assert_eq!(floor_percent(0.999_999_9), "99.9999");
        assert_eq!(floor_percent(1.0), "100.0000");
    }
}
