//! Who may make a request: the key in `Authorization`, its scope, and the origin of a page.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, header};
use tokio::sync::watch;

use super::keys::{ApiKeys, Caller, Scope, Scopes};
use super::problem::{Problem, ProblemKind};

/// The scheme of `Authorization` (RFC 6750, 2.1).
const SCHEME: &str = "Bearer";

/// The name of those who come through a unix socket without a key, in the log.
const UNIX_NAME: &str = "unix";

/// How requests are allowed.
#[derive(Clone, Debug)]
pub(super) struct AccessPolicy {
    /// `None` without a file of keys.
    pub(super) keys: Option<watch::Receiver<Arc<ApiKeys>>>,
    /// Over TCP it always is, on loopback too: any web page can post to 127.0.0.1.
    pub(super) is_key_needed: bool,
}

impl AccessPolicy {
    /// Decides whether a request may be made. Returns who makes it.
    ///
    /// # Errors
    ///
    /// The problem to answer with.
    pub(super) fn authorize(&self, headers: &HeaderMap, scope: Scope) -> Result<Caller, Problem> {
        check_origin(headers)?;
        let caller = self.authenticate(headers)?;
        if caller.scopes.contains(scope) {
            return Ok(caller);
        }
        let detail = format!("the key lacks the scope {}", scope.as_str());
        let problem = Problem::new(ProblemKind::InsufficientScope, detail);
        Err(challenge(problem, ", error=\"insufficient_scope\""))
    }

    fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(key) = bearer_key(headers) else {
            if self.is_key_needed {
                let detail = "send the key in the header Authorization: Bearer KEY";
                return Err(challenge(Problem::new(ProblemKind::Unauthenticated, detail), ""));
            }
            return Ok(Caller { name: UNIX_NAME.into(), scopes: Scopes::all() });
        };
        let found = self.keys.as_ref().and_then(|keys| keys.borrow().find(key).cloned());
        found.ok_or_else(|| {
            let problem = Problem::new(ProblemKind::WrongKey, "the key is not in the file of keys");
            challenge(problem, ", error=\"invalid_token\"")
        })
    }
}

/// Refuses the pages of other origins, which a browser names.
///
/// # Errors
///
/// [`ProblemKind::ForeignOrigin`].
fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().unwrap_or_default();
    let origin = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    match (origin, host) {
        (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(Problem::new(
            ProblemKind::ForeignOrigin,
            "the request is from a page of another origin; backends send no Origin",
        )),
    }
}

fn bearer_key(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| key.trim())
}

fn challenge(problem: Problem, error: &str) -> Problem {
    let value = format!("{SCHEME} realm=\"uproar\"{error}");
    let value = HeaderValue::try_from(value).expect("Bug: a challenge that is no header value");
    problem.with_header(header::WWW_AUTHENTICATE, value)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;
    use axum::response::IntoResponse as _;

    use super::*;
    use crate::api::keys::NewKey;

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn policy(scopes: &[Scope], is_key_needed: bool) -> (AccessPolicy, String) {
        let NewKey { key, line } = NewKey::new("billing", scopes.iter().copied().collect()).unwrap();
        let keys = ApiKeys::parse(&line).unwrap();
        let (_, seen) = watch::channel(Arc::new(keys));
        (AccessPolicy { keys: Some(seen), is_key_needed }, key)
    }

    fn challenge_of(problem: Problem) -> (u16, String) {
        let response = problem.into_response();
        let challenge = response.headers().get(header::WWW_AUTHENTICATE);
        let challenge = challenge.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        (response.status().as_u16(), challenge)
    }

    #[test]
    fn a_key_opens_its_scopes_and_no_others() {
        let (policy, key) = policy(&[Scope::Read], true);
        let with = |value: &str| headers(&[(header::AUTHORIZATION, value)]);
        for value in [format!("Bearer {key}"), format!("bearer  {key} ")] {
            assert_eq!(&*policy.authorize(&with(&value), Scope::Read).unwrap().name, "billing");
        }
        let refused =
            |headers: &HeaderMap, scope| challenge_of(policy.authorize(headers, scope).unwrap_err());
        let realm = "Bearer realm=\"uproar\"".to_owned();
        for value in ["", "Bearer", "Basic dTpw", &key] {
            assert_eq!(refused(&with(value), Scope::Read), (401, realm.clone()), "{value}");
        }
        assert_eq!(
            refused(&with("Bearer upk_wrong"), Scope::Read),
            (401, format!("{realm}, error=\"invalid_token\""))
        );
        assert_eq!(
            refused(&with(&format!("Bearer {key}")), Scope::Publish),
            (403, format!("{realm}, error=\"insufficient_scope\""))
        );
    }

    #[test]
    fn a_unix_socket_needs_no_key_and_refuses_a_wrong_one() {
        let (policy, key) = policy(&[Scope::Read], false);
        assert!(policy.authorize(&HeaderMap::new(), Scope::Moderate).is_ok());
        let with = |key: &str| headers(&[(header::AUTHORIZATION, &format!("Bearer {key}"))]);
        assert!(policy.authorize(&with("upk_wrong"), Scope::Read).is_err());
        assert!(policy.authorize(&with(&key), Scope::Publish).is_err(), "a key counts as what it is");
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let (policy, _) = policy(&[Scope::Read], false);
        let from = |origin: &str| {
            let headers = headers(&[(header::HOST, "api.example:9090"), (header::ORIGIN, origin)]);
            policy.authorize(&headers, Scope::Read).is_ok()
        };
        assert!(from("http://api.example:9090") && from("https://API.example:9090"));
        for origin in ["http://evil.example", "null", "http://api.example", "", "ftp://api.example:9090"] {
            assert!(!from(origin), "{origin}");
        }
    }
}
