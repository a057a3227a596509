//! Tokens, as `uproar token` makes them.

use std::path::PathBuf;

use tempfile::TempDir;

use super::server::data_directory;
use super::{Server, Socket, Wire, run, upgrade_request};

/// A file with a key. Removed when dropped.
pub(crate) struct TokenKey {
    directory: TempDir,
}

impl TokenKey {
    /// A secret, in a file of its own.
    pub(crate) fn new() -> Self {
        let key = Self { directory: data_directory() };
        key.write("a secret that has thirty-two bytes, and some more\n");
        key
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("token.key")
    }

    /// Replaces what the file holds.
    pub(crate) fn write(&self, bytes: &str) {
        std::fs::write(self.path(), bytes).unwrap();
    }

    /// A token of this account, with these flags.
    pub(crate) async fn token(&self, sub: &str, flags: &[&str]) -> String {
        let path = self.path();
        let arguments = ["token", "--sub", sub, "--token-key", path.to_str().unwrap()];
        let finished = run(&[&arguments, flags].concat(), &[]).await;
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished.stdout.trim_end().to_owned()
    }
}

impl Socket {
    /// Connects with a token in the query.
    pub(crate) async fn with_token(server: &Server, path: &str, token: &str) -> Self {
        Self::connect(server, &format!("{path}?token={token}")).await
    }
}

/// The head of the answer to an upgrade with these fields, and its body unless it is upgraded.
pub(crate) async fn upgrade_with(server: &Server, path: &str, fields: &str) -> super::Response {
    let mut wire = Wire::connect(server).await;
    wire.send(upgrade_request(path).replacen("\r\n", &format!("\r\n{fields}"), 1)).await;
    wire.response().await
}
