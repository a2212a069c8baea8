//! A run's curves as a picture.

use std::fmt::Write;

use crate::{EpochReport, RunReport};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
/// Left, top, right, bottom.
const MARGIN: [f64; 4] = [56.0, 28.0, 56.0, 40.0];
const TRAIN: &str = "#2563eb";
const VALIDATION: &str = "#dc2626";

/// Loss (left, logarithmic, full lines) and accuracy (right, dashed) of training and validation by epoch, as an SVG.
#[must_use]
pub fn curve_svg(report: &RunReport, title: &str) -> String {
    let epochs = &report.epochs;
    let losses: Vec<f64> = series(epochs, |e| Some(e.train.loss))
        .chain(series(epochs, |e| e.validation.map(|v| v.loss)))
        .filter(|(_, l)| *l > 0.0)
        .map(|(_, l)| l.log10())
        .collect();
    let low = losses.iter().copied().fold(f64::INFINITY, f64::min) - 0.05;
    let high = losses.iter().copied().fold(f64::NEG_INFINITY, f64::max) + 0.05;
    let (low, high) = if low < high { (low, high) } else { (-1.0, 1.0) };
    let [left, top, right, bottom] = MARGIN;
    let x =
        |epoch: f64| left + (WIDTH - left - right) * epoch / (epochs.len() as f64 - 1.0).max(1.0);
    let y = |share: f64| HEIGHT - bottom - (HEIGHT - top - bottom) * share.clamp(0.0, 1.0);
    let by_loss = |l: f64| y((l.max(1e-30).log10() - low) / (high - low));
    // Accuracies of a good run crowd at the top: the axis starts below all but the first ones.
    let accuracies =
        series(epochs, |e| e.train.accuracy).chain(series(epochs, |e| e.validation?.accuracy));
    let settled = accuracies.filter(|(epoch, _)| *epoch >= 2.0).map(|(_, a)| a).fold(0.9, f64::min);
    let worst = (settled * 10.0).floor() / 10.0;
    let by_accuracy = |a: f64| y((a - worst) / (1.0 - worst));

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{left}\" y=\"16\" font-size=\"13\">{}</text>\n",
        escaped(title)
    );
    for loss in ticks(low, high) {
        let at = by_loss(loss);
        grid(&mut svg, at);
        text(&mut svg, left - 6.0, at + 4.0, "end", &loss.to_string());
    }
    for k in 0..=4 {
        let accuracy = worst + (1.0 - worst) * f64::from(k) / 4.0;
        text(
            &mut svg,
            WIDTH - right + 6.0,
            by_accuracy(accuracy) + 4.0,
            "start",
            &format!("{:.1}%", accuracy * 100.0),
        );
    }
    let step = (epochs.len() / 8).max(1);
    for epoch in (0..epochs.len()).step_by(step) {
        text(&mut svg, x(epoch as f64), HEIGHT - bottom + 16.0, "middle", &(epoch + 1).to_string());
    }
    text(
        &mut svg,
        WIDTH / 2.0,
        HEIGHT - 6.0,
        "middle",
        "epoch  (full: loss, left; dashed: accuracy, right)",
    );
    line(
        &mut svg,
        TRAIN,
        "",
        series(epochs, |e| Some(e.train.loss)).map(|(e, l)| (x(e), by_loss(l))),
    );
    line(
        &mut svg,
        VALIDATION,
        "",
        series(epochs, |e| e.validation.map(|v| v.loss)).map(|(e, l)| (x(e), by_loss(l))),
    );
    let dash = " stroke-dasharray=\"5 3\"";
    line(
        &mut svg,
        TRAIN,
        dash,
        series(epochs, |e| e.train.accuracy).map(|(e, a)| (x(e), by_accuracy(a))),
    );
    line(
        &mut svg,
        VALIDATION,
        dash,
        series(epochs, |e| e.validation?.accuracy).map(|(e, a)| (x(e), by_accuracy(a))),
    );
    let best = x(report.best_epoch as f64);
    let _ = writeln!(
        svg,
        "<line x1=\"{best:.1}\" x2=\"{best:.1}\" y1=\"{top}\" y2=\"{:.1}\" stroke=\"#9ca3af\" stroke-dasharray=\"2 3\"/>",
        HEIGHT - bottom
    );
    text(
        &mut svg,
        WIDTH - right,
        16.0,
        "end",
        "blue: training, red: validation, dotted: the weights kept",
    );
    svg.push_str("</svg>\n");
    svg
}

/// Points `(epoch, value)` where there is a finite value.
fn series<'a>(
    epochs: &'a [EpochReport],
    value: impl Fn(&EpochReport) -> Option<f64> + 'a,
) -> impl Iterator<Item = (f64, f64)> + 'a {
    epochs
        .iter()
        .enumerate()
        .filter_map(move |(i, e)| Some((i as f64, value(e).filter(|v| v.is_finite())?)))
}

/// Round numbers between two powers of ten, not too many.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let steps: &[f64] = match high - low {
        d if d < 0.8 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
        d if d < 3.0 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let powers = low.floor() as i32..=high.ceil() as i32;
    let all = powers
        .flat_map(|p| steps.iter().map(move |&s| format!("{s}e{p}").parse::<f64>().unwrap_or(s)));
    all.filter(|x| (low..=high).contains(&x.log10())).collect()
}

fn grid(svg: &mut String, y: f64) {
    let [left, _, right, _] = MARGIN;
    let _ = writeln!(
        svg,
        "<line x1=\"{left}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#e5e7eb\"/>",
        WIDTH - right
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#374151\">{}</text>",
        escaped(text)
    );
}

fn line(svg: &mut String, colour: &str, extra: &str, points: impl Iterator<Item = (f64, f64)>) {
    let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    if !points.is_empty() {
        let points = points.join(" ");
        let _ = writeln!(
            svg,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"{extra}/>"
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Average;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(-1.0, 1.0), [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]);
        assert_eq!(ticks(-3.2, 0.1), [1e-3, 1e-2, 0.1, 1.0]);
        assert_eq!(ticks(-0.3, 0.3), [0.6, 0.8, 1.0, 1.5]);
    }

    #[test]
    fn points_stay_inside_of_the_picture() {
        let at = |loss, accuracy| Average { loss, accuracy: Some(accuracy), count: 1 };
        let epochs = (0..5)
            .map(|i| EpochReport {
                train: at(10f64.powi(-i), 0.5 + 0.1 * f64::from(i)),
                validation: (i > 0).then(|| at(f64::from(i), 0.9)),
                lr: 0.1,
            })
            .collect();
        let report = RunReport {
            train: at(0.1, 0.9),
            epochs,
            skipped: 0,
            steps: 5,
            best_epoch: 3,
            stopped: None,
            throughput: 1.0,
        };
        let svg = curve_svg(&report, "a < b");
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"));
        let lines: Vec<&str> = svg.lines().filter(|l| l.starts_with("<polyline")).collect();
        assert_eq!(lines.len(), 4);
        for line in lines {
            let points = line.split('"').nth(1).unwrap();
            for point in points.split(' ') {
                let (x, y) = point.split_once(',').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!(
                    (MARGIN[0]..=WIDTH - MARGIN[2]).contains(&x)
                        && (MARGIN[1]..=HEIGHT - MARGIN[3]).contains(&y)
                );
            }
        }
    }
}
