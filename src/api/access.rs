//! Who may make a request: the key in `Authorization`, its scope, and the origin of a page.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, Version, header};
use tokio::sync::watch;
use tracing::info;

use super::keys::{ApiKeys, Caller, Scope, Scopes};
use super::problem::{Problem, ProblemKind};
use crate::log_limit::LogLimit;

/// The scheme of `Authorization` (RFC 6750, 2.1).
const SCHEME: &str = "Bearer";

/// The name of those who come through a unix socket without a key, in the log.
const UNIX_NAME: &str = "unix";

/// The address of a request's peer, which may be a proxy; `None` through a unix socket. An extension of each request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) Option<SocketAddr>);

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
    pub(super) fn authorize(
        &self,
        headers: &HeaderMap,
        scope: Scope,
        Peer(address): Peer,
    ) -> Result<Caller, Problem> {
        check_origin(headers)?;
        let caller = self.authenticate(headers, address)?;
        if caller.scopes.contains(scope) {
            return Ok(caller);
        }
        let detail = format!("the key lacks the scope {}", scope.as_str());
        let problem = Problem::new(ProblemKind::InsufficientScope, detail);
        Err(challenge(problem, ", error=\"insufficient_scope\""))
    }

    fn authenticate(&self, headers: &HeaderMap, address: Option<SocketAddr>) -> Result<Caller, Problem> {
        let Some(key) = bearer_key(headers) else {
            if self.is_key_needed {
                let detail = "send the key in the header Authorization: Bearer KEY";
                return Err(challenge(Problem::new(ProblemKind::Unauthenticated, detail), ""));
            }
            return Ok(Caller { name: UNIX_NAME.into(), scopes: Scopes::all() });
        };
        let found = self.keys.as_ref().and_then(|keys| keys.borrow().find(key).cloned());
        found.ok_or_else(|| {
            log_wrong_key(address.map(|address| address.ip().to_canonical()));
            let problem = Problem::new(ProblemKind::WrongKey, "the key is not in the file of keys");
            challenge(problem, ", error=\"invalid_token\"")
        })
    }
}

/// Logs a request with a wrong key, at most once a second.
fn log_wrong_key(address: Option<IpAddr>) {
    static REFUSED: LogLimit = LogLimit::new();
    if let Some(left_out) = REFUSED.allow() {
        info!(address = address.map(tracing::field::display), left_out, "API request refused: wrong key");
    }
}

/// Refuses the pages of other origins, which a browser names.
///
/// # Errors
///
/// [`ProblemKind::ForeignOrigin`].
fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_own = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        let origin = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        origin.zip(host).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
    };
    // A browser sends one. Of several, none may be foreign.
    if headers.get_all(header::ORIGIN).iter().all(is_own) {
        return Ok(());
    }
    Err(Problem::new(
        ProblemKind::ForeignOrigin,
        "the request is from a page of another origin; backends send no Origin",
    ))
}

/// Refuses what has no `Host`, or several, as HTTP/1.1 demands (RFC 9112, 3.2): origins are compared with it.
///
/// # Errors
///
/// [`ProblemKind::Malformed`].
pub(super) fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get_all(header::HOST).iter().count() {
        1 => Ok(()),
        0 if version < Version::HTTP_11 => Ok(()),
        _ => Err(Problem::new(ProblemKind::Malformed, "a request has the field Host once")),
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

    const NOBODY: Peer = Peer(None);

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
            assert_eq!(&*policy.authorize(&with(&value), Scope::Read, NOBODY).unwrap().name, "billing");
        }
        let refused =
            |headers: &HeaderMap, scope| challenge_of(policy.authorize(headers, scope, NOBODY).unwrap_err());
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
        assert!(policy.authorize(&HeaderMap::new(), Scope::Moderate, NOBODY).is_ok());
        let with = |key: &str| headers(&[(header::AUTHORIZATION, &format!("Bearer {key}"))]);
        assert!(policy.authorize(&with("upk_wrong"), Scope::Read, NOBODY).is_err());
        assert!(policy.authorize(&with(&key), Scope::Publish, NOBODY).is_err(), "a key counts as what it is");
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let (policy, _) = policy(&[Scope::Read], false);
        let from = |origin: &str| {
            let headers = headers(&[(header::HOST, "api.example:9090"), (header::ORIGIN, origin)]);
            policy.authorize(&headers, Scope::Read, NOBODY).is_ok()
        };
        assert!(from("http://api.example:9090") && from("https://API.example:9090"));
        for origin in ["http://evil.example", "null", "http://api.example", "", "ftp://api.example:9090"] {
            assert!(!from(origin), "{origin}");
        }
        let own = "http://api.example:9090";
        let mut several = headers(&[(header::HOST, "api.example:9090"), (header::ORIGIN, own)]);
        several.append(header::ORIGIN, HeaderValue::from_static("http://evil.example"));
        assert!(policy.authorize(&several, Scope::Read, NOBODY).is_err());
    }
}
