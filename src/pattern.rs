//! Patterns of the names of rooms and topics.

/// A pattern of names: a name, or the beginning of names and one `*` behind it, which stands for any rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Matches this name.
    Name(Box<str>),
    /// Matches every name that begins with this.
    Prefix(Box<str>),
    /// Matches no name: it has a `*` elsewhere.
    Nothing,
}

impl Pattern {
    /// Parses a pattern.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.split_once('*') {
            None => Self::Name(text.into()),
            Some((prefix, "")) => Self::Prefix(prefix.into()),
            Some(_) => Self::Nothing,
        }
    }

    /// True when the name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => **own == *name,
            Self::Prefix(prefix) => name.starts_with(&**prefix),
            Self::Nothing => false,
        }
    }

    /// The pattern of the names that match this one and begin with `prefix`.
    fn beginning_with(&self, prefix: &str) -> Self {
        match self {
            Self::Prefix(own) if prefix.starts_with(&**own) => Self::Prefix(prefix.into()),
            Self::Name(own) | Self::Prefix(own) if own.starts_with(prefix) => self.clone(),
            Self::Name(_) | Self::Prefix(_) | Self::Nothing => Self::Nothing,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Name(text) | Self::Prefix(text) => text,
            Self::Nothing => "",
        }
    }
}

/// True when the name matches one of these patterns.
#[must_use]
pub fn any_matches(patterns: &[Pattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

/// The names that match one of these patterns (`None`: all names) and begin with `prefix`, as patterns in the order of
/// names, of which no name matches two.
#[must_use]
pub fn disjoint(patterns: Option<&[Pattern]>, prefix: &str) -> Vec<Pattern> {
    let Some(patterns) = patterns else { return vec![Pattern::Prefix(prefix.into())] };
    let mut found: Vec<Pattern> = patterns.iter().map(|pattern| pattern.beginning_with(prefix)).collect();
    found.retain(|pattern| *pattern != Pattern::Nothing);
    // A prefix comes before all that begins with it, so what it covers follows it.
    found.sort_by(|a, b| {
        let is_name = |pattern: &Pattern| matches!(pattern, Pattern::Name(_));
        a.text().cmp(b.text()).then(is_name(a).cmp(&is_name(b)))
    });
    found.dedup_by(|next, kept| kept.matches(next.text()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text)).collect()
    }

    #[test]
    fn a_pattern_is_a_name_or_a_beginning_of_names() {
        for (pattern, name, is_match) in [
            ("team", "team", true),
            ("team", "team-a", false),
            ("team", "Team", false),
            ("team-*", "team-a", true),
            ("team-*", "team-", true),
            ("team-*", "team", false),
            ("*", "anything", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("**", "a", false),
            ("te*-a", "team-a", false),
            ("te*-a", "te*-a", false),
            ("*-a", "team-a", false),
            ("te*m*", "team", false),
        ] {
            assert_eq!(Pattern::parse(pattern).matches(name), is_match, "{pattern} {name}");
        }
    }

    #[test]
    fn disjoint_patterns_are_in_order_and_name_nothing_twice() {
        for (given, prefix, expected) in [
            (&["*"][..], "", &["*"][..]),
            (&["*"], "te", &["te*"]),
            (&["b", "a*", "a", "ab*", "abc", "b", "a*"], "", &["a*", "b"]),
            (&["team-*", "team-a", "team"], "", &["team", "team-*"]),
            (&["team-*", "a"], "team-b", &["team-b*"]),
            (&["team-*", "a"], "team", &["team-*"]),
            (&["team-*", "a"], "x", &[]),
            (&["x*", "x"], "x", &["x*"]),
            (&["x", "x"], "x", &["x"]),
            (&["x*y"], "", &[]),
            (&[], "", &[]),
        ] {
            assert_eq!(disjoint(Some(&patterns(given)), prefix), patterns(expected), "{given:?} {prefix}");
        }
        assert_eq!(disjoint(None, "te"), patterns(&["te*"]));
    }
}
