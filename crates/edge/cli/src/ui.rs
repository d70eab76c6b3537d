//! Standard output and standard error. Everything that is printed passes here, so that tests see it, and so that
//! text of an engine cannot send commands to the terminal.

use std::borrow::Cow;
use std::io::{self, Write};
use std::os::fd::AsFd;

/// The width for which help and progress are laid out when nothing is known.
const DEFAULT_WIDTH: usize = 80;

/// Where output goes.
pub(crate) struct Ui {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    out_width: Option<usize>,
    err_width: Option<usize>,
}

impl Ui {
    /// The streams of this process.
    pub(crate) fn new() -> Self {
        Self {
            out: Box::new(io::LineWriter::new(Raw(1))),
            err: Box::new(Raw(2)),
            out_width: width_of(rustix::stdio::stdout()),
            err_width: width_of(rustix::stdio::stderr()),
        }
    }

    /// Whether output goes to a terminal.
    pub(crate) fn out_is_terminal(&self) -> bool {
        self.out_width.is_some()
    }

    /// The width of the terminal, or 80.
    pub(crate) fn width(&self) -> usize {
        self.out_width
            .filter(|width| *width > 0)
            .unwrap_or(DEFAULT_WIDTH)
    }

    /// The width of the terminal behind one of the streams, when it is one.
    pub(crate) fn terminal_width(&self, stream: Output) -> Option<usize> {
        match stream {
            Output::Out => self.out_width,
            Output::Err => self.err_width,
        }
    }

    /// Prints text that is ours or has been made safe. A reader that has gone away is no error.
    pub(crate) fn print(&mut self, text: &str) {
        self.write(Output::Out, text.as_bytes());
    }

    /// Prints a line.
    pub(crate) fn line(&mut self, text: &str) {
        self.print(&format!("{text}\n"));
    }

    /// Prints a line on standard error, made safe.
    pub(crate) fn complain(&mut self, text: &str) {
        let line = format!("{}\n", safe_lines(text));
        self.write(Output::Err, line.as_bytes());
    }

    /// Prints bytes as they are.
    pub(crate) fn write(&mut self, stream: Output, bytes: &[u8]) {
        let writer = match stream {
            Output::Out => &mut self.out,
            Output::Err => &mut self.err,
        };
        // Nobody is left to be told that nobody reads.
        writer.write_all(bytes).and_then(|()| writer.flush()).ok();
    }
}

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Out,
    Err,
}

/// Unbuffered writing to descriptor 1 or 2.
struct Raw(u8);

impl Write for Raw {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fd = if self.0 == 1 {
            rustix::stdio::stdout()
        } else {
            rustix::stdio::stderr()
        };
        Ok(rustix::io::retry_on_intr(|| rustix::io::write(fd, bytes))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn width_of(fd: impl AsFd) -> Option<usize> {
    rustix::termios::isatty(&fd).then(|| {
        rustix::termios::tcgetwinsize(&fd).map_or(DEFAULT_WIDTH, |size| usize::from(size.ws_col))
    })
}

/// The text with everything that a terminal would obey made visible. For one cell or line.
pub(crate) fn safe(text: &str) -> Cow<'_, str> {
    escape(text, is_command)
}

/// The same for text of several lines.
pub(crate) fn safe_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| is_command(c) && c != '\n' && c != '\t')
}

fn escape(text: &str, unsafe_char: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&unsafe_char) {
        return Cow::Borrowed(text);
    }
    let visible = |c: char| {
        if unsafe_char(c) {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    Cow::Owned(text.chars().map(visible).collect())
}

/// Control characters, and characters that turn the direction of writing or hide themselves.
fn is_command(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
pub(crate) mod testing {
    //! A [`Ui`] that keeps what is printed.

    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::Ui;

    #[derive(Clone, Default)]
    pub(crate) struct Capture(Arc<Mutex<Vec<u8>>>);

    impl Capture {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Capture {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Output and errors; `width` makes both terminals of that width.
    pub(crate) fn captured(width: Option<usize>) -> (Ui, Capture, Capture) {
        let (out, err) = (Capture::default(), Capture::default());
        let ui = Ui {
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
            out_width: width,
            err_width: width,
        };
        (ui, out, err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_not_commanded() {
        assert_eq!(safe("plain ünïcode"), "plain ünïcode");
        assert_eq!(
            safe("a\x1b]0;evil\x07b\nc\u{9b}31m\u{202e}"),
            "a\\u{1b}]0;evil\\u{7}b\\nc\\u{9b}31m\\u{202e}"
        );
        assert_eq!(safe_lines("a\n\tb\x1b"), "a\n\tb\\u{1b}");
    }
}
