//! The timeline: median, 99th percentile and maximum of each second, in three panels above each other.

use maud::{Markup, html};

use super::figure::{Figure, LEFT, RIGHT, Readings, Stop, end_labels, foot_grid, path, round, time_grid};
use super::scale::{TimeScale, seconds_step, time};
use super::shown::{ShownRun, run_class};
use crate::saved::Point;

const TOP: f64 = 24.0;
const PANEL: f64 = 128.0;
const GAP: f64 = 34.0;

/// What a panel shows of a point.
type Value = fn(&Point) -> u64;
const PANELS: [(&str, Value); 3] =
    [("median", |point| point.p50_ns), ("99 %", |point| point.p99_ns), ("maximum", |point| point.max_ns)];

const BOTTOM: f64 = TOP + 3.0 * PANEL + 2.0 * GAP;
const HEIGHT: f64 = BOTTOM + 52.0;

/// The figure.
pub(crate) fn figure(runs: &[ShownRun]) -> Figure {
    let end = runs.iter().filter_map(|run| Some(end_of(run.log.timeline.last()?, run))).fold(1.0, f64::max);
    let x = |seconds: f64| LEFT + seconds / end * (RIGHT - LEFT);
    let times: Vec<_> =
        PANELS.iter().enumerate().map(|(index, (_, value))| panel(runs, index, *value)).collect();
    let step = seconds_step(&(0.0..=end));
    let ticks: Vec<_> = (0..)
        .map(|index| f64::from(index) * step)
        .take_while(|seconds| *seconds <= end)
        .map(|seconds| (x(seconds), format!("{seconds:.0}")))
        .collect();
    Figure {
        id: "timeline",
        title: "Second by second",
        description: describe(runs),
        caption: caption(runs),
        height: HEIGHT,
        drawing: drawing(runs, &times, &ticks, &x),
        readings: Readings { top: TOP, bottom: BOTTOM, stops: stops(runs, &times, &x) },
    }
}

fn end_of(point: &Point, run: &ShownRun) -> f64 {
    point.start_seconds + run.log.seconds_per_point as f64
}

fn middle_of(point: &Point, run: &ShownRun) -> f64 {
    point.start_seconds + run.log.seconds_per_point as f64 / 2.0
}

fn panel(runs: &[ShownRun], index: usize, value: Value) -> TimeScale {
    let top = TOP + index as f64 * (PANEL + GAP);
    let points = runs.iter().flat_map(|run| &run.log.timeline).filter(|point| point.count > 0);
    TimeScale::new(points.map(value), top + PANEL, top)
}

fn describe(runs: &[ShownRun]) -> String {
    let each = runs.iter().map(|run| {
        let worst = run.log.timeline.iter().max_by_key(|point| point.max_ns);
        let worst = worst.map_or("nothing was received".to_owned(), |point| {
            format!(
                "the worst delivery, {}, arrived in second {:.0}",
                time(point.max_ns),
                point.start_seconds
            )
        });
        format!("Run {}, {}: {worst}.", run.number, run.label)
    });
    format!("Latency by time of receipt. {}", each.collect::<Vec<_>>().join(" "))
}

fn caption(runs: &[ShownRun]) -> Markup {
    let longest = runs.iter().map(|run| run.log.seconds_per_point).max().unwrap_or(1);
    html! {
        "Latency of what was received in each second since measuring began. A gap is a second in which nothing arrived."
        @if longest > 1 { " In long runs a point stands for up to " (longest) " seconds." }
    }
}

fn drawing(
    runs: &[ShownRun],
    times: &[TimeScale],
    ticks: &[(f64, String)],
    x: &impl Fn(f64) -> f64,
) -> Markup {
    html! {
        @for (index, ((name, value), scale)) in PANELS.iter().zip(times).enumerate() {
            @let top = TOP + index as f64 * (PANEL + GAP);
            @let foot = if index + 1 == PANELS.len() { ticks.to_vec() } else { unlabelled(ticks) };
            (time_grid(scale))
            (foot_grid(&foot, top, top + PANEL))
            @for run in runs {
                g.(run_class(run.number)) {
                    @for piece in pieces(run, *value, scale, x) {
                        path.curve d=(path(&piece)) {}
                        // A second between two gaps is no line, and would not be seen.
                        @if let [(x, y)] = piece[..] { circle cx=(round(x)) cy=(round(y)) r="2.5" {} }
                    }
                }
            }
            text.panel x=(LEFT) y=(top - 8.0) { (name) }
            (end_labels(ends(runs, *value, scale, x), top, top + PANEL))
        }
        text.axis x=((LEFT + RIGHT) / 2.0) y=(HEIGHT - 10.0) text-anchor="middle" { "seconds since measuring began" }
    }
}

fn unlabelled(ticks: &[(f64, String)]) -> Vec<(f64, String)> {
    ticks.iter().map(|(x, _)| (*x, String::new())).collect()
}

/// Lines that end where nothing was received.
fn pieces(run: &ShownRun, value: Value, scale: &TimeScale, x: &impl Fn(f64) -> f64) -> Vec<Vec<(f64, f64)>> {
    run.log
        .timeline
        .split(|point| point.count == 0)
        .filter(|points| !points.is_empty())
        .map(|points| {
            let position = |point: &Point| (x(middle_of(point, run)), scale.position(value(point)));
            points.iter().map(position).collect()
        })
        .collect()
}

fn ends(
    runs: &[ShownRun],
    value: Value,
    scale: &TimeScale,
    x: &impl Fn(f64) -> f64,
) -> Vec<(usize, f64, f64)> {
    let end = |run: &ShownRun| {
        let point = run.log.timeline.last()?;
        Some((run.number, x(middle_of(point, run)), scale.position(value(point))))
    };
    runs.iter().filter_map(end).collect()
}

/// One stop for each point of the run that has the most.
fn stops(runs: &[ShownRun], times: &[TimeScale], x: &impl Fn(f64) -> f64) -> Vec<Stop> {
    let Some(longest) = runs.iter().max_by_key(|run| run.log.timeline.len()) else {
        return Vec::new();
    };
    let stop = |at: &Point| Stop {
        x: round(x(middle_of(at, longest))),
        title: match longest.log.seconds_per_point {
            1 => format!("second {:.0}", at.start_seconds),
            length => format!("seconds {:.0} to {:.0}", at.start_seconds, at.start_seconds + length as f64),
        },
        rows: runs.iter().map(|run| reading(run, middle_of(at, longest), times)).collect(),
    };
    longest.log.timeline.iter().map(stop).collect()
}

fn reading(run: &ShownRun, seconds: f64, times: &[TimeScale]) -> (usize, String, Vec<f64>) {
    let found = run
        .log
        .timeline
        .iter()
        .find(|point| (point.start_seconds..end_of(point, run)).contains(&seconds) && point.count > 0);
    let Some(point) = found else {
        return (run.number, "nothing received".to_owned(), Vec::new());
    };
    let text =
        format!("median {} · 99 % {} · max {}", time(point.p50_ns), time(point.p99_ns), time(point.max_ns));
    let points = PANELS.iter().zip(times).map(|((_, value), scale)| round(scale.position(value(point))));
    (run.number, text, points.collect())
}
