//! Line plots as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 40.0;
/// Most points of a line: a pixel and a half each.
const MAX_POINTS: usize = 520;
const COLOURS: [&str; 5] = ["#1f6feb", "#d1242f", "#1a7f37", "#8250df", "#bf8700"];

/// A line of a plot.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    /// Seconds and values.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Draws lines over time, from zero.
pub(crate) fn plot(title: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let end = points().map(|point| point.0).fold(1.0, f64::max);
    let step = step(points().map(|point| point.1).fold(1.0, f64::max) / 4.0);
    let top = step * (points().map(|point| point.1).fold(1.0, f64::max) / step).ceil();
    let x = |seconds: f64| LEFT + (WIDTH - LEFT - RIGHT) * seconds / end;
    let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-weight=\"bold\">{title}</text>\n"
    );
    let mut value = 0.0;
    while value <= top + step / 2.0 {
        let (left, right, y) = (LEFT, WIDTH - RIGHT, y(value));
        let (text, below) = (LEFT - 6.0, y + 4.0);
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {y:.0}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{text}\" y=\"{below:.0}\" text-anchor=\"end\">{value}</text>"
        );
        value += step;
    }
    let minutes = self::step(end / 60.0 / 6.0);
    let mut minute = 0.0;
    while minute * 60.0 <= end {
        let (x, y) = (x(minute * 60.0), HEIGHT - BOTTOM + 18.0);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.0}\" y=\"{y}\" text-anchor=\"middle\">{minute} min</text>"
        );
        minute += minutes;
    }
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let left = LEFT + (WIDTH - LEFT) / COLOURS.len() as f64 * number as f64;
        let name = line.name;
        let _ = writeln!(
            svg,
            "<path d=\"M{left} 29h14\" stroke=\"{colour}\" stroke-width=\"3\"/>\
             <text x=\"{}\" y=\"33\">{name}</text>",
            left + 18.0
        );
        let every = line.points.len().div_ceil(MAX_POINTS).max(1);
        let points = line.points.chunks(every).map(|points| {
            // The highest of several, so that no peak is lost.
            let highest = points.iter().max_by(|a, b| a.1.total_cmp(&b.1));
            let (seconds, value) = highest.copied().unwrap_or_default();
            format!("{:.0} {:.0}", x(seconds), y(value))
        });
        let points: Vec<String> = points.collect();
        let _ = writeln!(
            svg,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\"/>",
            points.join("L")
        );
    }
    svg + "</svg>\n"
}

/// Returns the next of 1, 2 and 5 times a power of ten.
fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let factor = factors.into_iter().find(|factor| factor * power >= least);
    factor.unwrap_or(10.0) * power
}
