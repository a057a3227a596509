//! The claims of a token whose signature is right: what they must be, and the identity that they give.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::TokenError;
use crate::accounts::{Identity, PublishRights, Rights};
use crate::name;
use crate::pattern::Pattern;

/// The most characters of `sub`.
const SUBJECT_CHARACTERS_MAX: usize = 128;

/// How far the backend's clock may be ahead, for `nbf` and `iat`. `exp` has no leeway.
const LEEWAY_SECONDS: i64 = 30;

/// The highest `rate`, as for the server's own.
const RATE_MAX: u64 = 1_000_000;

/// The beginning of a pattern of topics in `publish`.
const OF_TOPICS: &str = "topic:";

/// The issuer and the audience that tokens must have, where the operator has set them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
}

/// The identity that claims give at a time.
///
/// # Errors
///
/// The first check that fails.
pub(super) fn identity(
    claims: &Map<String, Value>,
    expected: &Expected,
    now_unix: u64,
) -> Result<Identity, TokenError> {
    let claims = Claims(claims);
    let now = i64::try_from(now_unix).unwrap_or(i64::MAX);
    check_names(&claims, expected)?;
    let expires_at = claims.seconds("exp")?.ok_or(TokenError::Missing("exp"))?;
    if now >= expires_at {
        return Err(TokenError::Expired);
    }
    if claims.seconds("nbf")?.is_some_and(|begin| begin > now.saturating_add(LEEWAY_SECONDS)) {
        return Err(TokenError::NotYetValid);
    }
    if claims.seconds("iat")?.is_some_and(|issued| issued > now.saturating_add(LEEWAY_SECONDS)) {
        return Err(TokenError::IssuedLater);
    }
    let subject = claims.text("sub")?.ok_or(TokenError::Missing("sub"))?;
    if !(1..=SUBJECT_CHARACTERS_MAX).contains(&subject.chars().count()) {
        return Err(TokenError::Subject);
    }
    if name::is_system(&name::key(subject)) {
        return Err(TokenError::System);
    }
    let own_name = || Identity::name_of(subject).ok_or(TokenError::Name);
    let name = claims.text("name")?.and_then(name::parse).map_or_else(own_name, Ok)?;
    let patterns = |texts: Vec<&str>| texts.into_iter().map(Pattern::parse).collect();
    let rights = Rights {
        rooms: claims.texts("rooms")?.map(patterns),
        topics: claims.texts("topics")?.map(patterns),
        publish: claims.texts("publish")?.map(publish_rights),
        may_rename: claims.flag("rename")?,
        messages_per_second: claims.rate()?,
        expires_at: Some(u64::try_from(expires_at).unwrap_or(0)),
    };
    let is_admin = claims.flag("admin")?;
    Ok(Identity { account: subject.into(), name, is_admin, rights: Arc::new(rights) })
}

/// Checks issuer and audience, and their types even where they do not matter.
fn check_names(claims: &Claims<'_>, expected: &Expected) -> Result<(), TokenError> {
    let issuer = claims.text("iss")?;
    if expected.issuer.is_some() && issuer != expected.issuer.as_deref() {
        return Err(if issuer.is_none() { TokenError::Missing("iss") } else { TokenError::Issuer });
    }
    // "In the special case when the JWT has one audience, the "aud" value MAY be a single case-sensitive string"
    // (RFC 7519, 4.1.3).
    let audience = match claims.get("aud") {
        Some(Value::String(one)) => Some(vec![one.as_str()]),
        _ => claims.texts("aud")?,
    };
    let Some(wanted) = &expected.audience else { return Ok(()) };
    let audience = audience.ok_or(TokenError::Missing("aud"))?;
    if audience.contains(&wanted.as_str()) { Ok(()) } else { Err(TokenError::Audience) }
}

fn publish_rights(texts: Vec<&str>) -> PublishRights {
    let mut rights = PublishRights::default();
    for text in texts {
        match text.strip_prefix(OF_TOPICS) {
            Some(topic) => rights.topics.push(Pattern::parse(topic)),
            None => rights.rooms.push(Pattern::parse(text)),
        }
    }
    rights
}

/// Claims by name and type. A missing one is `None`, one of another type an error.
struct Claims<'a>(&'a Map<String, Value>);

impl<'a> Claims<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name)
    }

    fn typed<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, TokenError> {
        self.get(name).map(|value| parse(value).ok_or(TokenError::WrongType(name))).transpose()
    }

    fn text(&self, name: &'static str) -> Result<Option<&'a str>, TokenError> {
        self.typed(name, Value::as_str)
    }

    fn texts(&self, name: &'static str) -> Result<Option<Vec<&'a str>>, TokenError> {
        self.typed(name, |value| value.as_array()?.iter().map(Value::as_str).collect())
    }

    fn flag(&self, name: &'static str) -> Result<bool, TokenError> {
        Ok(self.typed(name, Value::as_bool)?.unwrap_or(false))
    }

    /// A time in seconds, which may have a fraction (RFC 7519, 2: "NumericDate"). One beyond the range is the end of it.
    fn seconds(&self, name: &'static str) -> Result<Option<i64>, TokenError> {
        self.typed(name, |value| {
            let number = value.as_number()?;
            number
                .as_i64()
                .or_else(|| number.as_u64().map(|_| i64::MAX))
                .or_else(|| number.as_f64().map(|seconds| seconds.floor() as i64))
        })
    }

    fn rate(&self) -> Result<Option<u32>, TokenError> {
        let rate = self.typed("rate", Value::as_u64)?;
        Ok(rate.map(|rate| rate.min(RATE_MAX) as u32))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_000_000_000;

    /// The outcome of claims that are right, with one change.
    fn with(change: Value) -> Result<Identity, TokenError> {
        expecting(&Expected::default(), change)
    }

    fn expecting(expected: &Expected, change: Value) -> Result<Identity, TokenError> {
        let mut claims = json!({"sub": "ann", "exp": NOW + 1});
        let claims = claims.as_object_mut().unwrap();
        for (name, value) in change.as_object().unwrap() {
            // A null in the change leaves the claim out.
            match value {
                Value::Null => drop(claims.remove(name)),
                value => drop(claims.insert(name.clone(), value.clone())),
            }
        }
        identity(claims, expected, NOW)
    }

    #[test]
    fn the_least_token_gives_a_member_of_every_room() {
        let ann = with(json!({})).unwrap();
        let rights = Rights { expires_at: Some(NOW + 1), ..Rights::default() };
        assert_eq!((&*ann.account, &*ann.name, ann.is_admin), ("ann", "ann", false));
        assert_eq!(*ann.rights, rights);
    }

    #[test]
    fn claims_become_rights() {
        let ann = with(json!({
            "name": " Ann ", "admin": true, "rooms": ["general", "team-*"], "topics": [],
            "publish": ["general", "topic:prices.*"], "rename": true, "rate": 5, "unknown": {},
        }));
        let ann = ann.unwrap();
        assert_eq!((&*ann.name, ann.is_admin), ("Ann", true));
        let rights = &ann.rights;
        assert!(rights.may_join("team-a") && !rights.may_join("random") && !rights.may_hear("prices.eur"));
        assert!(rights.may_publish_in("general") && !rights.may_publish_in("team-a"));
        assert!(rights.may_publish_on("prices.eur") && !rights.may_publish_on("general"));
        assert_eq!((rights.may_rename, rights.messages_per_second), (true, Some(5)));
        assert_eq!(with(json!({"rate": u64::MAX})).unwrap().rights.messages_per_second, Some(1_000_000));
    }

    #[test]
    fn a_missing_claim_is_named() {
        assert_eq!(with(json!({"sub": null})), Err(TokenError::Missing("sub")));
        assert_eq!(with(json!({"exp": null})), Err(TokenError::Missing("exp")));
    }

    #[test]
    fn a_claim_of_the_wrong_type_is_named() {
        for (name, values) in [
            ("sub", json!([1, true, ["ann"], {"ann": 1}])),
            ("exp", json!(["1000000001", true, [1], {}])),
            ("nbf", json!(["1", false, []])),
            ("iat", json!(["1", false, {}])),
            ("iss", json!([1, ["backend"], true])),
            ("aud", json!([1, [1], {}, true])),
            ("name", json!([1, ["Ann"], true])),
            ("admin", json!(["true", 1, []])),
            ("rename", json!(["true", 1, []])),
            ("rooms", json!(["general", 1, [1], ["general", null], {}])),
            ("topics", json!(["prices", true, [[]]])),
            ("publish", json!(["general", true, [{}]])),
            ("rate", json!(["5", -1, 1.5, true, []])),
        ] {
            for value in values.as_array().unwrap() {
                let outcome = with(json!({ name: value }));
                assert_eq!(outcome, Err(TokenError::WrongType(name)), "{name} {value}");
            }
            // Present, and nothing.
            let mut claims = json!({"sub": "ann", "exp": NOW + 1});
            claims[name] = Value::Null;
            let outcome = identity(claims.as_object().unwrap(), &Expected::default(), NOW);
            assert_eq!(outcome, Err(TokenError::WrongType(name)));
        }
    }

    #[test]
    fn times_are_held_to_the_second() {
        let outcome = |change| with(change).map(|_| ());
        assert_eq!(outcome(json!({"exp": NOW})), Err(TokenError::Expired));
        assert_eq!(outcome(json!({"exp": NOW as f64 + 0.9})), Err(TokenError::Expired));
        for past in [json!(0), json!(-1), json!(i64::MIN), json!(-1e300)] {
            assert_eq!(outcome(json!({"exp": past})), Err(TokenError::Expired));
            assert_eq!(outcome(json!({"nbf": past, "iat": past})), Ok(()));
        }
        for future in [json!(NOW + 31), json!(u64::MAX), json!(i64::MAX), json!(1e300)] {
            assert_eq!(outcome(json!({"exp": future})), Ok(()));
            assert_eq!(outcome(json!({"nbf": future})), Err(TokenError::NotYetValid));
            assert_eq!(outcome(json!({"iat": future})), Err(TokenError::IssuedLater));
        }
        assert_eq!(outcome(json!({"nbf": NOW + 30, "iat": NOW + 30})), Ok(()));
    }

    #[test]
    fn the_subject_has_a_length_and_becomes_the_name_where_there_is_none() {
        for subject in ["", &"a".repeat(129), &"é".repeat(129)] {
            assert_eq!(with(json!({"sub": subject})), Err(TokenError::Subject));
        }
        let longest = "é".repeat(128);
        let ann = with(json!({"sub": longest})).unwrap();
        assert_eq!((&*ann.account, &*ann.name), (&*longest, &*"é".repeat(20)));
        for invalid in ["", " ", "a\nb", &"x".repeat(21)] {
            assert_eq!(&*with(json!({"name": invalid})).unwrap().name, "ann");
        }
        assert_eq!(with(json!({"sub": "a\nb"})), Err(TokenError::Name));
        for system in ["System", "ｓystem", " SYS\u{200b}TEM"] {
            assert_eq!(with(json!({"sub": system, "name": "Ann"})), Err(TokenError::System));
        }
        assert_eq!(&*with(json!({"sub": "a\nb", "name": "Ann"})).unwrap().account, "a\nb");
    }

    #[test]
    fn issuer_and_audience_must_match_where_they_are_set() {
        let expected = Expected { issuer: Some("backend".into()), audience: Some("chat".into()) };
        let outcome = |change| expecting(&expected, change).map(|_| ());
        assert_eq!(outcome(json!({"iss": "backend", "aud": "chat"})), Ok(()));
        assert_eq!(outcome(json!({"iss": "backend", "aud": ["mail", "chat"]})), Ok(()));
        assert_eq!(outcome(json!({"iss": "Backend", "aud": "chat"})), Err(TokenError::Issuer));
        assert_eq!(outcome(json!({"aud": "chat"})), Err(TokenError::Missing("iss")));
        assert_eq!(outcome(json!({"iss": "backend", "aud": "mail"})), Err(TokenError::Audience));
        assert_eq!(outcome(json!({"iss": "backend", "aud": []})), Err(TokenError::Audience));
        assert_eq!(outcome(json!({"iss": "backend"})), Err(TokenError::Missing("aud")));
        assert!(with(json!({"iss": "anybody", "aud": ["anything"]})).is_ok());
    }
}
