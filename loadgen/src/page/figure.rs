//! What all figures share: the drawing with its title and description, grid lines, and the readings that
//! the page's script shows under the pointer or the arrow keys.

use maud::{Markup, PreEscaped, html};
use serde::Serialize;

use super::scale::{TimeScale, tick_time};
use super::shown::{ShownRun, badge, run_class};

/// Width of a drawing in its own units, which are pixels on a page of full width.
pub(crate) const WIDTH: f64 = 1040.0;
/// Where the plot begins, right of the labels of the vertical axis.
pub(crate) const LEFT: f64 = 64.0;
/// Where the plot ends, left of the labels of the curves.
pub(crate) const RIGHT: f64 = WIDTH - 36.0;

/// A drawing with what goes around it.
pub(crate) struct Figure {
    /// Tells it from the other figures.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// What a person who does not see it should know.
    pub(crate) description: String,
    /// How to read it.
    pub(crate) caption: Markup,
    pub(crate) height: f64,
    pub(crate) drawing: Markup,
    pub(crate) readings: Readings,
}

/// What can be read off a figure: a stop for each position on its horizontal axis.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Readings {
    pub(crate) top: f64,
    pub(crate) bottom: f64,
    pub(crate) stops: Vec<Stop>,
}

/// The readings at one position.
#[derive(Debug, Serialize)]
pub(crate) struct Stop {
    pub(crate) x: f64,
    pub(crate) title: String,
    /// For each run: its number, the values in words, and where its points are.
    pub(crate) rows: Vec<(usize, String, Vec<f64>)>,
}

impl Figure {
    /// The figure, with the names of the runs where there are several.
    pub(crate) fn render(&self, runs: &[ShownRun]) -> Markup {
        let [title_id, description_id] = ["title", "desc"].map(|part| format!("{}-{part}", self.id));
        html! {
            figure id=(self.id) {
                h2 { (self.title) }
                div.plot tabindex=[(!self.readings.stops.is_empty()).then_some("0")]
                    role="group" aria-label={ (self.title) ". Left and right arrow keys read values." } {
                    svg viewBox={ "0 0 " (WIDTH) " " (self.height) } role="img"
                        aria-labelledby={ (title_id) " " (description_id) } {
                        title id=(title_id) { (self.title) }
                        desc id=(description_id) { (self.description) }
                        (self.drawing)
                    }
                    @if !self.readings.stops.is_empty() {
                        script type="application/json" { (PreEscaped(json(&self.readings))) }
                    }
                }
                figcaption {
                    (self.caption)
                    @if runs.len() > 1 {
                        ul.legend { @for run in runs { li.(run_class(run.number)) { (badge(run)) " " (run.label) } } }
                    }
                }
            }
        }
    }
}

/// JSON that can stand in a script element: no `<` can end it or begin a comment.
fn json(readings: &Readings) -> String {
    let text = serde_json::to_string(readings).expect("Bug: readings are plain data");
    text.replace('<', "\\u003c")
}

/// Points as the value of a path's `d`.
pub(crate) fn path(points: &[(f64, f64)]) -> String {
    let mut text = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        text.push_str(&format!("{command}{x:.1} {y:.1}"));
    }
    text
}

/// Horizontal lines with times at their left.
pub(crate) fn time_grid(scale: &TimeScale) -> Markup {
    html! {
        @for y in scale.ends() { line.grid x1=(LEFT) x2=(RIGHT) y1=(y) y2=(y) {} }
        @for tick in scale.ticks() {
            @let y = round(scale.position(tick));
            line.grid x1=(LEFT) x2=(RIGHT) y1=(y) y2=(y) {}
            text.tick x=(LEFT - 8.0) y=(y + 4.0) text-anchor="end" { (tick_time(tick)) }
        }
    }
}

/// Vertical lines with labels at their foot.
pub(crate) fn foot_grid(ticks: &[(f64, String)], top: f64, bottom: f64) -> Markup {
    html! {
        @for (x, label) in ticks {
            line.grid x1=(round(*x)) x2=(round(*x)) y1=(top) y2=(bottom) {}
            text.tick x=(round(*x)) y=(bottom + 18.0) text-anchor="middle" { (label) }
        }
    }
}

/// The numbers of runs at the ends of their curves, moved apart where they would cover each other.
pub(crate) fn end_labels(mut ends: Vec<(usize, f64, f64)>, top: f64, bottom: f64) -> Markup {
    const APART: f64 = 14.0;
    // More than fit below each other would only be a smear.
    if ends.len() as f64 * APART > bottom - top {
        ends.clear();
    }
    ends.sort_by(|a, b| a.2.total_cmp(&b.2));
    for index in 1..ends.len() {
        ends[index].2 = ends[index].2.max(ends[index - 1].2 + APART);
    }
    // What was pushed off the foot pushes the others up.
    let mut limit = bottom;
    for end in ends.iter_mut().rev() {
        end.2 = end.2.min(limit);
        limit = end.2 - APART;
    }
    html! {
        @for (number, x, y) in ends {
            text.end.(run_class(number)) x=(round(x + 7.0)) y=(round(y + 4.0)) { (number) }
        }
    }
}

/// A tenth of a pixel is as exact as anybody sees.
pub(crate) fn round(position: f64) -> f64 {
    (position * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_cannot_end_their_script_element() {
        let row = (1, "</script><script>alert(1)<!--".to_owned(), vec![1.0]);
        let stop = Stop { x: 0.0, title: String::new(), rows: vec![row] };
        let text = json(&Readings { top: 0.0, bottom: 1.0, stops: vec![stop] });
        assert!(!text.contains('<'), "{text}");
    }

    #[test]
    fn labels_of_ends_that_coincide_stand_apart_and_within_the_plot() {
        let text = end_labels(vec![(1, 0.0, 99.0), (2, 0.0, 99.0)], 0.0, 100.0).into_string();
        assert!(text.contains(r#"y="104""#) && text.contains(r#"y="90""#), "{text}");
    }
}
