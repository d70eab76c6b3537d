//! `login` and `logout`.

use crate::app::App;
use crate::auth::{self, Credentials, HUB_KEY};
use crate::failure::{Failure, Outcome};
use crate::flags::Matches;
use crate::ui::safe;
use crate::{prompt, terminal};

/// `login [SERVER]`
pub(super) async fn login(app: &mut App, matches: &Matches) -> Outcome {
    check_flags(matches)?;
    let mut user = matches.text_or_empty("username").trim().to_owned();
    let mut password = matches.text_or_empty("password").to_owned();
    if !password.is_empty() {
        app.ui
            .complain("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    if matches.on("password-stdin") {
        password = prompt::secret_from_input()?;
        if password.trim().is_empty() {
            return Err(Failure::new("password is empty"));
        }
    }
    let server = match matches.args.first().map(String::as_str) {
        None | Some("" | "docker.io") => HUB_KEY,
        Some(server) => auth::host_of(server),
    };
    let stored = if user.is_empty() && password.is_empty() {
        auth::get(&app.config, &app.environment, server)?
    } else {
        None
    };
    if let Some(stored) = stored.filter(|stored| !stored.password.is_empty()) {
        app.ui.complain(&format!(
            "Authenticating with existing credentials... [Username: {}]",
            stored.user
        ));
        match send(app, &stored).await {
            Ok(()) => return Ok(()),
            Err(failure) => app.ui.complain(&format!(
                "Login did not succeed, error: {}",
                failure.message
            )),
        }
        user.clone_from(&stored.user);
    }
    if (user.is_empty() || password.is_empty()) && !terminal::stdin_is_terminal() {
        return Err(Failure::new(
            "Error: Cannot perform an interactive login from a non TTY device",
        ));
    }
    if user.is_empty() || !matches.has("username") {
        user = ask_user(app, &user)?;
    }
    if password.is_empty() {
        password = prompt::ask_hidden(app, "Password: ")?;
        if password.is_empty() {
            return Err(Failure::new("error: password is required"));
        }
    }
    let credentials = Credentials {
        server: server.to_owned(),
        user,
        password,
        ..Credentials::default()
    };
    send(app, &credentials).await
}

fn check_flags(matches: &Matches) -> Outcome {
    if matches.on("password-stdin") {
        if matches.has("password") {
            return Err(Failure::new(
                "conflicting options: cannot specify both --password and --password-stdin",
            ));
        }
        if matches.text_or_empty("username").is_empty() {
            return Err(Failure::new(
                "Must provide --username with --password-stdin",
            ));
        }
    }
    for flag in ["username", "password"] {
        if matches.has(flag) && matches.text_or_empty(flag).is_empty() {
            return Err(Failure::new(format!("{flag} is empty")));
        }
    }
    Ok(())
}

fn ask_user(app: &mut App, known: &str) -> Outcome<String> {
    let question = if known.is_empty() {
        "Username: ".to_owned()
    } else {
        format!("Username ({known}): ")
    };
    let answer = prompt::ask(app, &question)?;
    let user = if answer.is_empty() {
        known.to_owned()
    } else {
        answer
    };
    if user.is_empty() {
        return Err(Failure::new("error: username is required"));
    }
    Ok(user)
}

/// Asks the engine to try them, and keeps them when they are right.
async fn send(app: &mut App, credentials: &Credentials) -> Outcome {
    let client = std::rc::Rc::clone(&app.client);
    let answer = client.login(&credentials.to_json()).await?;
    let mut kept = credentials.clone();
    if !answer.identity_token.is_empty() {
        kept.password.clear();
        kept.identity_token = answer.identity_token;
    }
    if auth::store(app, &kept)? {
        let path = app.config.path().to_owned();
        app.ui.complain(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{path}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n"
        ));
    }
    if !answer.status.is_empty() {
        app.ui.line(&safe(&answer.status));
    }
    Ok(())
}

/// `logout [SERVER]`
pub(super) fn logout(app: &mut App, matches: &Matches) -> Outcome {
    let named = matches
        .args
        .first()
        .map(String::as_str)
        .filter(|server| !server.is_empty());
    let (host, keys) = match named {
        None => (HUB_KEY.to_owned(), vec![HUB_KEY.to_owned()]),
        Some(server) => {
            // Older programs kept the same registry under other spellings.
            let host = auth::host_of(server).to_owned();
            let keys = vec![
                server.to_owned(),
                host.clone(),
                format!("http://{host}"),
                format!("https://{host}"),
            ];
            (host, keys)
        }
    };
    app.ui
        .line(&format!("Removing login credentials for {}", safe(&host)));
    let mut failures = Vec::new();
    for key in &keys {
        if let Err(failure) = auth::erase(app, key) {
            failures.push(format!("{key}: {}", failure.message));
        }
    }
    if failures.len() == keys.len() {
        app.ui.complain(&format!(
            "WARNING: could not erase credentials:\n{}",
            failures.join("\n")
        ));
    }
    Ok(())
}
