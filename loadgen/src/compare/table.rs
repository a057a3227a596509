//! A comparison for people (in the manner of benchstat), and for programs.

use std::fmt::Write;

use clap::ValueEnum;
use serde::Serialize;

use crate::compare::comparison::{Comparison, EXIT_REGRESSED};
use crate::compare::mann_whitney::p_min;
use crate::compare::samples::Worse;
use crate::compare::verdict::{Distribution, Finding, RUNS_MIN, Verdict};
use crate::error::Error;
use crate::results;

/// The version of the form of the JSON. It grows when a field changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;
/// The columns that are aligned to the left.
const LEFT_COLUMNS: [usize; 3] = [0, 1, 7];

/// How a comparison is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// A table for people.
    Text,
    /// Everything, for programs.
    Json,
    /// One line for each metric.
    Csv,
}

/// Prints a comparison to the standard output.
///
/// # Errors
///
/// [`Error::Write`].
pub fn print(comparison: &Comparison, format: TableFormat) -> Result<(), Error> {
    let failed = |source: serde_json::Error| Error::Write {
        path: "standard output".to_owned(),
        source: source.into(),
    };
    match format {
        TableFormat::Text => results::print(&text(comparison))?,
        TableFormat::Json => results::print(&json(comparison).map_err(failed)?)?,
        TableFormat::Csv => results::print(&csv(comparison))?,
    }
    if format != TableFormat::Text {
        // Standard output is for the data alone.
        comparison.remarks.iter().for_each(|remark| eprintln!("warning: {remark}"));
    }
    Ok(())
}

/// A table, and what must be said with it.
#[must_use]
pub fn text(comparison: &Comparison) -> String {
    let mut lines = Vec::new();
    for (name, side) in [("A", &comparison.a), ("B", &comparison.b)] {
        let label = if side.label == name { String::new() } else { format!(" ({})", side.label) };
        let revision = side.revision().map_or(String::new(), |revision| format!(" of {revision}"));
        lines.push(format!("{name}{label}: {} runs{revision}", side.runs.len()));
    }
    lines.push(String::new());
    lines.extend(aligned(&rows(comparison)));
    lines.push(String::new());
    lines.extend(footnotes(comparison));
    lines.join("\n") + "\n"
}

fn rows(comparison: &Comparison) -> Vec<[String; 8]> {
    let confidence = (1.0 - comparison.criteria.alpha) * 100.0;
    let head = ["metric", "unit", "A", "B", "change", &format!("{confidence} % interval"), "p", "verdict"];
    let mut rows = vec![head.map(str::to_owned)];
    for finding in &comparison.findings {
        let (mut interval, mut p, mut verdict) = (String::new(), String::new(), String::new());
        if let Some(test) = finding.test {
            let [low, high] = test.interval_percent.map(signed_percent);
            interval = format!("{low} to {high}");
            p = format!("{:.4}", test.p_adjusted);
            verdict = test.verdict.name().to_owned();
        }
        rows.push([
            format!("{}{}", finding.metric.name, if finding.is_primary { " (primary)" } else { "" }),
            finding.metric.unit.to_owned(),
            distribution(&finding.a),
            distribution(&finding.b),
            signed_percent(finding.change_percent),
            interval,
            p,
            verdict,
        ]);
    }
    rows
}

fn aligned(rows: &[[String; 8]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    let line = |row: &[String; 8]| {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let written = match LEFT_COLUMNS.contains(&column) {
                true => write!(line, "{cell:<width$}  "),
                false => write!(line, "{cell:>width$}  "),
            };
            written.expect("Bug: writing to a String cannot fail");
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// The median, marked like the quantiles of a run, and how far the farthest run is from it.
fn distribution(side: &Distribution) -> String {
    let bound = if side.at_least { "≥" } else { "" };
    let mark = if side.thin { "*" } else { "" };
    // Four digits tell as much as the noise of runs allows.
    let digits = match side.median.abs() {
        1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        _ => 3,
    };
    let spread = match side.spread_percent.is_finite() {
        true => format!("{:.0} %", side.spread_percent),
        false => "∞".to_owned(),
    };
    format!("{bound}{:.digits$}{mark} ± {spread}", side.median)
}

fn signed_percent(percent: f64) -> String {
    if percent.is_infinite() {
        return if percent > 0.0 { "+∞" } else { "-∞" }.to_owned();
    }
    format!("{percent:+.1} %")
}

fn footnotes(comparison: &Comparison) -> Vec<String> {
    let (findings, criteria) = (&comparison.findings, &comparison.criteria);
    let (a, b) = (comparison.a.runs.len(), comparison.b.runs.len());
    let mut notes = vec!["median of the runs ± the run farthest from it; change of B against A".to_owned()];
    if a.min(b) < RUNS_MIN {
        notes.push(format!(
            "no verdict: {a} and {b} runs are fewer than {RUNS_MIN} a side; these are effect sizes only"
        ));
    } else {
        notes.push(format!(
            "p: exact Mann-Whitney U over runs, Holm's for all but the primary metric; interval: bootstrap over \
             runs, {} resamples, seed {}",
            criteria.resamples, criteria.seed
        ));
        notes.push(format!(
            "a verdict needs p < {}, an interval without zero, and a change over {} %",
            criteria.alpha, criteria.noise_percent
        ));
        let secondary = findings.iter().filter(|finding| !finding.is_primary).count();
        if p_min(a, b) * secondary as f64 >= criteria.alpha {
            notes.push(format!(
                "so few runs cannot prove a difference in any of the {secondary} other metrics unless several \
                 differ at once: make {} a side",
                runs_needed(criteria.alpha, secondary)
            ));
        }
    }
    let is_regressed =
        |finding: &&Finding| finding.test.is_some_and(|test| test.verdict == Verdict::Regressed);
    if findings.iter().filter(is_regressed).any(|finding| !finding.is_primary) {
        notes.push(format!(
            "exit code {EXIT_REGRESSED} stands for {} alone; --primary names another",
            criteria.primary
        ));
    }
    let marked =
        |mark: fn(&Distribution) -> bool| findings.iter().any(|finding| mark(&finding.a) || mark(&finding.b));
    if marked(|side| side.thin) {
        notes.push("* thin: in some run fewer than 10 broadcasts reach beyond it, or it stands for so little CPU time \
             that it may be off by over 2 %"
                .to_owned(),
);
    }
    if marked(|side| side.at_least) {
        notes.push(
            "≥ what would lie beyond never arrived in some run; it counts as the time waited".to_owned(),
        );
    }
    notes.extend(comparison.remarks.iter().map(|remark| format!("warning: {remark}")));
    notes
}

/// With how many runs a side one metric alone among so many can be significant.
fn runs_needed(alpha: f64, tests: usize) -> usize {
    (RUNS_MIN..=1000).find(|&runs| p_min(runs, runs) * (tests as f64) < alpha).unwrap_or(1000)
}

/// Everything that was found, as JSON. What is infinite is null.
///
/// # Errors
///
/// None that is known: every field has a form in JSON.
pub fn json(comparison: &Comparison) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Document<'a> {
        schema_version: u32,
        regressed: bool,
        alpha: f64,
        noise_threshold_percent: f64,
        primary: &'a str,
        resamples: usize,
        seed: u64,
        a: Side<'a>,
        b: Side<'a>,
        metrics: Vec<Row<'a>>,
        warnings: &'a [String],
    }
    #[derive(Serialize)]
    struct Side<'a> {
        label: &'a str,
        revision: Option<&'a str>,
        runs: Vec<String>,
    }
    #[derive(Serialize)]
    struct Row<'a> {
        name: &'a str,
        unit: &'a str,
        worse: Worse,
        primary: bool,
        a: Values<'a>,
        b: Values<'a>,
        change_percent: f64,
        interval_percent: Option<[f64; 2]>,
        p: Option<f64>,
        p_adjusted: Option<f64>,
        verdict: Option<Verdict>,
    }
    #[derive(Serialize)]
    struct Values<'a> {
        median: f64,
        spread_percent: f64,
        values: &'a [f64],
        at_least: bool,
        thin: bool,
    }
    let side = |side: &'_ crate::compare::sides::Side| {
        side.runs.iter().map(|run| run.directory.display().to_string()).collect()
    };
    fn values(side: &Distribution) -> Values<'_> {
        Values {
            median: side.median,
            spread_percent: side.spread_percent,
            values: &side.values,
            at_least: side.at_least,
            thin: side.thin,
        }
    }
    let document = Document {
        schema_version: SCHEMA_VERSION,
        regressed: comparison.regressed(),
        alpha: comparison.criteria.alpha,
        noise_threshold_percent: comparison.criteria.noise_percent,
        primary: comparison.criteria.primary,
        resamples: comparison.criteria.resamples,
        seed: comparison.criteria.seed,
        a: Side { label: &comparison.a.label, revision: comparison.a.revision(), runs: side(&comparison.a) },
        b: Side { label: &comparison.b.label, revision: comparison.b.revision(), runs: side(&comparison.b) },
        metrics: comparison
            .findings
            .iter()
            .map(|finding| Row {
                name: finding.metric.name,
                unit: finding.metric.unit,
                worse: finding.metric.worse,
                primary: finding.is_primary,
                a: values(&finding.a),
                b: values(&finding.b),
                change_percent: finding.change_percent,
                interval_percent: finding.test.map(|test| test.interval_percent),
                p: finding.test.map(|test| test.p),
                p_adjusted: finding.test.map(|test| test.p_adjusted),
                verdict: finding.test.map(|test| test.verdict),
            })
            .collect(),
        warnings: &comparison.remarks,
    };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// One line for each metric, with a head. No field holds a comma.
#[must_use]
pub fn csv(comparison: &Comparison) -> String {
    let head = "metric,unit,primary,a_runs,a_median,a_spread_percent,a_at_least,a_thin,b_runs,b_median,\
                b_spread_percent,b_at_least,b_thin,change_percent,interval_low_percent,interval_high_percent,p,p_adjusted,verdict";
    let mut lines = vec![head.to_owned()];
    lines.extend(comparison.findings.iter().map(csv_line));
    lines.join("\n") + "\n"
}

fn csv_line(finding: &Finding) -> String {
    let Finding { metric, is_primary, a, b, change_percent, test } = finding;
    let mut fields = vec![metric.name.to_owned(), metric.unit.to_owned(), is_primary.to_string()];
    for side in [a, b] {
        fields.extend([
            side.values.len().to_string(),
            side.median.to_string(),
            side.spread_percent.to_string(),
            side.at_least.to_string(),
            side.thin.to_string(),
        ]);
    }
    fields.push(change_percent.to_string());
    fields.extend(match test {
        None => Default::default(),
        Some(test) => [
            test.interval_percent[0].to_string(),
            test.interval_percent[1].to_string(),
            test.p.to_string(),
            test.p_adjusted.to_string(),
            test.verdict.name().to_owned(),
        ],
    });
    fields.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::samples::METRICS;

    #[test]
    fn as_many_runs_are_asked_for_as_the_correction_takes() {
        // 2 of 252 times 12 is 0.095, 2 of 924 times 12 is 0.026.
        assert_eq!(runs_needed(0.05, METRICS.len() - 1), 6);
        assert_eq!(runs_needed(0.05, 1), 5);
    }

    #[test]
    fn figures_carry_their_marks() {
        let side = |median, thin, at_least| Distribution {
            median,
            spread_percent: 3.4,
            values: vec![median],
            at_least,
            thin,
        };
        assert_eq!(distribution(&side(1.23456, true, false)), "1.235* ± 3 %");
        assert_eq!(distribution(&side(1000.0, false, true)), "≥1000 ± 3 %");
        assert_eq!(signed_percent(f64::INFINITY), "+∞");
        assert_eq!(signed_percent(-0.04), "-0.0 %");
    }
}
