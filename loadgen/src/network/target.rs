//! Where the server is: the URL of the command line, and the address behind it.

use std::net::{SocketAddr, ToSocketAddrs};

use uproar_protocol::url::Url;

use crate::error::Error;

/// A parsed `ws://host[:port][/path]`, or `wss://` for the same over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The URL as it was written.
    pub url: String,
    /// True for `wss://`.
    pub is_secure: bool,
    /// What goes into the `Host` header: host and port as they were written.
    pub authority: String,
    /// The host, which a certificate is to name.
    pub host: String,
    port: u16,
    /// The path and query, when the URL names one beyond `/`.
    pub path: Option<String>,
}

impl Target {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for another scheme, with what to write instead, user information, a fragment, or no host.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let Url { is_secure, authority, host, port, target } = Url::parse(url).map_err(|why| {
            let written = meant(url).map_or(String::new(), |meant| format!("; write {meant}"));
            Error::Usage(format!("--url {url}: {why}{written}"))
        })?;
        let path = (target != "/").then_some(target);
        Ok(Self { url: url.to_owned(), is_secure, authority, host, port, path })
    }

    /// Parses the URLs of a run.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] as for one, and when only some of them are for TLS.
    pub fn parse_all(urls: &[String]) -> Result<Vec<Self>, Error> {
        let targets = urls.iter().map(|url| Self::parse(url)).collect::<Result<Vec<_>, _>>()?;
        match targets.iter().find(|target| target.is_secure != targets[0].is_secure) {
            Some(other) => Err(Error::Usage(format!(
                "--url {} and --url {}: take ws:// for all servers, or wss:// for all: TLS takes time of its own",
                targets[0].url, other.url
            ))),
            None => Ok(targets),
        }
    }

    /// The URL of a path, to show.
    #[must_use]
    pub fn url_of(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.is_secure { "wss" } else { "ws" }, self.authority)
    }

    /// Resolves the host.
    ///
    /// # Errors
    ///
    /// [`Error::Preflight`] when it has no address.
    pub fn resolve(&self) -> Result<SocketAddr, Error> {
        let failed = |why: String| Error::Preflight(format!("{} has no address: {why}", self.authority));
        let mut addresses =
            (&*self.host, self.port).to_socket_addrs().map_err(|error| failed(error.to_string()))?;
        addresses.next().ok_or_else(|| failed("the resolver found none".to_owned()))
    }
}

/// What was probably meant by a URL that does not begin with `ws://` or `wss://`.
fn meant(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let meant = match &*scheme.to_ascii_lowercase() {
        "" => format!("ws://{rest}, or wss://{rest} for TLS"),
        "http" => format!("ws://{rest}"),
        "https" => format!("wss://{rest}"),
        _ => return None,
    };
    Url::parse(&format!("ws://{rest}")).is_ok().then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_only_beyond_the_root() {
        let target = Target::parse("ws://127.0.0.1:8080/broadcast/a?b=c").expect("parses");
        assert_eq!(target.path.as_deref(), Some("/broadcast/a?b=c"));
        assert_eq!(target.resolve().expect("resolves"), ([127, 0, 0, 1], 8080).into());
        assert_eq!(target.url_of("/b"), "ws://127.0.0.1:8080/b");
        assert_eq!(Target::parse("wss://[::1]:9/").expect("parses").path, None);
    }

    #[test]
    fn all_servers_speak_tls_or_none() {
        let parse = |urls: [&str; 2]| Target::parse_all(&urls.map(str::to_owned));
        assert_eq!(parse(["wss://a", "wss://b/c"]).expect("agree").len(), 2);
        assert!(parse(["ws://a", "wss://b"]).is_err());
    }

    #[test]
    fn a_refusal_names_the_flag() {
        let refusal = Target::parse("https://a").expect_err("refused").to_string();
        assert!(refusal.contains("--url https://a: only ws:// and wss:// are spoken"), "{refusal}");
    }

    #[test]
    fn a_url_without_a_scheme_or_with_that_of_a_page_is_told_what_to_write() {
        for (url, write) in [
            ("127.0.0.1:8080", "; write ws://127.0.0.1:8080, or wss://127.0.0.1:8080 for TLS"),
            ("[::1]:8080/chat", "; write ws://[::1]:8080/chat, or wss://[::1]:8080/chat for TLS"),
            ("localhost", "; write ws://localhost, or wss://localhost for TLS"),
            ("http://a:1/b", "; write ws://a:1/b"),
            ("HTTPS://a", "; write wss://a"),
        ] {
            let refusal = Target::parse(url).expect_err(url).to_string();
            assert!(refusal.ends_with(write), "{refusal}");
        }
        for hopeless in ["", "ftp://a", "a b", "http://", ":8080", "ws://"] {
            let refusal = Target::parse(hopeless).expect_err(hopeless).to_string();
            assert!(!refusal.contains("write"), "{refusal}");
        }
    }
}
