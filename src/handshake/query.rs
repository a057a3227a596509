//! The query of an upgrade: what a client says about itself ahead of its first message.
//!
//! It may hold secrets, so it is never logged.

use std::fmt;

use url::form_urlencoded;

/// The fields of an upgrade's query that a dialect may use. Of several with the same name the first counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UpgradeQuery {
    /// `name`: the first display name that a chat user asks for.
    pub name: Option<String>,
    /// `token`: a JWT that says who the client is.
    pub token: Option<String>,
    /// `session`: the token of a session that a chat user goes on with.
    pub session: Option<String>,
}

impl UpgradeQuery {
    /// Parses a query as browsers encode forms: `+` is a space, and the rest is percent-encoded UTF-8
    /// (application/x-www-form-urlencoded in the URL standard).
    #[must_use]
    pub fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let field = match &*key {
                "name" => &mut parsed.name,
                "token" => &mut parsed.token,
                "session" => &mut parsed.session,
                _ => continue,
            };
            field.get_or_insert_with(|| value.into_owned());
        }
        parsed
    }
}

impl fmt::Debug for UpgradeQuery {
    /// Without the values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpgradeQuery(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_decoded_as_forms_are() {
        let query = UpgradeQuery::parse("name=Ann+O%27Hara&token=a.b-c_d&other=1&session=A-_9");
        assert_eq!(query.name.as_deref(), Some("Ann O'Hara"));
        assert_eq!(query.token.as_deref(), Some("a.b-c_d"));
        assert_eq!(query.session.as_deref(), Some("A-_9"));
    }

    #[test]
    fn of_several_the_first_counts_and_a_missing_one_is_none() {
        let query = UpgradeQuery::parse("name=&name=Ann&&=x&token");
        assert_eq!((query.name.as_deref(), query.token.as_deref()), (Some(""), Some("")));
        assert_eq!(UpgradeQuery::parse(""), UpgradeQuery::default());
        assert_eq!(UpgradeQuery::parse("name=%E4%BD%A0").name.as_deref(), Some("你"));
        assert_eq!(UpgradeQuery::parse("name=%ff").name.as_deref(), Some("\u{fffd}"));
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        assert_eq!(format!("{:?}", UpgradeQuery::parse("token=secret")), "UpgradeQuery(…)");
    }
}
