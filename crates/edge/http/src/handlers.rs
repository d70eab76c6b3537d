//! The handlers: a request's parameters to a call of the engine, its result to an answer. They hold no
//! state and decide nothing that the engine could.

mod archive;
mod auth;
mod checkpoints;
mod containers;
mod execs;
mod images;
mod lifecycle;
mod monitor;
mod networks;
mod output;
mod shape;
mod system;
mod usage;

use crate::call::Call;
use crate::reply::Reply;
use crate::route::Action;

/// Runs the handler of `action`.
pub(crate) async fn run(action: Action, call: Call) -> Reply {
    match action {
        Action::Ping => system::ping(&call),
        Action::Version => system::version(&call).await,
        Action::Info => system::info(&call).await,
        Action::Events => system::events(&call).await,
        Action::ImageList => images::list(&call).await,
        Action::ImageCreate => images::create(call).await,
        Action::ImageLoad => images::load(call).await,
        Action::ImageInspect => images::inspect(&call).await,
        Action::ImageHistory => images::history(&call).await,
        Action::ImageTag => images::tag(&call).await,
        Action::ImageRemove => images::remove(&call).await,
        Action::ContainerList => containers::list(&call).await,
        Action::ContainerCreate => containers::create(call).await,
        Action::ContainerInspect => containers::inspect(&call).await,
        Action::ContainerLogs => output::logs(&call).await,
        Action::ContainerStart => containers::start(&call).await,
        Action::ContainerStop => containers::stop(&call).await,
        Action::ContainerRestart => containers::restart(&call).await,
        Action::ContainerKill => containers::kill(&call).await,
        Action::ContainerWait => containers::wait(&call).await,
        Action::ContainerResize => containers::resize(&call).await,
        Action::ContainerAttach => output::attach(call).await,
        Action::ContainerRemove => containers::remove(&call).await,
        Action::ContainerPrune => lifecycle::prune(&call).await,
        Action::ContainerUpdate => lifecycle::update(call).await,
        Action::ContainerRename => lifecycle::rename(&call).await,
        Action::ContainerPause => lifecycle::pause(&call).await,
        Action::ContainerUnpause => lifecycle::unpause(&call).await,
        Action::ContainerTop => monitor::top(&call).await,
        Action::ContainerStats => monitor::stats(&call).await,
        Action::ContainerWhy => monitor::why(&call).await,
        Action::ContainerChanges => archive::changes(&call).await,
        Action::ContainerExport => archive::export(&call).await,
        Action::ArchiveStat => archive::stat(&call).await,
        Action::ArchiveGet => archive::get(&call).await,
        Action::ArchivePut => archive::put(call).await,
        Action::Commit => archive::commit(call).await,
        Action::Auth => auth::login(call).await,
        Action::DiskUsage => usage::disk_usage(&call).await,
        Action::CheckpointCreate => checkpoints::create(call).await,
        Action::CheckpointList => checkpoints::list(&call).await,
        Action::CheckpointRemove => checkpoints::remove(&call).await,
        Action::ContainerAttachWs => output::attach_ws(call).await,
        Action::ExecCreate => execs::create(call).await,
        Action::ExecStart => execs::start(call).await,
        Action::ExecResize => execs::resize(&call).await,
        Action::ExecInspect => execs::inspect(&call).await,
        Action::NetworkList => networks::list(&call).await,
        Action::NetworkInspect => networks::inspect(&call).await,
        Action::NetworkCreate => networks::create(call).await,
        Action::NetworkRemove => networks::remove(&call).await,
        Action::NetworkPrune => networks::prune(&call).await,
        Action::NetworkConnect => networks::connect(call).await,
        Action::NetworkDisconnect => networks::disconnect(call).await,
        Action::PortsExplain => networks::explain_ports(&call).await,
    }
}
