//! Shows how a pull or load goes on: on a terminal one line for each layer, redrawn in place; else a line whenever a
//! layer reaches a new state, and no bars.

use std::collections::HashMap;

use havre_client::JsonLines;
use havre_engine_types::{JsonMessage, ProgressDetail};
use havre_types::{Timestamp, duration, size};

use crate::failure::{Failure, Outcome};
use crate::ui::{Output, Ui, safe, safe_lines};

/// Draws the messages of one stream.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The width of the terminal; `None` when it is none.
    width: Option<usize>,
    /// The line of each layer, counted from the first.
    lines: HashMap<String, usize>,
}

/// Shows a whole stream. An error in the stream ends it and becomes the failure.
pub(crate) async fn show(
    ui: &mut Ui,
    output: Output,
    stream: &mut JsonLines<JsonMessage>,
) -> Outcome {
    let mut progress = Progress::new(ui.terminal_width(output));
    while let Some(message) = stream.next().await? {
        if let Some(failure) = failure_of(&message) {
            return Err(failure);
        }
        let text = progress.draw(&message, Timestamp::now());
        ui.write(output, text.as_bytes());
    }
    Ok(())
}

/// Reads a whole stream without showing it.
pub(crate) async fn skip(stream: &mut JsonLines<JsonMessage>) -> Outcome {
    while let Some(message) = stream.next().await? {
        if let Some(failure) = failure_of(&message) {
            return Err(failure);
        }
    }
    Ok(())
}

fn failure_of(message: &JsonMessage) -> Option<Failure> {
    let detail = message
        .error_detail
        .as_ref()
        .map(|detail| detail.message.clone());
    let text = detail
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| message.error.clone());
    (!text.is_empty()).then(|| Failure::new(text))
}

impl Progress {
    fn new(width: Option<usize>) -> Self {
        Self {
            width,
            lines: HashMap::new(),
        }
    }

    /// The bytes that show one message.
    fn draw(&mut self, message: &JsonMessage, now: Timestamp) -> String {
        if !message.stream.is_empty() {
            return safe_lines(&message.stream).into_owned();
        }
        let Some(width) = self.width else {
            return self.plain(message);
        };
        let bar = message
            .progress_detail
            .as_ref()
            .map(|detail| bar(detail, width, now))
            .unwrap_or_default();
        let status = safe(&message.status);
        if message.id.is_empty() {
            if status.is_empty() {
                return String::new();
            }
            // A line without an id ends the block of layers: what follows begins a new one.
            self.lines.clear();
            return format!("{status} {bar}").trim_end().to_owned() + "\r\n";
        }
        let layer = safe(&message.id);
        let text = if bar.is_empty() {
            format!("{layer}: {status}")
        } else {
            format!("{layer}: {status} {bar}")
        };
        let count = self.lines.len();
        let line = *self.lines.entry(message.id.clone()).or_insert(count);
        if line == count {
            return format!("\x1b[2K\r{text} \r\n");
        }
        let up = count - line;
        format!("\x1b[{up}A\x1b[2K\r{text} \r\x1b[{up}B")
    }

    /// Without a terminal: states of layers, but not their progress.
    fn plain(&self, message: &JsonMessage) -> String {
        let counting = message
            .progress_detail
            .as_ref()
            .is_some_and(|detail| detail.current > 0 || detail.total > 0);
        let status = safe(&message.status);
        match (message.id.is_empty(), counting || status.is_empty()) {
            (_, true) => String::new(),
            (true, false) => format!("{status}\n"),
            (false, false) => format!("{}: {status}\n", safe(&message.id)),
        }
    }
}

/// `[====>    ]  1.2MB/3.4MB`, as moby draws it
/// (<https://github.com/moby/moby/blob/v28.2.2/pkg/jsonmessage/jsonmessage.go>).
fn bar(detail: &ProgressDetail, width: usize, now: Timestamp) -> String {
    let amount = |n: i64| match detail.units.as_str() {
        "" => size::human_decimal4(u64::try_from(n).unwrap_or(0)),
        units => format!("{n} {units}"),
    };
    let current = amount(detail.current);
    if detail.total <= 0 {
        return if detail.current <= 0 {
            String::new()
        } else {
            format!("{current:>8}")
        };
    }
    let done = detail.current.clamp(0, detail.total);
    let halves = usize::try_from(i128::from(done) * 50 / i128::from(detail.total)).unwrap_or(50);
    let mut text = String::new();
    if width > 110 {
        text = format!("[{}>{}] ", "=".repeat(halves), " ".repeat(50 - halves));
    }
    if !detail.hide_counts {
        let numbers = if detail.current > detail.total {
            format!("{current:>8}")
        } else {
            format!("{current:>8}/{}", amount(detail.total))
        };
        text.push_str(&numbers);
    }
    if detail.current > 0 && detail.start > 0 && halves < 50 && width > 50 {
        let since = now
            .since(Timestamp {
                secs: detail.start,
                nanos: 0,
            })
            .as_secs();
        let left = i128::from(since) * i128::from(detail.total - done) / i128::from(done.max(1));
        let seconds = i64::try_from(left).unwrap_or(0);
        text.push(' ');
        text.push_str(&duration::format_go(seconds.saturating_mul(1_000_000_000)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(id: &str, status: &str, current: i64, total: i64) -> JsonMessage {
        let detail = ProgressDetail {
            current,
            total,
            ..ProgressDetail::default()
        };
        JsonMessage {
            progress_detail: Some(detail),
            ..JsonMessage::layer(id, status)
        }
    }

    fn draw(width: Option<usize>, messages: &[JsonMessage]) -> String {
        let mut progress = Progress::new(width);
        messages
            .iter()
            .map(|message| progress.draw(message, Timestamp::ZERO))
            .collect()
    }

    #[test]
    fn a_pull_without_terminal_shows_states() {
        let messages = [
            JsonMessage {
                id: "12".to_owned(),
                ..JsonMessage::status("Pulling from library/debian")
            },
            layer("aa", "Pulling fs layer", 0, 0),
            layer("aa", "Downloading", 5, 10),
            layer("aa", "Pull complete", 0, 0),
            JsonMessage::status("Status: Downloaded newer image for debian:12"),
        ];
        insta::assert_snapshot!(draw(None, &messages), @"
        12: Pulling from library/debian
        aa: Pulling fs layer
        aa: Pull complete
        Status: Downloaded newer image for debian:12
        ");
    }

    #[test]
    fn a_pull_on_a_terminal_redraws_lines() {
        let messages = [
            layer("aa", "Waiting", 0, 0),
            layer("bb", "Waiting", 0, 0),
            layer("aa", "Downloading", 5_000_000, 10_000_000),
            JsonMessage::status("Digest: sha256:x\x1b[2J"),
        ];
        insta::assert_snapshot!(draw(Some(120), &messages).escape_debug().to_string(), @r#"\u{1b}[2K\raa: Waiting \r\n\u{1b}[2K\rbb: Waiting \r\n\u{1b}[2A\u{1b}[2K\raa: Downloading [=========================>                         ]      5MB/10MB \r\u{1b}[2BDigest: sha256:x\\u{1b}[2J\r\n"#);
    }

    #[test]
    fn numbers_that_make_no_sense_do_no_harm() {
        for (current, total) in [
            (-5, 10),
            (20, 10),
            (i64::MAX, i64::MAX),
            (i64::MIN, i64::MIN),
            (5, 0),
        ] {
            draw(Some(200), &[layer("x", "Downloading", current, total)]);
        }
    }
}
