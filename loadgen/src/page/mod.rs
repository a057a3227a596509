//! `loadgen report`: saved runs as one page that opens offline, on a screen or on paper.
//!
//! ```text
//! saved (run.json, run.hlog) → figures (curves, timeline, receivers) + tables → one HTML file
//! ```
//!
//! The figures are drawn here, as SVG. The page's script only reads values off them, and the page is whole
//! without it. All text from files passes through maud, which escapes it; the page's policy allows no
//! network and no other script than this one.

mod curves;
mod figure;
mod receivers;
mod scale;
mod shown;
mod tables;
mod timeline;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::saved::SavedRun;
use crate::saved::baseline;
use curves::{Curve, Words};
use shown::ShownRun;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Colours for light and for dark ground, told apart also by who confuses red and green. Further runs get
/// hues in between.
const COLOURS: [(&str, &str); 8] = [
    ("#0b62c4", "#6db3ff"),
    ("#c2540a", "#ff9d5c"),
    ("#0a7d5c", "#4fd1a5"),
    ("#9a2fae", "#e08cf0"),
    ("#806200", "#e0bf45"),
    ("#475569", "#b4c0d0"),
    ("#0e7490", "#5cd0e6"),
    ("#b3365f", "#ff8fb0"),
];

const LATENCY: Words = Words {
    id: "latency",
    title: "Latency",
    meaning: "Time from when a broadcast was due until each receiver has it.",
    values: "deliveries",
};
const SPREAD: Words = Words {
    id: "spread",
    title: "Spread between receivers",
    meaning: "Time between the first and the last receiver of the same broadcast, where it reached all of them.",
    values: "broadcasts",
};

/// The options of `report`.
#[derive(Debug, Args)]
pub struct ReportOptions {
    /// Directories that --out has written, or that hold several of them.
    #[arg(value_name = "DIR", required = true)]
    pub directories: Vec<PathBuf>,
    /// The page to write.
    #[arg(long, value_name = "FILE")]
    pub html: PathBuf,
}

/// Writes the page.
///
/// # Errors
///
/// [`Error::Usage`] when a run cannot be read, [`Error::Write`] when the page cannot be written.
pub fn write(options: &ReportOptions) -> Result<(), Error> {
    let found = options.directories.iter().map(|directory| SavedRun::find(directory));
    let directories = found.collect::<Result<Vec<_>, _>>().map_err(Error::Usage)?.concat();
    if is_of_a_run(&options.html) {
        let html = options.html.display();
        return Err(Error::Usage(format!("--html {html}: a run's own file would be lost; name another")));
    }
    let labels = labels(&directories);
    let runs = directories.iter().zip(labels).enumerate();
    let runs = runs.map(|(index, (directory, label))| ShownRun::read(directory, index + 1, label));
    let runs: Vec<_> = runs.collect::<Result<_, _>>()?;
    fs::write(&options.html, page(&runs).into_string())
        .map_err(|source| Error::Write { path: options.html.display().to_string(), source })
}

/// True for a file that a run consists of.
fn is_of_a_run(path: &Path) -> bool {
    path.file_name().is_some_and(|name| baseline::FILES.iter().any(|own| name == *own))
}

/// As many of the last components of each path as tell all of them apart.
fn labels(directories: &[PathBuf]) -> Vec<String> {
    let components: Vec<Vec<String>> = directories
        .iter()
        .map(|directory| {
            let path = fs::canonicalize(directory).unwrap_or_else(|_| directory.clone());
            path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
        })
        .collect();
    let longest = components.iter().map(Vec::len).max().unwrap_or(0);
    let shortened = |count: usize| -> Vec<String> {
        components.iter().map(|parts| parts[parts.len().saturating_sub(count)..].join("/")).collect()
    };
    (1..=longest)
        .map(shortened)
        .find(|labels| labels.iter().collect::<BTreeSet<_>>().len() == labels.len())
        .unwrap_or_else(|| directories.iter().map(|directory| directory.display().to_string()).collect())
}

fn page(runs: &[ShownRun]) -> Markup {
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'",
        STANDARD.encode(Sha256::digest(SCRIPT))
    );
    let invalid = runs.iter().filter(|run| !run.result.validity.valid).count();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (heading(runs)) }
                style { (PreEscaped(STYLE)) (PreEscaped(run_styles(runs.len()))) }
            }
            body {
                header {
                    h1 { (heading(runs)) }
                    p.load { (load(runs)) }
                    @if invalid > 0 {
                        p.alarm { strong { (invalid) " of " (runs.len()) @if runs.len() == 1 { " run is INVALID." } @else { " runs are INVALID." } }
                            " What an INVALID run shows may be its own limits, or a loss, and not the latency of the server." }
                    }
                }
                main {
                    section { (tables::runs(runs)) }
                    @for figure in figures(runs) { (figure.render(runs)) }
                    section { h2 { "All quantiles" } (tables::quantiles(runs)) }
                    @if let Some(stages) = tables::stages(runs) { section { h2 { "Stages" } (stages) } }
                    @if let Some(pairs) = tables::pairs(runs) { section { h2 { "Pairs of servers" } (pairs) } }
                    section { h2 { "Gates" } (tables::gates(runs)) }
                    section { h2 { "Counts" } (tables::counts(runs)) }
                    @if let Some(servers) = tables::servers(runs) { section { h2 { "Server" } (servers) } }
                    section { h2 { "Settings" } (tables::facts(runs, tables::settings)) }
                    section { h2 { "Provenance" } (tables::facts(runs, tables::provenance)) }
                }
                footer { p { "Made by loadgen " (env!("CARGO_PKG_VERSION")) ". Times run from the intended time of a broadcast, so that a stalled server cannot hide." } }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

fn heading(runs: &[ShownRun]) -> String {
    match runs {
        [run] => format!("Fan-out latency: {}", run.label),
        _ => format!("Fan-out latency: {} runs", runs.len()),
    }
}

/// The load, when all runs had the same.
fn load(runs: &[ShownRun]) -> String {
    let load = |run: &ShownRun| {
        let setting = |name| {
            run.result.settings.get(name).map_or("?".to_owned(), |value| match value.as_str() {
                Some(text) => text.to_owned(),
                None => value.to_string(),
            })
        };
        let [clients, rate, payload] = ["clients", "rate", "payload_bytes"].map(setting);
        let what = if setting("dialect") == "echo" { "round trips" } else { "broadcasts" };
        format!(
            "{} dialect · {clients} clients · {} {what} a second of {payload} bytes · {} s measured",
            setting("dialect"),
            rate.trim_end_matches(".0"),
            setting("duration_seconds").trim_end_matches(".0"),
        )
    };
    let loads: BTreeSet<_> = runs.iter().map(load).collect();
    match loads.len() {
        1 => loads.into_iter().collect(),
        count => format!("{count} different loads: see the settings before comparing"),
    }
}

fn figures(runs: &[ShownRun]) -> Vec<figure::Figure> {
    let latency: Vec<_> = runs
        .iter()
        .map(|run| Curve {
            run,
            histogram: run.log.latency(),
            worst: run.log.histogram("complete").unwrap_or(run.log.latency()),
            bound_from_ns: run.result.undelivered_from_ns(),
        })
        .collect();
    let spread: Vec<_> = runs
        .iter()
        .filter_map(|run| {
            let histogram = run.log.histogram("spread")?;
            Some(Curve { run, histogram, worst: histogram, bound_from_ns: None })
        })
        .collect();
    let mut figures = vec![curves::figure(&LATENCY, &latency), timeline::figure(runs)];
    figures.extend(receivers::figure(runs));
    if !spread.is_empty() {
        figures.push(curves::figure(&SPREAD, &spread));
    }
    figures
}

/// The colour of each run, and what its checkbox does.
fn run_styles(count: usize) -> String {
    let (mut light, mut dark, mut rules) = (String::new(), String::new(), String::new());
    for number in 1..=count {
        let (on_light, on_dark) = colours(number - 1);
        // Writing to a String cannot fail.
        let _ = write!(light, "--run-{number}:{on_light};");
        let _ = write!(dark, "--run-{number}:{on_dark};");
        let _ = writeln!(
            rules,
            ".run-{number},.of-run-{number}{{--run:var(--run-{number})}}\
             body:has(#shown-{number}:not(:checked)) .run-{number}{{display:none}}\
             body:has(label[for=shown-{number}]:hover) svg .run:not(.run-{number}){{opacity:.2}}"
        );
    }
    format!(":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{rules}")
}

fn colours(index: usize) -> (String, String) {
    if let Some((light, dark)) = COLOURS.get(index) {
        return ((*light).to_owned(), (*dark).to_owned());
    }
    // Turning by the golden angle never comes close to a hue that was had just before.
    let hue = (index as f64 * 137.508) % 360.0;
    (format!("hsl({hue:.0} 65% 36%)"), format!("hsl({hue:.0} 70% 70%)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_as_short_as_tells_them_apart() {
        let labels_of = |paths: &[&str]| labels(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(labels_of(&["/nowhere/a/1", "/nowhere/a/2"]), ["1", "2"]);
        assert_eq!(labels_of(&["/nowhere/a/1", "/nowhere/b/1"]), ["a/1", "b/1"]);
        assert_eq!(labels_of(&["/nowhere/1", "/nowhere/1"]), ["/nowhere/1", "/nowhere/1"]);
    }

    #[test]
    fn every_run_has_a_colour_of_its_own() {
        let all: BTreeSet<_> = (0..40).map(colours).collect();
        assert_eq!(all.len(), 40);
    }
}
