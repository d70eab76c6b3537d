//! The line on a terminal that tells how much is copied.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use havre_types::size;

use crate::ui::{Output, Ui};

/// How often the line is drawn.
const TICK: Duration = Duration::from_millis(75);

/// A copy under way.
pub(super) struct Progress {
    header: &'static str,
    quiet: bool,
    count: Arc<AtomicU64>,
}

/// Counts the bytes of the archive.
pub(super) type Counter = Arc<AtomicU64>;

impl Progress {
    pub(super) fn new(header: &'static str, quiet: bool) -> Self {
        Self {
            header,
            quiet,
            count: Counter::default(),
        }
    }

    pub(super) fn counter(&self) -> Counter {
        Arc::clone(&self.count)
    }

    fn size(&self) -> String {
        size::human_decimal(self.count.load(Ordering::Relaxed))
    }

    /// Waits for the copy and draws meanwhile.
    pub(super) async fn watch<T>(&self, ui: &mut Ui, work: impl Future<Output = T>) -> T {
        if self.quiet || ui.terminal_width(Output::Err).is_none() {
            return work.await;
        }
        // Keep the place, hide the cursor.
        ui.write(
            Output::Err,
            format!("\x1b[s\x1b[?25l{}", self.header).as_bytes(),
        );
        let mut ticks = tokio::time::interval(TICK);
        tokio::pin!(work);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                _tick = ticks.tick() => {
                    let column = self.header.len() + 1;
                    let line = format!("\x1b[{column}G\x1b[0K{}", self.size());
                    ui.write(Output::Err, line.as_bytes());
                }
            }
        };
        ui.write(Output::Err, b"\x1b[?25h\x1b[u\x1b[2K");
        done
    }

    /// The last line.
    pub(super) fn finish(&self, ui: &mut Ui, destination: &str) {
        if !self.quiet {
            ui.complain(&format!(
                "Successfully copied {} to {destination}",
                self.size()
            ));
        }
    }
}
