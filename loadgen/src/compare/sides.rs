//! The two sides of a comparison: which runs they hold, and whether these may be compared at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::saved::SavedRun;
use crate::saved::baseline;

/// The word between the sides on the command line.
const VERSUS: &str = "vs";
/// Settings in which runs may differ: the seed of keys and masks is another one each time.
const FREE_SETTINGS: [&str; 1] = ["seed"];
/// What all runs should have been made with, and what it is called.
const SAME_ORIGIN: [(&str, &str); 4] = [
    ("host", "hosts"),
    ("kernel", "kernels"),
    ("cpu", "CPU models"),
    ("loadgen_sha256", "builds of loadgen"),
];

/// What a side is made of: a name, and where its runs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What the side is called.
    pub label: String,
    /// Directories that hold a run, or several in subdirectories.
    pub directories: Vec<PathBuf>,
}

/// One side.
#[derive(Debug)]
pub struct Side {
    /// What it is called.
    pub label: String,
    /// Its runs.
    pub runs: Vec<SavedRun>,
}

impl Side {
    /// The server's revision, where all runs name the same.
    #[must_use]
    pub fn revision(&self) -> Option<&str> {
        let of = |run: &'_ SavedRun| run.result.provenance.get("server_revision").cloned();
        let first = self.runs.first()?;
        let all_alike = self.runs.iter().all(|run| of(run) == of(first));
        first.result.provenance.get("server_revision")?.as_str().filter(|_| all_alike)
    }
}

/// Parses `[A=]DIR… vs [B=]DIR…`. A directory may be written `baseline:NAME`; a label ends at the first
/// `=` and holds no slash, so that `./a=b` is a directory. It may stand alone, for shells that expand
/// `A= out/*-a` and not `A=out/*-a`.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse(arguments: &[String]) -> Result<[Place; 2], String> {
    let mut sides = arguments.split(|argument| argument == VERSUS);
    let (Some(a), Some(b), None) = (sides.next(), sides.next(), sides.next()) else {
        return Err(format!("two sides are compared: DIR… {VERSUS} DIR…"));
    };
    Ok([parse_side(a, "A")?, parse_side(b, "B")?])
}

fn parse_side(arguments: &[String], default_label: &str) -> Result<Place, String> {
    let mut labels = BTreeSet::new();
    let mut directories = Vec::new();
    for argument in arguments {
        let (label, place) = match argument.split_once('=') {
            Some((label, place)) if !label.contains('/') => (Some(label), place),
            _ => (None, &**argument),
        };
        labels.extend(label);
        if place.is_empty() && label.is_some() {
            continue;
        }
        directories.push(match place.strip_prefix("baseline:") {
            Some(name) => baseline::directory(name)?,
            None => PathBuf::from(place),
        });
    }
    if directories.is_empty() {
        return Err(format!("no directory on side {default_label}: DIR… {VERSUS} DIR…"));
    }
    if labels.len() > 1 {
        let labels: Vec<_> = labels.into_iter().collect();
        return Err(format!("one side has several names: {}", labels.join(", ")));
    }
    let label = labels.pop_first().filter(|label| !label.is_empty()).unwrap_or(default_label).to_owned();
    Ok(Place { label, directories })
}

/// Reads all runs of a side; every line of the error names one thing that is wrong.
///
/// # Errors
///
/// Directories without a run, runs that cannot be read, and runs that are named twice.
pub fn read(place: Place) -> Result<Side, Vec<String>> {
    let (mut runs, mut wrongs) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for directory in &place.directories {
        match SavedRun::find(directory) {
            Err(why) => wrongs.push(why),
            Ok(found) => {
                for directory in found {
                    if !seen.insert(unique(&directory)) {
                        let label = &place.label;
                        wrongs.push(format!("{} is named twice on side {label}", directory.display()));
                        continue;
                    }
                    match SavedRun::read(&directory) {
                        Ok(run) => runs.push(run),
                        Err(why) => wrongs.push(why),
                    }
                }
            }
        }
    }
    if wrongs.is_empty() { Ok(Side { label: place.label, runs }) } else { Err(wrongs) }
}

/// One directory may be named in several ways.
fn unique(directory: &Path) -> PathBuf {
    fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned())
}

/// Why the runs should not be compared, each reason in a line: settings that differ, INVALID runs, and runs
/// that would be compared with themselves.
#[must_use]
pub fn objections(sides: &[Side; 2]) -> Vec<String> {
    let runs = || sides.iter().flat_map(|side| &side.runs);
    let mut objections = Vec::new();
    let keys: BTreeSet<&String> = runs().flat_map(|run| run.result.settings.keys()).collect();
    for key in keys.into_iter().filter(|key| !FREE_SETTINGS.contains(&key.as_str())) {
        let values = distinct(runs(), |run| run.result.settings.get(key).cloned().unwrap_or(Value::Null));
        if values.len() > 1 {
            let values: Vec<_> = values
                .into_iter()
                .map(|(value, run)| format!("{value} in {}", run.directory.display()))
                .collect();
            objections.push(format!("the setting {key} differs: {}", values.join(", ")));
        }
    }
    let [a, b] = sides;
    for run in &a.runs {
        if b.runs.iter().any(|other| unique(&other.directory) == unique(&run.directory)) {
            objections.push(format!("{} is on both sides", run.directory.display()));
        }
    }
    for run in runs().filter(|run| !run.result.validity.valid) {
        let reasons = run.result.validity.reasons();
        objections.push(format!("{} is INVALID: {reasons}", run.directory.display()));
    }
    objections
}

/// Warnings, which do not forbid the comparison.
#[must_use]
pub fn remarks(sides: &[Side; 2]) -> Vec<String> {
    let mut remarks = Vec::new();
    for (key, name) in SAME_ORIGIN {
        let runs = sides.iter().flat_map(|side| &side.runs);
        let count = distinct(runs, |run| origin(run, key)).len();
        if count > 1 {
            remarks.push(format!("the runs were made with {count} different {name}"));
        }
    }
    for side in sides {
        let label = &side.label;
        let builds = distinct(&side.runs, |run| origin(run, "server_sha256")).len();
        if builds > 1 {
            remarks.push(format!("side {label} holds runs of {builds} different servers"));
        }
        let served =
            |run: &&SavedRun| run.result.server.as_ref().is_some_and(|server| server.served_before.is_some());
        let served_count = side.runs.iter().filter(served).count();
        if served_count > 0 {
            remarks.push(format!(
                "in {served_count} of side {label}'s runs the server had had clients before, and its memory is \
                 not this run's alone"
            ));
        }
        let processes = |run: &SavedRun| {
            let pid = run.result.server.as_ref().map(|server| server.pid);
            pid.map(|pid| (pid, origin(run, "host").to_string()))
        };
        let known: Vec<_> = side.runs.iter().filter_map(processes).collect();
        if known.iter().collect::<BTreeSet<_>>().len() < known.len() {
            remarks.push(format!(
                "side {label} holds several runs of one server process; they are not independent, and p \
                 values come out too small"
            ));
        }
    }
    remarks
}

fn origin(run: &SavedRun, key: &str) -> Value {
    run.result.provenance.get(key).cloned().unwrap_or(Value::Null)
}

/// The different values that runs have, each with the first run that has it.
fn distinct<'a>(
    runs: impl IntoIterator<Item = &'a SavedRun>,
    value_of: impl Fn(&SavedRun) -> Value,
) -> Vec<(Value, &'a SavedRun)> {
    let mut found: BTreeMap<String, (Value, &SavedRun)> = BTreeMap::new();
    for run in runs {
        let value = value_of(run);
        found.entry(value.to_string()).or_insert((value, run));
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<[Place; 2], String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn sides_have_names_and_directories() {
        let [a, b] = parsed("old=x/1 x/2 vs ./p=q").expect("parses");
        assert_eq!(a, Place { label: "old".to_owned(), directories: vec!["x/1".into(), "x/2".into()] });
        assert_eq!(b, Place { label: "B".to_owned(), directories: vec!["./p=q".into()] });
        let [a, _] = parsed("old= x/1 x/2 vs y").expect("parses");
        assert_eq!(a, Place { label: "old".to_owned(), directories: vec!["x/1".into(), "x/2".into()] });
    }

    #[test]
    fn what_is_not_two_sides_is_refused() {
        for wrong in
            ["", "a b", "a vs", "vs b", "a vs b vs c", "x=a y=b vs c", "x= vs c", "baseline:../a vs b"]
        {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
