//! The terminal that this program runs on: raw mode, and the way back.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::termios::{self, OptionalActions, Termios};

/// Raw mode of standard input until dropped.
#[derive(Debug)]
pub(crate) struct RawMode {
    before: Option<Termios>,
}

impl RawMode {
    /// Changes nothing.
    pub(crate) const fn set_nothing() -> Self {
        Self { before: None }
    }

    /// Sets raw mode when standard input is a terminal; else does nothing.
    pub(crate) fn set() -> rustix::io::Result<Self> {
        let stdin = rustix::stdio::stdin();
        if !termios::isatty(stdin) {
            return Ok(Self { before: None });
        }
        let before = termios::tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdin, OptionalActions::Now, &raw)?;
        Ok(Self {
            before: Some(before),
        })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            // A terminal that is gone needs no repair.
            termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &before).ok();
        }
    }
}

/// Whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    termios::isatty(rustix::stdio::stdin())
}

/// Rows and columns of the terminal behind standard output, or else standard input.
pub(crate) fn size() -> Option<(u16, u16)> {
    let of = |fd: BorrowedFd<'_>| termios::tcgetwinsize(fd.as_fd()).ok();
    let size = of(rustix::stdio::stdout()).or_else(|| of(rustix::stdio::stdin()))?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// What is typed on standard input is not shown until this is dropped.
#[derive(Debug)]
pub(crate) struct HiddenInput {
    _restore: RawMode,
}

impl HiddenInput {
    /// Hides it when standard input is a terminal; else does nothing.
    pub(crate) fn set() -> rustix::io::Result<Self> {
        let stdin = rustix::stdio::stdin();
        if !termios::isatty(stdin) {
            return Ok(Self {
                _restore: RawMode::set_nothing(),
            });
        }
        let before = termios::tcgetattr(stdin)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(termios::LocalModes::ECHO);
        termios::tcsetattr(stdin, OptionalActions::Now, &hidden)?;
        Ok(Self {
            _restore: RawMode {
                before: Some(before),
            },
        })
    }
}
