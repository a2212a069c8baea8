//! A look at a schedule before it is used.

use alloc::{format, string::String, vec::Vec};

use num_traits::Float;

use crate::Schedule;

/// The schedule's first `steps` as `width` bars between its lowest and its highest value there.
///
/// The first and the last step are always among those shown; there are never more bars than steps. A
/// value that is not finite is a `?`.
///
/// ```
/// use gradus_schedule::{sparkline, warmup_cosine};
/// let lr = warmup_cosine(0.1, 200, 1000)?;
/// assert_eq!(sparkline(&lr, 1000, 20), "▁▃▅▆███▇▇▆▆▅▄▃▃▂▂▁▁▁");
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[must_use]
pub fn sparkline(schedule: &dyn Schedule, steps: u64, width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values = samples(schedule, steps, width);
    let (low, high) = bounds(&values);
    let bar = |&(_, value): &(u64, f64)| {
        if !value.is_finite() {
            return '?';
        }
        // Halves first: the difference of two finite numbers may not be finite.
        let height = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
        BARS[if low < high { Float::round(height * 7.0) as usize } else { 0 }]
    };
    values.iter().map(bar).collect()
}

/// The schedule's first `steps` as an SVG image of its curve, its extremes and its last step named.
///
/// It is one self-contained element, 640 by 200, in the colour of the text around it. Values that are not
/// finite are left out.
///
/// ```
/// use gradus_schedule::{svg, warmup_cosine};
/// let image = svg(&warmup_cosine(0.1, 200, 1000)?, 1000);
/// assert!(image.starts_with("<svg ") && image.ends_with("</svg>\n"));
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[must_use]
pub fn svg(schedule: &dyn Schedule, steps: u64) -> String {
    let mut values = samples(schedule, steps, 560);
    values.retain(|(_, value)| value.is_finite());
    let (low, high) = bounds(&values);
    let last = steps.saturating_sub(1);
    let mut points = String::new();
    for &(step, value) in &values {
        let x = 70.0 + 560.0 * (step as f64 / last.max(1) as f64);
        let height = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
        let y = 170.0 - 155.0 * if low < high { height } else { 0.5 };
        points.push_str(&format!("{x:.1},{y:.1} "));
    }
    let text = |x: u32, y: u32, anchor: &str, text: &str| {
        format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>\n")
    };
    let (mut labels, number) = (String::new(), |x: f64| format!("{x:.3e}"));
    if !values.is_empty() {
        labels += &text(64, 20, "end", &number(high));
        labels += &text(64, 174, "end", &number(low));
        labels += &text(70, 190, "start", "0");
        labels += &text(630, 190, "end", &format!("{last}"));
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 200\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"currentColor\">\n\
         <polyline fill=\"none\" stroke=\"currentColor\" points=\"{}\"/>\n{labels}</svg>\n",
        points.trim_end()
    )
}

/// At most `rows` of the schedule's first `steps`, evenly spread, as CSV with the columns `step` and `value`.
///
/// Numbers are written so that they are read back as the same number.
///
/// ```
/// use gradus_schedule::{Linear, csv};
/// assert_eq!(csv(&Linear::new(0.3, 0.1, 2)?, 3, 100), "step,value\n0,0.3\n1,0.2\n2,0.1\n");
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[must_use]
pub fn csv(schedule: &dyn Schedule, steps: u64, rows: usize) -> String {
    let row = |(step, value)| format!("{step},{value}\n");
    let rows = samples(schedule, steps, rows).into_iter().map(row);
    core::iter::once(String::from("step,value\n")).chain(rows).collect()
}

/// At most `count` steps, evenly spread over the first `steps`, with their values.
fn samples(schedule: &dyn Schedule, steps: u64, count: usize) -> Vec<(u64, f64)> {
    let (count, last) = ((count as u64).min(steps), steps.saturating_sub(1));
    let step = |i: u64| {
        let spread = u128::from(i) * u128::from(last) / u128::from((count - 1).max(1));
        spread as u64
    };
    (0..count).map(step).map(|step| (step, schedule.value(step))).collect()
}

/// The lowest and the highest finite value.
fn bounds(values: &[(u64, f64)]) -> (f64, f64) {
    let finite = values.iter().map(|&(_, value)| value).filter(|value| value.is_finite());
    finite.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Constant, Linear, from_fn};

    #[test]
    fn bars_from_the_lowest_to_the_highest() {
        let line = Linear::new(0.8, 0.1, 7).unwrap();
        assert_eq!(sparkline(&line, 8, 8), "█▇▆▅▄▃▂▁");
        assert_eq!(sparkline(&line, 8, 100), "█▇▆▅▄▃▂▁");
        assert_eq!(sparkline(&line, 8, 2), "█▁");
        assert_eq!(sparkline(&line, 8, 1), "▁");
        assert_eq!(sparkline(&Constant::new(0.1).unwrap(), 100, 3), "▁▁▁");
        assert_eq!(sparkline(&line, u64::MAX, 4), "█▁▁▁");
        assert_eq!(
            (sparkline(&line, 0, 5), sparkline(&line, 5, 0)),
            (String::new(), String::new())
        );
        let holes = from_fn(|t| [f64::NAN, 0.0, f64::MAX, f64::MIN][t as usize]);
        assert_eq!(sparkline(&holes, 4, 4), "?▅█▁");
    }

    #[test]
    fn rows_are_spread_over_the_steps() {
        let line = Linear::new(1.0, 0.0, 100).unwrap();
        assert_eq!(csv(&line, 101, 3), "step,value\n0,1\n50,0.5\n100,0\n");
        assert_eq!(csv(&line, 0, 3), "step,value\n");
    }

    #[test]
    fn an_svg_has_a_point_a_step() {
        let image = svg(&Linear::new(1.0, 0.0, 4).unwrap(), 5);
        assert!(image.contains("70.0,15.0 210.0,53.8 350.0,92.5 490.0,131.2 630.0,170.0\""));
        assert!(image.contains(">1.000e0</text>") && image.contains(">4</text>"), "{image}");
        let nothing = svg(&from_fn(|_| f64::NAN), 5);
        assert!(nothing.contains("points=\"\"") && !nothing.contains("text "), "{nothing}");
        assert!(svg(&Constant::new(0.1).unwrap(), 1).contains("points=\"70.0,92.5\""));
    }
}
