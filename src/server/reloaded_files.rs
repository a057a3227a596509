//! The files that are read again on SIGHUP.

use tracing::info;

use crate::api::ApiKeyFile;
use crate::certificate::Certificate;
use crate::metrics::Metrics;
use crate::tokens::TokenKeys;

/// The files that are read again on SIGHUP.
pub(super) struct ReloadedFiles {
    pub(super) certificate: Option<Certificate>,
    pub(super) token_keys: Option<TokenKeys>,
    pub(super) api_keys: Option<ApiKeyFile>,
}

impl ReloadedFiles {
    /// Tells the metrics when the certificate in use expires.
    pub(super) fn note_certificate(&self, metrics: &Metrics) {
        metrics.set_certificate_expiry(self.certificate.as_ref().and_then(Certificate::end_unix));
    }

    pub(super) fn reload(&self) {
        if let Some(certificate) = &self.certificate {
            certificate.reload();
        }
        if let Some(token_keys) = &self.token_keys {
            token_keys.reload();
        }
        if let Some(api_keys) = &self.api_keys {
            api_keys.reload();
        }
        if self.certificate.is_none() && self.token_keys.is_none() && self.api_keys.is_none() {
            info!(
                "nothing was read again: there are no files of certificates, token keys or API keys, see --tls-cert, --token-key and --api-key-file"
            );
        }
    }
}
