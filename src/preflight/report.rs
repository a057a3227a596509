//! The findings of all checks: in columns for people, in one line for the log.

use std::fmt;

use super::capacity::Capacity;

/// The check of the certificate, of which the server warns by itself whenever it reads it.
pub(super) const CERTIFICATE_CHECK: &str = "tls";

/// The check of the keys of tokens, of which the server warns in the same way.
pub(super) const TOKEN_KEYS_CHECK: &str = "token keys";

/// The checks of Redis, of which the server warns one by one.
pub(super) const REDIS_CHECK: &str = "redis";

/// The findings of all checks.
#[derive(Clone, Debug)]
pub struct PreflightReport {
    pub(super) findings: Vec<Finding>,
    pub(super) capacity: Option<Capacity>,
}

impl PreflightReport {
    /// The findings, in the order of the checks.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many connections the process can hold; `None` when a finding is fatal.
    #[must_use]
    pub fn capacity(&self) -> Option<Capacity> {
        let is_fatal = self.findings.iter().any(|finding| finding.outcome == CheckOutcome::Fatal);
        self.capacity.filter(|_| !is_fatal)
    }

    /// What is unwise about Redis, or why it cannot be asked: a line each for the log.
    pub fn redis_warnings(&self) -> impl Iterator<Item = &str> {
        let of_redis = self.findings.iter().filter(|finding| finding.check == REDIS_CHECK);
        of_redis.filter(|finding| finding.outcome == CheckOutcome::Lacking).map(|finding| &*finding.detail)
    }

    /// All findings but the good ones, in one line for the log; `None` when all are good.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        let remarks: Vec<String> = self
            .findings
            .iter()
            // The server logs warnings about its certificate and its keys whenever it reads them, and those about Redis
            // in lines of their own.
            .filter(|finding| finding.outcome != CheckOutcome::Ok)
            .filter(|finding| ![CERTIFICATE_CHECK, TOKEN_KEYS_CHECK, REDIS_CHECK].contains(&finding.check))
            .map(|finding| format!("{} ({}): {}", finding.check, finding.outcome, finding.detail))
            .collect();
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }
}

impl fmt::Display for PreflightReport {
    /// One line for each finding, in columns.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{:<8} {:<12} {}", finding.outcome.as_str(), finding.check, finding.detail)?;
        }
        Ok(())
    }
}

/// The finding of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    /// Its outcome.
    pub outcome: CheckOutcome,
    /// What was found; and if it is not good, what to change.
    pub detail: String,
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// All is well.
    Ok,
    /// The process has raised a limit by itself.
    Raised,
    /// The server runs, with a limitation.
    Lacking,
    /// The server cannot run.
    Fatal,
}

impl CheckOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Raised => "raised",
            Self::Lacking => "lacking",
            Self::Fatal => "fatal",
        }
    }
}

impl fmt::Display for CheckOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A finding of this check.
pub(super) fn finding(check: &'static str, outcome: CheckOutcome, detail: impl Into<String>) -> Finding {
    Finding { check, outcome, detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_aligned_and_its_summary_leaves_out_what_is_well() {
        let mut report = PreflightReport {
            findings: vec![
                finding("io_uring", CheckOutcome::Ok, "fine"),
                finding("descriptors", CheckOutcome::Raised, "from 1 to 2"),
            ],
            capacity: Some(Capacity { max_clients: 1, pending_max: 1 }),
        };
        assert_eq!(report.to_string(), "ok       io_uring     fine\nraised   descriptors  from 1 to 2\n");
        assert_eq!(report.summary().unwrap(), "descriptors (raised): from 1 to 2");
        assert!(report.capacity().is_some());
        report.findings.push(finding(REDIS_CHECK, CheckOutcome::Lacking, "persistence none"));
        assert_eq!(report.redis_warnings().collect::<Vec<_>>(), ["persistence none"]);
        assert_eq!(report.summary().unwrap(), "descriptors (raised): from 1 to 2");
        report.findings.push(finding("cores", CheckOutcome::Fatal, "none"));
        assert!(report.capacity().is_none());
    }
}
