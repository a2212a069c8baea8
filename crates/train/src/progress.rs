//! Showing how a run goes.

use std::{
    fmt,
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::Average;

/// Where progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Shown {
    /// A bar on standard error where that is a terminal, plain lines otherwise.
    #[default]
    Auto,
    /// Plain lines on standard error, one an epoch.
    Lines,
    /// Nowhere.
    Nothing,
}

/// The progress of one run: loss, accuracy, learning rate, throughput and time left.
pub struct Progress {
    bar: Option<ProgressBar>,
    lines: bool,
    epochs: u64,
    start: Instant,
    done: u64,
    steps: u64,
    examples: usize,
}

impl Progress {
    /// A run of `steps` steps in `epochs` epochs that begins now.
    #[must_use]
    pub fn new(shown: Shown, epochs: u64, steps: u64) -> Self {
        let terminal = shown == Shown::Auto && std::io::stderr().is_terminal();
        let bar = terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        let lines = shown == Shown::Lines || (shown == Shown::Auto && !terminal);
        Self { bar, lines, epochs, start: Instant::now(), done: 0, steps, examples: 0 }
    }

    /// One step done, over `examples` examples.
    pub fn step(&mut self, epoch: u64, train: &Average, lr: f64, examples: usize) {
        self.done += 1;
        self.examples += examples;
        if let Some(bar) = &self.bar {
            bar.inc(1);
            bar.set_message(self.text(epoch, train, None, lr));
        }
    }

    /// One epoch done.
    pub fn epoch(
        &mut self,
        epoch: u64,
        train: &Average,
        validation: Option<&Average>,
        lr: f64,
        note: &str,
    ) {
        let text = format!("{}{note}", self.text(epoch, train, validation, lr));
        if let Some(bar) = &self.bar {
            bar.println(&text);
        }
        if self.lines {
            eprintln!("{text}");
        }
    }

    /// The run is over.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Examples in a second, over the whole run.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        self.examples as f64 / self.start.elapsed().as_secs_f64().max(1e-9)
    }

    /// Time left at the pace so far; none before the first step, nor for a run that would outlast all clocks.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let rest = self.steps.saturating_sub(self.done) as f64 / self.done as f64;
        // No number before the first step, none that a duration can hold for a run without an end.
        Duration::try_from_secs_f64(self.start.elapsed().as_secs_f64() * rest).ok()
    }

    fn text(&self, epoch: u64, train: &Average, validation: Option<&Average>, lr: f64) -> String {
        let percent =
            |a: &Average| a.accuracy.map_or(String::new(), |a| format!(" acc {:5.2}%", a * 100.0));
        let mut text = format!(
            "epoch {:>3}/{} | train loss {:.4}{}",
            epoch + 1,
            self.epochs,
            train.loss,
            percent(train)
        );
        if let Some(v) = validation {
            text += &format!(" | val loss {:.4}{}", v.loss, percent(v));
        }
        let left = self.left().map_or("?".into(), |d| format!("{:.0}s", d.as_secs_f64()));
        text + &format!(" | lr {lr:.2e} | {:.0} examples/s | {left} left", self.throughput())
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Progress({} of {} steps)", self.done, self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_loss_accuracy_rate_throughput_and_time_left() {
        let mut progress = Progress::new(Shown::Nothing, 10, 100);
        assert_eq!(progress.left(), None);
        let mut endless = Progress::new(Shown::Nothing, u64::MAX, u64::MAX);
        endless.start = Instant::now().checked_sub(Duration::from_secs(3)).unwrap_or(endless.start);
        endless.step(0, &Average::default(), 0.01, 1);
        assert_eq!(endless.left(), None);
        let train = Average { loss: 0.25, accuracy: Some(0.5), count: 8 };
        progress.step(0, &train, 0.01, 8);
        let text = progress.text(0, &train, Some(&train), 0.01);
        for part in [
            "epoch   1/10",
            "train loss 0.2500 acc 50.00%",
            "val loss 0.2500",
            "lr 1.00e-2",
            "examples/s",
            "s left",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
