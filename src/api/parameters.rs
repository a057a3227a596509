//! Reads the parameters of a query, and notes everything that is wrong with them. Unknown ones are refused.

use url::form_urlencoded;

use super::problem::{FieldError, Problem};

/// The entries of a list where the query names no `limit`.
const LIMIT_DEFAULT: usize = 100;

/// The most entries of a list.
const LIMIT_MAX: usize = 1_000;

/// The parameters of a query. What was read is taken out; [`Parameters::end`] refuses the rest.
#[derive(Debug)]
pub(super) struct Parameters {
    pairs: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl Parameters {
    /// Of a request without a query, too.
    pub(super) fn of(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self { pairs: pairs.into_owned().collect(), errors: Vec::new() }
    }

    /// A text, if there is one.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let place = self.pairs.iter().position(|(own, _)| own == name)?;
        Some(self.pairs.remove(place).1)
    }

    /// A whole number from 0 on, if there is one.
    pub(super) fn number(&mut self, name: &str) -> Option<u64> {
        let text = self.text(name)?;
        let number = text.parse().ok().filter(|_| !text.starts_with('+'));
        if number.is_none() {
            self.refuse(name, "is not a whole number from 0 on");
        }
        number
    }

    /// The parameter `limit`: 1 to 1,000, or else 100.
    pub(super) fn limit(&mut self) -> usize {
        match self.number("limit") {
            None => LIMIT_DEFAULT,
            Some(limit) if (1..=LIMIT_MAX as u64).contains(&limit) => limit as usize,
            Some(_) => {
                self.refuse("limit", format!("is not 1 to {LIMIT_MAX}"));
                LIMIT_DEFAULT
            }
        }
    }

    /// Notes that a parameter is wrong.
    pub(super) fn refuse(&mut self, name: &str, detail: impl Into<String>) {
        let parameter = Some(name.chars().take(64).collect());
        self.errors.push(FieldError { detail: detail.into(), pointer: None, parameter });
    }

    /// Refuses all that was not read.
    ///
    /// # Errors
    ///
    /// What was wrong.
    pub(super) fn end(mut self) -> Result<(), Problem> {
        for (name, _) in std::mem::take(&mut self.pairs) {
            self.refuse(&name, "is not known, or given twice");
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::of_fields(self.errors)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let mut query = Parameters::of(Some("after=-1&limit=0&prefix=a%20b+c&prefix=d&x"));
        assert_eq!(query.number("after"), None);
        assert_eq!(query.limit(), LIMIT_DEFAULT);
        assert_eq!(query.text("prefix").as_deref(), Some("a b c"));
        assert_eq!(query.text("none"), None);
        let told: Vec<_> = query.end().unwrap_err().to_json()["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["parameter"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(told, ["after", "limit", "prefix", "x"]);
        for (text, limit) in [("limit=1", 1), ("limit=1000", 1_000), ("", 100)] {
            let mut query = Parameters::of(Some(text));
            assert_eq!(query.limit(), limit);
            query.end().unwrap();
        }
        let mut query = Parameters::of(Some("limit=1001"));
        query.limit();
        assert!(query.end().is_err());
    }
}
