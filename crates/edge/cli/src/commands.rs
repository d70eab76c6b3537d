//! One function for each command.

mod attach;
mod checkpoint;
mod commit;
mod containers;
mod cp;
mod disk_usage;
mod events;
mod exec;
mod images;
mod info;
mod inspect;
mod login;
mod logs;
mod manage;
mod network;
mod prune;
mod ps;
mod pull;
mod run;
mod stats;
mod version;

use crate::app::App;
use crate::complete;
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
        Action::CheckpointCreate => checkpoint::create(app, matches).await,
        Action::CheckpointList => checkpoint::list(app, matches).await,
        Action::CheckpointRemove => checkpoint::remove(app, matches).await,
        Action::Commit => commit::commit(app, matches).await,
        Action::Complete => complete::complete(app, &matches.args).await,
        Action::Completion => complete::script(app, matches),
        Action::Cp => cp::cp(app, matches).await,
        Action::Create => run::create(app, command, path, matches).await,
        Action::Diff => manage::diff(app, matches).await,
        Action::DiskUsage => disk_usage::show(app, matches).await,
        Action::Events => events::events(app, matches).await,
        Action::Exec => exec::exec(app, command, path, matches).await,
        Action::Export => manage::export(app, matches).await,
        Action::Images => images::list(app, matches).await,
        Action::Import => images::import(app, matches).await,
        Action::Info => info::info(app, matches).await,
        Action::Inspect => inspect::any(app, matches).await,
        Action::InspectContainer => inspect::containers(app, matches).await,
        Action::InspectImage => inspect::images(app, matches).await,
        Action::Kill => containers::kill(app, matches).await,
        Action::Load => images::load(app, matches).await,
        Action::Login => login::login(app, matches).await,
        Action::Logout => login::logout(app, matches),
        Action::Logs => logs::logs(app, matches).await,
        Action::NetworkConnect => network::connect(app, matches).await,
        Action::NetworkCreate => network::create(app, matches).await,
        Action::NetworkDisconnect => network::disconnect(app, matches).await,
        Action::NetworkInspect => inspect::networks(app, matches).await,
        Action::NetworkList => network::list(app, matches).await,
        Action::NetworkPrune => network::prune(app, matches).await,
        Action::NetworkRemove => network::remove(app, matches).await,
        Action::Pause => manage::pause(app, matches, "pause").await,
        Action::Port => manage::port(app, matches).await,
        Action::Ps => ps::ps(app, matches).await,
        Action::PruneContainers => prune::containers(app, matches).await,
        Action::PruneSystem => prune::system(app, matches).await,
        Action::Pull => pull::pull(app, matches).await,
        Action::Rename => manage::rename(app, matches).await,
        Action::Restart => containers::restart(app, matches).await,
        Action::Rm => containers::remove(app, matches).await,
        Action::Rmi => images::remove(app, matches).await,
        Action::Run => run::run(app, command, path, matches).await,
        Action::Start => attach::start(app, matches).await,
        Action::Stats => stats::stats(app, matches).await,
        Action::Stop => containers::stop(app, matches).await,
        Action::Tag => images::tag(app, matches).await,
        Action::Top => manage::top(app, matches).await,
        Action::Unpause => manage::pause(app, matches, "unpause").await,
        Action::Update => manage::update(app, matches).await,
        Action::Version => version::version(app, matches).await,
        Action::Wait => containers::wait(app, matches).await,
        Action::Why => manage::why(app, matches).await,
    }
}
