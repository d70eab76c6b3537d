//! One function for each command.

mod attach;
mod containers;
mod events;
mod exec;
mod images;
mod info;
mod inspect;
mod logs;
mod ps;
mod pull;
mod run;
mod version;

use crate::app::App;
use crate::failure::Outcome;
use crate::flags::Matches;
use crate::spec::{Action, Command};

pub(crate) use version::line as version_line;

/// Runs a command whose flags have been checked.
pub(crate) async fn run(
    app: &mut App,
    command: &Command,
    path: &str,
    matches: &Matches,
) -> Outcome {
    match command.action {
        Action::Attach => attach::attach(app, matches).await,
        Action::Create => run::create(app, command, path, matches).await,
        Action::Events => events::events(app, matches).await,
        Action::Exec => exec::exec(app, command, path, matches).await,
        Action::Images => images::list(app, matches).await,
        Action::Import => images::import(app, matches).await,
        Action::Info => info::info(app, matches).await,
        Action::Inspect => inspect::any(app, matches).await,
        Action::InspectContainer => inspect::containers(app, matches).await,
        Action::InspectImage => inspect::images(app, matches).await,
        Action::Kill => containers::kill(app, matches).await,
        Action::Load => images::load(app, matches).await,
        Action::Logs => logs::logs(app, matches).await,
        Action::Ps => ps::ps(app, matches).await,
        Action::Pull => pull::pull(app, matches).await,
        Action::Restart => containers::restart(app, matches).await,
        Action::Rm => containers::remove(app, matches).await,
        Action::Rmi => images::remove(app, matches).await,
        Action::Run => run::run(app, command, path, matches).await,
        Action::Start => attach::start(app, matches).await,
        Action::Stop => containers::stop(app, matches).await,
        Action::Tag => images::tag(app, matches).await,
        Action::Version => version::version(app, matches).await,
        Action::Wait => containers::wait(app, matches).await,
    }
}
