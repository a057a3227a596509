//! Which pages may connect: the rule for `Origin` (RFC 6454, RFC 6455 section 10.2), and how it is configured.
//!
//! Programs send no `Origin`. This protects users of browsers: a page of another site must not connect to the server in
//! their name.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use url::Host;

use uproar_protocol::authority::Authority;

/// The schemes of the server's own pages, with their default ports.
const PAGE_SCHEMES: [(&str, u16); 2] = [("http://", 80), ("https://", 443)];

/// The allowed values, for a text that is not an origin.
const ALLOWED: &str = "allowed is an origin without a path, such as https://example.com or https://*.example.com; \
                       null for pages opened from files; or * for all";

/// The settings that decide about an origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginPolicy {
    /// The origins of other sites whose pages may connect.
    pub allowed: Vec<AllowedOrigin>,
    /// True when the server listens only on loopback. Then a page that uses another name for it comes from an attacker
    /// whose name server returns the loopback address (DNS rebinding).
    pub is_on_loopback: bool,
    /// Other names that are allowed for a server on loopback, for example that of a proxy.
    pub hosts: Vec<AllowedHost>,
}

/// Why the pages of an origin may not connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginRefusal {
    /// It is not the server's own origin, and not listed.
    OtherOrigin,
    /// It matches `Host`, but the server listens on loopback, and the name is neither loopback nor listed.
    UnknownHost,
}

impl OriginPolicy {
    /// Checks whether pages of this origin may connect, in a request to this authority, which may come from a trusted
    /// proxy: then it is the proxy that goes by this name, and not this machine.
    ///
    /// # Errors
    ///
    /// An [`OriginRefusal`].
    pub fn check(
        &self,
        origin: &[u8],
        authority: Option<Authority<'_>>,
        is_from_proxy: bool,
    ) -> Result<(), OriginRefusal> {
        let Ok(origin) = str::from_utf8(origin) else { return Err(OriginRefusal::OtherOrigin) };
        if self.allowed.iter().any(|allowed| allowed.matches(origin)) {
            return Ok(());
        }
        let authority = authority.filter(|authority| is_same_origin(origin, authority));
        let Some(authority) = authority else { return Err(OriginRefusal::OtherOrigin) };
        let is_known = !self.is_on_loopback
            || is_from_proxy
            || authority.is_loopback()
            || self.hosts.iter().any(|host| host.matches(authority.host));
        is_known.then_some(()).ok_or(OriginRefusal::UnknownHost)
    }
}

/// True for `http://` or `https://` followed by the authority, where the scheme's own port may be left out.
fn is_same_origin(origin: &str, authority: &Authority<'_>) -> bool {
    PAGE_SCHEMES.iter().any(|(scheme, default_port)| {
        strip_prefix(origin, scheme)
            .and_then(Authority::parse)
            .is_some_and(|own| own.is_same(authority, *default_port))
    })
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// An origin from which browsers may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// All of them: `*`.
    Any,
    /// One origin as browsers send it (RFC 6454, 6.2): scheme, host, and a port that is not the scheme's default; or
    /// `null`, the origin of pages that are opened from files.
    Origin(String),
    /// The origins of all hosts below a domain, at any depth, but not of the domain itself: `https://*.example.com`.
    Subdomains {
        /// The scheme, up to the host: `https://`.
        scheme: String,
        /// The rest of the host after its first labels, with the dot: `.example.com:8443`.
        end: String,
    },
}

impl AllowedOrigin {
    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Origin(allowed) => allowed.eq_ignore_ascii_case(origin),
            Self::Subdomains { scheme, end } => strip_prefix(origin, scheme).is_some_and(|host| {
                let labels = host.len().checked_sub(end.len()).and_then(|at| host.split_at_checked(at));
                labels.is_some_and(|(labels, rest)| {
                    rest.eq_ignore_ascii_case(end)
                        && !labels.is_empty()
                        && labels.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
                })
            }),
        }
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Origin(origin) => f.write_str(origin),
            Self::Subdomains { scheme, end } => write!(f, "{scheme}*{end}"),
        }
    }
}

impl FromStr for AllowedOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "*" => return Ok(Self::Any),
            text if text.eq_ignore_ascii_case("null") => return Ok(Self::Origin("null".into())),
            text if text.contains(['"', '\'']) => {
                return Err(format!(
                    "allowed is the origin without the quotes: {}",
                    text.replace(['"', '\''], "")
                ));
            }
            text if text.contains(|c: char| c == ';' || c.is_whitespace()) => {
                return Err("allowed are several origins with commas between them".into());
            }
            _ => {}
        }
        let (scheme, rest) = text.split_once("://").ok_or(ALLOWED)?;
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "ws" | "wss" => {
                return Err(format!(
                    "an origin is that of the page, not of its WebSocket; allowed is http{}://{rest}",
                    &scheme[2..]
                ));
            }
            "file" => {
                return Err("pages opened from files all have the origin null; allowed is null, for every \
                            such page"
                    .into());
            }
            "about" | "blob" | "data" | "ftp" | "javascript" => {
                return Err(format!("browsers never name an origin of {scheme}; {ALLOWED}"));
            }
            _ if !is_scheme(&scheme) => return Err(ALLOWED.into()),
            _ => {}
        }
        if let Some((_, behind)) = rest.split_once('@') {
            return Err(format!("allowed is the origin without user information: {scheme}://{behind}"));
        }
        if let Some(end) = rest.find(['/', '?', '#', '\\']).filter(|end| *end > 0) {
            return Err(format!("an origin has no path; allowed is {scheme}://{}", &rest[..end]));
        }
        let (is_below, authority) = match rest.strip_prefix("*.") {
            Some(domain) => (true, domain),
            None => (false, rest),
        };
        if authority.contains('*') {
            return Err("allowed is one * ahead of a dot, such as https://*.example.com; or * alone, for \
                        every origin"
                .into());
        }
        let default_port = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let (host, port) = split_port(authority)?;
        let host = match default_port {
            Some(_) => host_as_sent(host)?,
            // Browsers do not normalise the hosts of other schemes.
            None if is_opaque_host(host) => Host::Domain(host.to_ascii_lowercase()),
            None => return Err(ALLOWED.into()),
        };
        if is_below && !matches!(host, Host::Domain(_)) {
            return Err("an address has no subdomains; allowed is a * ahead of a name".into());
        }
        // Browsers omit the scheme's default port, so an origin with it would never match.
        let port = match port {
            Some(port) if Some(port) != default_port => format!(":{port}"),
            _ => String::new(),
        };
        let scheme = format!("{scheme}://");
        Ok(match is_below {
            true => Self::Subdomains { scheme, end: format!(".{host}{port}") },
            false => Self::Origin(format!("{scheme}{host}{port}")),
        })
    }
}

/// A host name that is allowed for a server on loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost(String);

impl AllowedHost {
    fn matches(&self, host: &str) -> bool {
        self.0.eq_ignore_ascii_case(host.strip_suffix('.').unwrap_or(host))
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AllowedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ALLOWED: &str = "allowed is the name of a host, without scheme and port, such as chat.example";
        if text.is_empty() || text.contains('*') {
            return Err(ALLOWED.into());
        }
        let host = match text.parse::<Ipv6Addr>() {
            Ok(address) => Host::Ipv6(address),
            Err(_) => Host::parse(text.strip_suffix('.').unwrap_or(text)).map_err(|_| ALLOWED)?,
        };
        Ok(Self(host.to_string()))
    }
}

/// True for the scheme of a URI (RFC 3986, section 3.1) in lower case.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte))
}

fn is_opaque_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

/// A host as browsers send it: names in ASCII (UTS 46), addresses in their shortest form.
fn host_as_sent(host: &str) -> Result<Host, String> {
    match host {
        "" => Err(ALLOWED.into()),
        host => Host::parse(host).map_err(|error| format!("its host cannot be read ({error}); {ALLOWED}")),
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let colon = authority.rfind(':').filter(|&colon| !authority[colon..].contains(']'));
    let Some(colon) = colon else { return Ok((authority, None)) };
    let port = authority[colon + 1..].parse().ok().filter(|port| *port != 0);
    let port = port.ok_or("its port cannot be read; allowed is a port from 1 to 65535, or none")?;
    Ok((&authority[..colon], Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> AllowedOrigin {
        text.parse().expect(text)
    }

    #[test]
    fn origins_are_kept_as_browsers_send_them() {
        for (text, kept) in [
            ("*", "*"),
            ("NULL", "null"),
            ("HTTPS://Example.com:443", "https://example.com"),
            ("http://example.com:80", "http://example.com"),
            ("http://example.com:443", "http://example.com:443"),
            ("http://example.com:8080", "http://example.com:8080"),
            ("https://example.com.", "https://example.com."),
            ("http://[0:0::1]:80", "http://[::1]"),
            ("https://m\u{fc}nchen.de", "https://xn--mnchen-3ya.de"),
            ("https://*.M\u{dc}NCHEN.de:8443", "https://*.xn--mnchen-3ya.de:8443"),
            ("chrome-extension://abc", "chrome-extension://abc"),
            ("capacitor://localhost", "capacitor://localhost"),
        ] {
            assert_eq!(origin(text).to_string(), kept, "{text}");
        }
    }

    #[test]
    fn what_can_never_match_is_refused_with_what_to_write() {
        for (text, advice) in [
            ("", "an origin without a path"),
            ("example.com", "such as https://example.com"),
            ("*.example.com", "https://*.example.com"),
            ("http//a.com", "such as https://example.com"),
            ("https:/a.com", "such as https://example.com"),
            ("https://", "an origin without a path"),
            ("https:///a", "an origin without a path"),
            ("https://a.com/", "no path; allowed is https://a.com"),
            ("https://a.com/b?c", "no path; allowed is https://a.com"),
            ("\"https://a.com\"", "without the quotes: https://a.com"),
            ("'*'", "without the quotes: *"),
            ("https://a.com;https://b.com", "with commas between them"),
            ("https://a.com https://b.com", "with commas between them"),
            ("https://user:secret@a.com", "without user information: https://a.com"),
            ("https://a.com:99999", "a port from 1 to 65535"),
            ("https://a.com:0", "a port from 1 to 65535"),
            ("https://a.com:", "a port from 1 to 65535"),
            ("ws://a.com", "allowed is http://a.com"),
            ("WSS://a.com:1", "allowed is https://a.com:1"),
            ("file://", "allowed is null"),
            ("file:///home/page.html", "allowed is null"),
            ("ftp://a.com", "never name an origin of ftp"),
            ("https://*", "one * ahead of a dot"),
            ("https://a.*.com", "one * ahead of a dot"),
            ("https://*a.com", "one * ahead of a dot"),
            ("https://*.127.0.0.1", "ahead of a name"),
            ("https://a%zz.com", "cannot be read"),
            ("https://[::1", "cannot be read"),
            ("1a://b", "an origin without a path"),
            ("app://m\u{fc}nchen", "an origin without a path"),
        ] {
            let error = text.parse::<AllowedOrigin>().expect_err(text);
            assert!(error.contains(advice), "{text}: {error}");
        }
    }

    #[test]
    fn a_star_ahead_of_a_domain_stands_for_all_names_below_it() {
        let below = origin("https://*.example.com");
        for allowed in ["https://app.example.com", "https://a.b.example.com", "HTTPS://APP.EXAMPLE.COM"] {
            assert!(below.matches(allowed), "{allowed}");
        }
        for refused in [
            "https://example.com",
            "https://.example.com",
            "https://notexample.com",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.test",
            "https://evil.test/.example.com",
            "https://evil.test:1@app.example.com",
            "https://\u{fc}.example.com",
            "null",
            "",
        ] {
            assert!(!below.matches(refused), "{refused}");
        }
        assert!(origin("http://*.example.com:8080").matches("http://app.example.com:8080"));
    }

    fn check(policy: &OriginPolicy, origin: &str, host: &str) -> Result<(), OriginRefusal> {
        policy.check(origin.as_bytes(), Authority::parse(host), false)
    }

    #[test]
    fn the_servers_own_pages_are_those_of_its_authority() {
        let policy = OriginPolicy::default();
        for (origin, host) in [
            ("http://here", "here"),
            ("https://HERE", "here"),
            ("https://here", "here:443"),
            ("http://here", "here:80"),
            ("http://here:80", "here"),
            ("https://here:8443", "here:8443"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert_eq!(check(&policy, origin, host), Ok(()), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://here", "here:443"),
            ("https://here", "here:80"),
            ("https://here", "there"),
            ("ws://here", "here"),
            ("http://user@here", "here"),
            ("http://here/", "here"),
            ("http://", ""),
            ("null", "null"),
            ("", ""),
        ] {
            assert_eq!(check(&policy, origin, host), Err(OriginRefusal::OtherOrigin), "{origin} {host}");
        }
    }

    #[test]
    fn on_loopback_a_strange_name_has_no_pages() {
        let hosts = ["m\u{fc}nchen.test", "192.0.2.1", "2001:db8::1"].map(|host| host.parse().expect(host));
        let policy = OriginPolicy { is_on_loopback: true, hosts: hosts.to_vec(), ..OriginPolicy::default() };
        for host in [
            "localhost:8080",
            "127.0.0.1",
            "[::1]:8080",
            "xn--mnchen-3ya.test:8080",
            "XN--MNCHEN-3YA.test.",
            "192.0.2.1",
            "[2001:db8::1]",
        ] {
            assert_eq!(check(&policy, &format!("http://{host}"), host), Ok(()), "{host}");
        }
        let rebound = check(&policy, "http://evil.test", "evil.test");
        assert_eq!(rebound, Err(OriginRefusal::UnknownHost));
        let through_proxy = policy.check(b"https://chat.test", Authority::parse("chat.test"), true);
        assert_eq!(through_proxy, Ok(()));
        let other = policy.check(b"https://evil.test", Authority::parse("chat.test"), true);
        assert_eq!(other, Err(OriginRefusal::OtherOrigin));
        assert_eq!(check(&policy, "http://evil.test", "localhost"), Err(OriginRefusal::OtherOrigin));
        let listed = OriginPolicy { allowed: vec![origin("http://evil.test")], ..policy };
        assert_eq!(check(&listed, "http://evil.test", "evil.test"), Ok(()));
    }

    #[test]
    fn a_host_is_allowed_by_its_name_alone() {
        for text in ["", "*", "*.a", "a:80", "http://a", "a/b", "a b", "[::1", "a,b@c"] {
            let error = text.parse::<AllowedHost>().expect_err(text);
            assert!(error.contains("without scheme and port"), "{error}");
        }
    }
}
