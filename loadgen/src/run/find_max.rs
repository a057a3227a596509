//! `--find-max`: the highest rate at which a condition still holds.
//!
//! Every step is a run of its own, connecting included, so that a step that was too much leaves nothing
//! behind for the next.
//!
//! A step holds when its run is valid and the condition holds. A run that is invalid only because loadgen was
//! late or busy holds, too, where the condition is an upper limit of a time from an intended send, or a lower
//! one of the reach: being late can only lengthen such a time, so it was met in spite of that. Where that did
//! not hold, it may be the server or loadgen, or a moment in which the machine had other work; such a step is
//! made again.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::error::Error;
use crate::numbers::floor_percent;
use crate::numbers::grouped;
use crate::options::threshold::{Threshold, Verdict};
use crate::options::{Format, RunOptions};
use crate::outcome::ending::Ending;
use crate::outcome::{Outcome, SCHEMA_VERSION};
use crate::plan::consistency;
use crate::results::{self, csv};
use crate::run::Session;

/// How many runs there are at most.
pub const STEPS_MAX: u32 = 16;
/// The search ends when what holds and what does not are this close.
const RATIO_MIN: f64 = 1.05;
/// How often a rate is tried when it is not known whose limit has been reached.
const TRIES_MAX: u32 = 3;
/// Gates that look at loadgen itself: where only these fail, it may not be the server that has come to its
/// limit.
const OWN_GATES: [&str; 3] = ["sent", "send_lag", "busy"];
/// Those of them that say that loadgen was late, with everything sent.
const LATE_GATES: [&str; 2] = ["send_lag", "busy"];

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The condition held.
    Holds,
    /// It did not.
    Fails,
    /// Loadgen came to its own limits, and nothing can be said.
    Unknown,
}

/// A search for the highest rate that holds: doubles or halves until it has one that does and one that
/// does not, then bisects. It supposes that what holds at a rate holds at every lower one.
///
/// Driving rule: for each rate from [`Search::next`], call [`Search::note`], until `None`.
#[derive(Clone, Debug)]
pub struct Search {
    first: f64,
    steps: u32,
    /// The rate of the last step and how often it was tried, while nothing can be said of it.
    again: Option<(f64, u32)>,
    holds: Option<f64>,
    fails: Option<f64>,
}

impl Search {
    /// Begins at a rate.
    #[must_use]
    pub fn new(first: f64) -> Self {
        Self { first: tidy(first), steps: 0, again: None, holds: None, fails: None }
    }

    /// The next rate to try, or the end.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        if self.steps == STEPS_MAX {
            return None;
        }
        if let Some((rate, _)) = self.again {
            return Some(rate);
        }
        let next = match (self.holds, self.fails) {
            (None, None) => self.first,
            (Some(holds), None) => tidy(holds * 2.0),
            (None, Some(fails)) => tidy(fails / 2.0),
            (Some(holds), Some(fails)) if fails / holds <= RATIO_MIN => return None,
            (Some(holds), Some(fails)) => tidy((holds * fails).sqrt()),
        };
        let is_new = Some(next) != self.holds && Some(next) != self.fails;
        (is_new && (0.001..=10_000_000.0).contains(&next)).then_some(next)
    }

    /// Takes what came of the last rate. What stays unknown counts as too much.
    pub fn note(&mut self, rate: f64, finding: Finding) {
        self.steps += 1;
        let tries = self.again.take().map_or(1, |(_, tries)| tries + 1);
        match finding {
            Finding::Holds => self.holds = Some(rate),
            Finding::Unknown if tries < TRIES_MAX => self.again = Some((rate, tries)),
            Finding::Fails | Finding::Unknown => self.fails = Some(rate),
        }
    }

    /// The highest rate that held.
    #[must_use]
    pub fn found(&self) -> Option<f64> {
        self.holds
    }

    /// The lowest rate that was too much.
    #[must_use]
    pub fn too_much(&self) -> Option<f64> {
        self.fails
    }
}

/// Three significant digits, so that a rate can be typed again.
fn tidy(rate: f64) -> f64 {
    format!("{rate:.2e}").parse().expect("Bug: what was formatted parses")
}

/// What one step came to.
#[derive(Clone, Debug, Serialize)]
struct Step {
    rate: f64,
    holds: bool,
    /// Why it does not, where it does not.
    why: Option<String>,
    /// True when the run was valid, and the condition did not hold.
    broken: bool,
    /// True when it is loadgen that has come to its limit, or the options do not go that far.
    own_limit: bool,
    verdict: Option<Verdict>,
    latency_p50_ns: Option<u64>,
    latency_p99_ns: Option<u64>,
    reach: Option<f64>,
    /// Where its results are, below `--out`.
    directory: Option<String>,
    #[serde(skip)]
    csv: Option<[String; 2]>,
}

/// The result of a search.
#[derive(Debug, Serialize)]
struct Found {
    schema_version: u32,
    condition: String,
    /// The highest rate that held, in broadcasts a second.
    rate: Option<f64>,
    /// True when nothing higher is known to fail because of the server, so that the rate is a lower bound.
    at_least: bool,
    interrupted: bool,
    /// Why the search ended before it was over, where a step came to no result: the server is gone, say.
    stopped: Option<String>,
    /// In the order in which they were made.
    steps: Vec<Step>,
    /// Why results could not be saved. The search goes on, and what it finds is printed.
    #[serde(skip)]
    unsaved: Option<String>,
}

/// Searches, prints and saves. Exit code 3 when the search was interrupted, 1 when a step came to no result
/// and ended it, 0 when a rate was found; otherwise 99 when the condition was broken in a valid run, and 3
/// when no run was valid.
///
/// # Errors
///
/// An [`Error`] when not even the first step has a result.
///
/// # Panics
///
/// Without `--find-max`.
pub fn run(options: &RunOptions) -> Result<ExitCode, Error> {
    let condition = options.find_max.clone().expect("Bug: no condition to search with");
    consistency::check(options)?;
    let session = Session::prepare(options)?;
    let mut search = Search::new(options.rate);
    let mut found = Found {
        schema_version: SCHEMA_VERSION,
        condition: condition.to_string(),
        rate: None,
        at_least: false,
        interrupted: false,
        stopped: None,
        steps: Vec::new(),
        unsaved: None,
    };
    while let Some(rate) = search.next()
        && !found.is_over()
    {
        let number = found.steps.len() + 1;
        if !options.quiet {
            eprintln!("step {number} (of at most {STEPS_MAX}): {rate} a second");
        }
        let directory = options.out.as_ref().map(|_| format!("{number:02}-rate-{rate}"));
        let step_options = RunOptions {
            rate,
            out: options.out.as_ref().zip(directory.as_ref()).map(|(out, name)| out.join(name)),
            ..options.clone()
        };
        let step = match consistency::check(&step_options) {
            Err(error) => Step::without_run(rate, format!("not tried: {error}")),
            Ok(()) => {
                if let Some(directory) = &step_options.out {
                    found.note_unsaved(fs::create_dir_all(directory), directory);
                }
                match session.perform(&step_options) {
                    Ok(outcome) => {
                        found.interrupted = outcome.ending == Ending::Interrupted;
                        if let Some(why) = &outcome.unsaved {
                            found.unsaved.get_or_insert_with(|| why.clone());
                        }
                        Step::of(rate, &condition, &outcome, directory)
                    }
                    Err(error) if found.steps.is_empty() => return Err(error),
                    Err(error) => {
                        found.interrupted = session.is_interrupted();
                        found.stopped = Some(error.to_string());
                        Step::without_run(rate, format!("no result: {error}"))
                    }
                }
            }
        };
        if !options.quiet {
            eprintln!("  {}", step.why.as_deref().unwrap_or("holds"));
        }
        if !found.is_over() {
            search.note(rate, step.finding());
        }
        // A rate too low for the options: every lower one is, too.
        let is_lowest = step.verdict.is_none() && search.found().is_none();
        found.steps.push(step);
        found.conclude(&search);
        if let Some(directory) = &options.out {
            let path = directory.join("find-max.json");
            found.note_unsaved(fs::write(&path, found.json()), &path);
        }
        if is_lowest {
            break;
        }
    }
    results::print(&match options.format {
        Format::Text => found.text(),
        Format::Json => found.json(),
        Format::Csv => found.csv(),
    })?;
    if let (Some(why), true) = (&found.stopped, options.format != Format::Text) {
        eprintln!("the search ended before it was over: {why}");
    }
    if let Some(why) = &found.unsaved {
        eprintln!("loadgen: {why}; what is printed here is all that is left of it");
    }
    Ok(found.exit_code())
}

impl Step {
    fn of(rate: f64, condition: &Threshold, outcome: &Outcome, directory: Option<String>) -> Self {
        let verdict = outcome.judge(condition);
        let invalid = outcome.validity.failed().next().map(|gate| format!("INVALID: {}", gate.finding));
        let failed: Vec<_> =
            outcome.validity.gates.iter().filter(|gate| !gate.passed).map(|gate| gate.name).collect();
        let was_only = |allowed: &[&str]| failed.iter().all(|name| allowed.contains(name));
        let may_be_late = condition.outlasts_lateness() && was_only(&LATE_GATES);
        let holds = verdict.passed && (failed.is_empty() || may_be_late);
        let own_limit = !holds && !failed.is_empty() && was_only(&OWN_GATES);
        let broken = (!verdict.passed).then(|| verdict.finding.clone());
        Self {
            rate,
            holds,
            broken: outcome.validity.valid && !verdict.passed,
            why: invalid.or(broken).filter(|_| !holds),
            own_limit,
            verdict: Some(verdict),
            latency_p50_ns: Some(outcome.latency.value_ns(0.5)),
            latency_p99_ns: Some(outcome.latency.value_ns(0.99)),
            reach: Some(outcome.deliveries.reach),
            directory,
            csv: Some(csv::lines(outcome)),
        }
    }

    fn finding(&self) -> Finding {
        match self {
            Self { holds: true, .. } => Finding::Holds,
            // A rate that could not even be tried stays so.
            Self { own_limit: true, verdict: Some(_), .. } => Finding::Unknown,
            _ => Finding::Fails,
        }
    }

    /// A rate that the options do not allow, or whose run came to no result.
    fn without_run(rate: f64, why: String) -> Self {
        Self {
            rate,
            holds: false,
            why: Some(why),
            broken: false,
            own_limit: true,
            verdict: None,
            latency_p50_ns: None,
            latency_p99_ns: None,
            reach: None,
            directory: None,
            csv: None,
        }
    }
}

impl Found {
    fn note_unsaved(&mut self, written: io::Result<()>, path: &Path) {
        if let Err(error) = written {
            self.unsaved.get_or_insert_with(|| format!("cannot write {}: {error}", path.display()));
        }
    }

    /// True when nothing more is to be tried, whatever the search has come to.
    fn is_over(&self) -> bool {
        self.interrupted || self.stopped.is_some()
    }

    /// Takes over how far the search has come.
    fn conclude(&mut self, search: &Search) {
        self.rate = search.found();
        // The last try decides.
        let too_much = self.steps.iter().rev().find(|step| Some(step.rate) == search.too_much());
        self.at_least = self.is_over() || too_much.is_none_or(|step| step.own_limit);
    }

    fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("Bug: every field has a form in JSON") + "\n"
    }

    fn csv(&self) -> String {
        let lines: Vec<_> = self.steps.iter().filter_map(|step| step.csv.as_ref()).collect();
        let names = lines.first().map(|[names, _]| names.as_str());
        names.into_iter().chain(lines.iter().map(|[_, values]| values.as_str())).collect()
    }

    fn text(&self) -> String {
        let mut steps: Vec<_> = self.steps.iter().collect();
        steps.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let mut text = format!("{:>12} {:>12} {:>12} {:>12}\n", "rate/s", "p50 ms", "p99 ms", "reach %");
        let milliseconds =
            |ns: Option<u64>| ns.map_or("-".to_owned(), |ns| format!("{:.3}", ns as f64 / 1e6));
        for step in steps {
            let (p50, p99) = (milliseconds(step.latency_p50_ns), milliseconds(step.latency_p99_ns));
            let reach = step.reach.map_or("-".to_owned(), floor_percent);
            let why = step.why.as_deref().unwrap_or("holds");
            text += &format!("{:>12} {p50:>12} {p99:>12} {reach:>12}  {why}\n", step.rate);
        }
        let steps = grouped(self.steps.len() as u64);
        let condition = &self.condition;
        text += &match self.rate {
            Some(rate) if self.at_least => format!(
                "{condition} holds up to at least {rate} a second: what lies beyond is not known, or beyond \
                 loadgen's own limits ({steps} steps)\n"
            ),
            Some(rate) => format!("{condition} holds up to {rate} a second ({steps} steps)\n"),
            None if self.steps.iter().any(|step| step.broken) => {
                format!("{condition} held at no rate ({steps} steps)\n")
            }
            None => format!("no run was valid, so nothing is known of {condition} ({steps} steps)\n"),
        };
        if let Some(why) = &self.stopped {
            text += &format!("the search ended before it was over: {why}\n");
        }
        if self.interrupted {
            text += "INVALID: interrupted before the search was over\n";
        }
        text
    }

    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.rate {
            _ if self.interrupted => 3,
            _ if self.stopped.is_some() => 1,
            Some(_) if self.unsaved.is_some() => 1,
            Some(_) => 0,
            None if self.steps.iter().any(|step| step.broken) => 99,
            None => 3,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Latency of a queue: it grows without bounds towards its capacity.
    fn search(first: f64, capacity: f64, limit_ms: f64) -> (Option<f64>, Vec<f64>) {
        let latency_ms =
            |rate: f64| if rate < capacity { 1.0 / (1.0 - rate / capacity) } else { f64::INFINITY };
        let mut search = Search::new(first);
        let mut rates = Vec::new();
        while let Some(rate) = search.next() {
            rates.push(rate);
            search.note(rate, if latency_ms(rate) < limit_ms { Finding::Holds } else { Finding::Fails });
        }
        (search.found(), rates)
    }

    #[test]
    fn the_knee_of_a_curve_is_found_from_either_side() {
        // 10 ms are reached at nine tenths of the capacity.
        for (first, capacity) in
            [(5.0, 10.0), (5.0, 1_000.0), (5_000.0, 1_000.0), (900.0, 1_000.0), (1.0, 2_345.6)]
        {
            let (found, rates) = search(first, capacity, 10.0);
            let found = found.expect("some rate holds");
            let knee = 0.9 * capacity;
            assert!(found < knee && found * 1.06 > knee, "{first} {capacity}: {found}, {rates:?}");
            assert!(rates.len() <= STEPS_MAX as usize, "{rates:?}");
            let mut unique = rates.clone();
            unique.sort_by(f64::total_cmp);
            unique.dedup();
            assert_eq!(unique.len(), rates.len(), "no rate is tried twice: {rates:?}");
        }
    }

    #[test]
    fn a_search_ends_when_everything_or_nothing_holds() {
        let (found, rates) = search(5.0, f64::INFINITY, 10.0);
        assert_eq!((found, rates.len()), (rates.last().copied(), 16));
        let (found, rates) = search(5.0, 1e-9, 10.0);
        assert!(found.is_none() && rates.len() <= 16);
    }

    #[test]
    fn what_is_unknown_is_tried_again_and_too_much_in_the_end() {
        let mut search = Search::new(100.0);
        search.note(100.0, Finding::Unknown);
        assert_eq!((search.next(), search.too_much()), (Some(100.0), None));
        search.note(100.0, Finding::Holds);
        assert_eq!((search.next(), search.found()), (Some(200.0), Some(100.0)));
        for _ in 0..TRIES_MAX {
            assert_eq!(search.next(), Some(200.0));
            search.note(200.0, Finding::Unknown);
        }
        assert_eq!((search.next(), search.too_much()), (Some(141.0), Some(200.0)));
        // The next rate has all its tries.
        search.note(141.0, Finding::Unknown);
        assert_eq!(search.next(), Some(141.0));
    }

    #[test]
    fn a_search_that_learns_nothing_ends() {
        let mut search = Search::new(100.0);
        let mut steps = 0;
        while let Some(rate) = search.next() {
            search.note(rate, Finding::Unknown);
            steps += 1;
        }
        assert_eq!((steps, search.found()), (STEPS_MAX, None));
    }

    #[test]
    fn rates_have_three_digits() {
        assert_eq!([1234.5, 0.012_345, 7.0].map(tidy), [1230.0, 0.0123, 7.0]);
    }
}
