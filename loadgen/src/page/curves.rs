//! Percentile curves: how long the fastest share of all values took, for every share, with as much room
//! for each further nine as for the one before it.

use hdrhistogram::Histogram;
use maud::{Markup, html};

use super::figure::{Figure, LEFT, RIGHT, Readings, Stop, end_labels, foot_grid, path, round, time_grid};
use super::scale::{TailScale, TimeScale, percent, time};
use super::shown::{ShownRun, run_class};
use crate::timings::quantiles::{THIN_BELOW, count_beyond, value_at};

const TOP: f64 = 12.0;
const BOTTOM: f64 = 372.0;
const HEIGHT: f64 = 424.0;
/// As fine as HdrHistogram prints a distribution.
const TICKS_PER_HALF_DISTANCE: u32 = 5;
/// The quantiles that can be read off, as far as there are values for them.
const STOPS: [f64; 22] = [
    0.0,
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.75,
    0.8,
    0.85,
    0.9,
    0.95,
    0.975,
    0.99,
    0.995,
    0.999,
    0.9995,
    0.9999,
    0.99999,
    0.999_999,
    0.999_999_9,
];

/// One curve.
pub(crate) struct Curve<'a> {
    pub(crate) run: &'a ShownRun,
    pub(crate) histogram: &'a Histogram<u64>,
    /// The largest value of each broadcast.
    pub(crate) worst: &'a Histogram<u64>,
    /// Values from here on are lower bounds.
    pub(crate) bound_from_ns: Option<u64>,
}

/// What a figure of curves says about itself.
pub(crate) struct Words {
    /// Tells it from the other figures.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// What the time is that it shows.
    pub(crate) meaning: &'static str,
    /// What there is one value for each of.
    pub(crate) values: &'static str,
}

/// What stands behind a part of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Support {
    Solid,
    Thin,
    Bound,
}

/// A part of a curve with the same support.
type Piece = (Support, Vec<(f64, f64)>);

impl Support {
    fn class(self) -> &'static str {
        match self {
            Self::Solid => "curve",
            Self::Thin => "curve thin",
            Self::Bound => "curve bound",
        }
    }
}

impl Curve<'_> {
    fn support(&self, value_ns: u64) -> Support {
        if self.is_bound(value_ns) {
            Support::Bound
        } else if count_beyond(self.worst, value_ns) < THIN_BELOW {
            Support::Thin
        } else {
            Support::Solid
        }
    }

    fn is_bound(&self, value_ns: u64) -> bool {
        self.bound_from_ns.is_some_and(|from| self.histogram.highest_equivalent(value_ns) >= from)
    }

    /// Quantiles and their values; the last quantile is that of the largest value.
    fn points(&self) -> Vec<(f64, u64)> {
        let last = 1.0 - (self.histogram.len().max(2) as f64).recip();
        let steps = self.histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE);
        let mut points: Vec<_> = steps
            .map(|step| {
                (step.quantile_iterated_to().min(last), step.value_iterated_to().min(self.histogram.max()))
            })
            .collect();
        points.dedup();
        points
    }

    /// The curve in pieces with the same support, each beginning where the one before it ends.
    fn pieces(&self, tail: &TailScale, times: &TimeScale) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for (quantile, value_ns) in self.points() {
            let point = (tail.position(quantile), times.position(value_ns));
            let support = self.support(value_ns);
            match pieces.last_mut() {
                Some((last, points)) if *last == support => points.push(point),
                Some((_, points)) => {
                    let joint = points.last().copied().unwrap_or(point);
                    pieces.push((support, vec![joint, point]));
                }
                None => pieces.push((support, vec![point])),
            }
        }
        pieces
    }

    fn reading(&self, quantile: f64, times: &TimeScale) -> (usize, String, Vec<f64>) {
        let value_ns = value_at(self.histogram, quantile);
        let (before, after) = match self.support(value_ns) {
            Support::Solid => ("", ""),
            Support::Thin => ("", " *"),
            Support::Bound => ("≥ ", ""),
        };
        let text = format!("{before}{}{after}", time(value_ns));
        (self.run.number, text, vec![round(times.position(value_ns))])
    }
}

/// A figure with all curves.
pub(crate) fn figure(words: &Words, curves: &[Curve<'_>]) -> Figure {
    let Words { id, title, meaning, values } = *words;
    let curves: Vec<_> = curves.iter().filter(|curve| !curve.histogram.is_empty()).collect();
    let count_max = curves.iter().map(|curve| curve.histogram.len()).max().unwrap_or(0);
    let tail = TailScale::new(count_max, LEFT, RIGHT);
    let ends = curves.iter().flat_map(|curve| [curve.histogram.min(), curve.histogram.max()]);
    let times = TimeScale::new(ends, BOTTOM, TOP);
    let stops = STOPS.into_iter().filter(|quantile| tail.position(*quantile) <= RIGHT);
    let stops = stops.map(|quantile| Stop {
        x: round(tail.position(quantile)),
        title: percent(quantile),
        rows: curves.iter().map(|curve| curve.reading(quantile, &times)).collect(),
    });
    let described: Vec<_> = curves.iter().map(|curve| describe(curve)).collect();
    Figure {
        id,
        title,
        description: format!("{meaning} {}", described.join(" ")),
        caption: caption(meaning, &curves),
        height: HEIGHT,
        drawing: drawing(&curves, values, &tail, &times),
        readings: Readings { top: TOP, bottom: BOTTOM, stops: stops.collect() },
    }
}

fn describe(curve: &Curve<'_>) -> String {
    let at = |quantile| time(value_at(curve.histogram, quantile));
    format!(
        "Run {}, {}: 50 % within {}, 99 % within {}, at most {}.",
        curve.run.number,
        curve.run.label,
        at(0.5),
        at(0.99),
        time(curve.histogram.max())
    )
}

fn caption(meaning: &str, curves: &[&Curve<'_>]) -> Markup {
    let bound = curves.iter().any(|curve| curve.is_bound(curve.histogram.max()));
    html! {
        (meaning)
        " Both axes are logarithmic; each further nine is as wide as the one before. Dashed, and marked *: fewer than "
        (THIN_BELOW) " broadcasts reach beyond, too few to rely on."
        @if bound { " Dotted, and marked ≥: never arrived; drawn at the time waited." }
    }
}

fn drawing(curves: &[&Curve<'_>], values: &str, tail: &TailScale, times: &TimeScale) -> Markup {
    let ticks: Vec<_> =
        tail.ticks().into_iter().map(|(quantile, label)| (tail.position(quantile), label)).collect();
    let pieces: Vec<_> = curves.iter().map(|curve| (curve.run.number, curve.pieces(tail, times))).collect();
    let end = |(number, pieces): &(usize, Vec<Piece>)| {
        let (x, y) = pieces.last()?.1.last()?;
        Some((*number, *x, *y))
    };
    html! {
        (time_grid(times))
        (foot_grid(&ticks, TOP, BOTTOM))
        text.axis x=((LEFT + RIGHT) / 2.0) y=(HEIGHT - 10.0) text-anchor="middle" { "share of the " (values) " that took no longer" }
        @for (number, pieces) in &pieces {
            g.(run_class(*number)) {
                @for (support, points) in pieces { path.(support.class()) d=(path(points)) {} }
            }
        }
        (end_labels(pieces.iter().filter_map(end).collect(), TOP, BOTTOM))
    }
}
