//! Questions to the person at the terminal.

use std::io::{BufRead as _, Read as _};

use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::terminal::HiddenInput;

/// Asks; only `y` and `yes` mean yes.
pub(crate) fn confirm(app: &mut App, question: &str) -> Outcome<bool> {
    app.ui.print(&format!("{question} [y/N] "));
    let answer = line()?.unwrap_or_default();
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Asks for a word.
pub(crate) fn ask(app: &mut App, question: &str) -> Outcome<String> {
    app.ui.print(question);
    Ok(line()?.unwrap_or_default().trim().to_owned())
}

/// Asks for a word that is not shown while it is typed.
pub(crate) fn ask_hidden(app: &mut App, question: &str) -> Outcome<String> {
    app.ui.print(question);
    let hidden = HiddenInput::set().map_err(|error| Failure::new(error.to_string()))?;
    let answer = line();
    drop(hidden);
    app.ui.print("\n");
    Ok(answer?.unwrap_or_default().trim().to_owned())
}

/// All of standard input, without the end of its last line.
pub(crate) fn secret_from_input() -> Outcome<String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(format!("failed to read standard input: {error}")))?;
    let trimmed = text
        .strip_suffix("\r\n")
        .or_else(|| text.strip_suffix(['\n', '\r']))
        .unwrap_or(&text);
    Ok(trimmed.to_owned())
}

/// One line of standard input; `None` at its end.
fn line() -> Outcome<Option<String>> {
    let mut text = String::new();
    let read = std::io::stdin().lock().read_line(&mut text);
    match read {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(text)),
        Err(error) => Err(Failure::new(format!(
            "failed to read standard input: {error}"
        ))),
    }
}
