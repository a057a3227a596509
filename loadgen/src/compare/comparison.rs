//! The result of a comparison, and its exit code.

use std::process::ExitCode;

use crate::compare::sides::Side;
use crate::compare::verdict::{Criteria, Finding, Verdict};

/// The exit code of a regression.
pub const EXIT_REGRESSED: u8 = 4;

/// The result of a comparison.
#[derive(Debug)]
pub struct Comparison {
    /// The first side.
    pub a: Side,
    /// The second side.
    pub b: Side,
    /// The criteria of the verdicts.
    pub criteria: Criteria,
    /// One for each metric.
    pub findings: Vec<Finding>,
    /// Warnings.
    pub remarks: Vec<String>,
}

impl Comparison {
    /// True when the primary metric is called worse. It alone decides: the others have an α of their own, so
    /// that counting them in would call a difference where there is none more often than α.
    #[must_use]
    pub fn regressed(&self) -> bool {
        let primary = self.findings.iter().filter(|finding| finding.is_primary);
        let mut tests = primary.filter_map(|finding| finding.test);
        tests.any(|test| test.verdict == Verdict::Regressed)
    }

    /// 4 for a regression, otherwise 0.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.regressed() { EXIT_REGRESSED } else { 0 })
    }
}
