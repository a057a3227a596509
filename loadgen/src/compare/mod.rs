//! `loadgen compare`: whether one build of a server is slower than another, judged by runs that were
//! stored, each on a fresh server.
//!
//! ```text
//! sides (saved) → samples → verdict (mann_whitney, bootstrap, holm) → table
//! ```
//!
//! Nothing here measures; `ab` makes the runs.

pub mod bootstrap;
pub mod comparison;
pub mod holm;
pub mod mann_whitney;
pub mod samples;
pub mod sides;
pub mod table;
pub mod verdict;

use std::process::ExitCode;

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::compare::comparison::Comparison;
use crate::compare::samples::{METRICS, Samples};
use crate::compare::sides::Place;
use crate::compare::table::TableFormat;
use crate::compare::verdict::Criteria;
use crate::error::Error;
use crate::timings::quantiles::THIN_BELOW;

/// The most runs of a side. Counting the ways to deal out ranks takes the fourth power of it: 2 × 100 runs
/// take 100 × 40,000 sums for each of 200 ranks, a few seconds in all.
const RUNS_MAX: usize = 100;
/// The options of a comparison.
#[derive(Clone, Debug, Args)]
pub struct CompareOptions {
    /// The runs of each side: DIR… vs DIR…, where a directory holds a run, or several in its subdirectories. NAME=DIR
    /// (or NAME= before them) names a side; baseline:NAME stands for what --save-baseline saved.
    #[arg(required = true, value_name = "[A=]DIR… vs [B=]DIR")]
    pub sides: Vec<String>,
    /// Compare even INVALID runs, and runs whose settings differ.
    #[arg(long)]
    pub force: bool,
    /// How to judge.
    #[command(flatten)]
    pub judging: Judging,
}

/// How runs are judged.
#[derive(Clone, Debug, Args)]
pub struct Judging {
    /// The metric that decides, and alone makes exit code 4; all others are tested with Holm's correction.
    #[arg(
        long,
        value_name = "METRIC",
        default_value = "latency.p99",
        value_parser = PossibleValuesParser::new(METRICS.map(|metric| metric.name))
    )]
    pub primary: String,
    /// The allowed rate of false positives.
    #[arg(long, default_value_t = 0.05, value_parser = probability)]
    pub alpha: f64,
    /// Changes up to so many percent do not matter.
    #[arg(long, value_name = "PCT", default_value = "5", value_parser = threshold)]
    pub noise_threshold: f64,
    /// Seed of the bootstrap (and of the order in which ab runs). Default: 0 (in ab another one each time).
    #[arg(long)]
    pub seed: Option<u64>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = TableFormat::Text)]
    pub format: TableFormat,
}

/// Compares and prints.
///
/// # Errors
///
/// [`Error::Usage`] when runs are missing, damaged, or not to be compared; each reason is a line.
pub fn run(options: &CompareOptions) -> Result<ExitCode, Error> {
    let places = sides::parse(&options.sides).map_err(Error::Usage)?;
    let comparison = compare(places, options.force, &options.judging, 0)?;
    table::print(&comparison, options.judging.format)?;
    Ok(comparison.exit_code())
}

/// Compares the runs of two places.
///
/// # Errors
///
/// [`Error::Usage`], as [`run`].
pub fn compare(
    places: [Place; 2],
    force: bool,
    judging: &Judging,
    default_seed: u64,
) -> Result<Comparison, Error> {
    let sides = match places.map(sides::read) {
        [Ok(a), Ok(b)] => [a, b],
        read => {
            return Err(refusal(&read.into_iter().filter_map(Result::err).flatten().collect::<Vec<_>>(), ""));
        }
    };
    for side in &sides {
        let (label, count) = (&side.label, side.runs.len());
        if count > RUNS_MAX {
            return Err(Error::Usage(format!(
                "side {label} has {count} runs; {RUNS_MAX} are compared at most"
            )));
        }
    }
    let mut remarks = sides::objections(&sides);
    if !(remarks.is_empty() || force) {
        return Err(refusal(&remarks, "--force compares them nevertheless"));
    }
    remarks.extend(sides::remarks(&sides));
    let [a, b] = sides;
    let (samples, partial) = Samples::of(&a.runs, &b.runs);
    remarks.extend(partial.iter().map(|name| format!("only some runs measured {name}; it is left out")));
    let Some(primary) = samples.iter().find(|samples| samples.metric.name == judging.primary) else {
        return Err(Error::Usage(format!("--primary {}: not all runs have measured it", judging.primary)));
    };
    let criteria = Criteria {
        primary: primary.metric.name,
        alpha: judging.alpha,
        noise_percent: judging.noise_threshold,
        resamples: bootstrap::RESAMPLES,
        seed: judging.seed.unwrap_or(default_seed),
    };
    if primary.a.iter().chain(&primary.b).any(|datum| datum.thin) {
        let run = &a.runs[0].result;
        let shortage = run
            .seconds("rate")
            .and_then(|rate| samples::shortage(primary.metric.name, rate, run.measured_seconds));
        let thin = || {
            format!("in some run fewer than {THIN_BELOW} broadcasts reach beyond its {}", primary.metric.name)
        };
        let shortage = shortage.unwrap_or_else(thin);
        remarks.push(format!("a verdict on {} stands on thin tails: {shortage}", primary.metric.name));
    }
    let findings = verdict::judge(&samples, &criteria);
    Ok(Comparison { a, b, criteria, findings, remarks })
}

fn refusal(reasons: &[String], way_out: &str) -> Error {
    let mut text = "these runs are not compared:".to_owned();
    for line in reasons.iter().map(String::as_str).chain([way_out]).filter(|line| !line.is_empty()) {
        text.push_str("\n  ");
        text.push_str(line);
    }
    Error::Usage(text)
}

fn probability(text: &str) -> Result<f64, String> {
    let alpha: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let allowed = 1e-6..=0.5;
    if allowed.contains(&alpha) { Ok(alpha) } else { Err("allowed are 0.000001 to 0.5".to_owned()) }
}

fn threshold(text: &str) -> Result<f64, String> {
    let percent: f64 = text.trim_end_matches('%').trim().parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1000.0).contains(&percent) { Ok(percent) } else { Err("allowed are 0 to 1000".to_owned()) }
}
