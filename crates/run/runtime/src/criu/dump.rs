//! Writing a container's processes to files.

use std::os::fd::AsRawFd as _;
use std::path::Path;

use havre_cgroup::Cgroup;
use havre_sys::fsroot::Root;
use oci_spec::runtime::Spec;
use rustix::fs::stat;
use rustix::process::Pid;

use super::message::{Kind as RequestKind, Options, PageServer, Request};
use super::places::{self, EXTERNAL_NET};
use super::session::{Criu, Session, Word};
use super::{CriuOptions, clone_fd, images};
use crate::error::{RuntimeError, Step as _};
use crate::plan::{Kind, Plan};

const LOG: &str = "dump.log";

/// A container to be written.
#[derive(Debug)]
pub struct Checkpoint<'a> {
    /// Its directory.
    pub bundle: &'a Path,
    /// Its configuration.
    pub spec: &'a Spec,
    /// Its first process.
    pub init_pid: Pid,
    /// Its cgroup.
    pub cgroup: &'a Cgroup,
    /// Where the files go. Made if it is missing.
    pub images: &'a Path,
    /// Whether it goes on afterwards.
    pub leave_running: bool,
    /// Only its memory, while it runs: a first step of a later checkpoint.
    pub pre_dump: bool,
    /// The images of such a first step, relative to these.
    pub parent: Option<&'a str>,
    /// Address and port of a page server that takes the memory.
    pub page_server: Option<(String, u16)>,
    /// Where its three standard streams led when it was made, as `/proc/PID/fd` names it.
    pub descriptors: &'a [String],
    /// What CRIU is told.
    pub options: &'a CriuOptions,
}

/// Writes the container. Unless it is left running its processes are gone afterwards; the caller
/// collects the first one.
pub fn checkpoint(request: &Checkpoint<'_>) -> Result<(), RuntimeError> {
    let criu = Criu::find(request.options.program.as_deref())?;
    let plan = Plan::new(request.spec, request.bundle)?;
    places::check_namespaces(&plan)?;
    let directory = images::make(request.images)?;
    let work = request.options.work()?;
    let mut options = request.options.request(
        directory.as_raw_fd(),
        work.as_ref().map(|fd| fd.as_raw_fd()),
        LOG,
    );
    options.network_lock = Some(criu.network_lock().into());
    fill(&mut options, request, &plan)?;
    if !request.pre_dump {
        images::write_descriptors(&directory, request.descriptors)?;
    }
    let log = clone_fd(work.as_ref().unwrap_or(&directory))?;
    let session = Session::spawn(&criu, (log, LOG))?;
    let outcome = converse(&session, options, request);
    if outcome.is_err() {
        session.stop();
    }
    session.end();
    outcome
}

fn fill(options: &mut Options, request: &Checkpoint<'_>, plan: &Plan) -> Result<(), RuntimeError> {
    let pid = request.init_pid.as_raw_pid();
    options.pid = Some(pid);
    options.root = Some(plan.rootfs.display().to_string());
    options.leave_running = Some(request.leave_running);
    options.parent_img = request.parent.map(str::to_owned);
    options.track_mem = (request.pre_dump || request.parent.is_some()).then_some(true);
    options.page_server = request
        .page_server
        .as_ref()
        .map(|(address, port)| PageServer {
            address: Some(address.clone()),
            port: Some(i32::from(*port)),
        });
    // Version 2 only: in version 1 the freezer may be shared with others.
    if request.cgroup.fd().is_some() {
        let directories = request.cgroup.directories();
        let unified = directories.last().map(|(_, dir)| dir.display().to_string());
        options.freeze_cgroup = unified;
    }
    // A network is the engine's affair, also where the runtime made the namespace. Others that are
    // joined CRIU finds by their paths.
    if plan.namespaces.has(Kind::Network) && !request.options.empty_network {
        let inode = stat(format!("/proc/{pid}/ns/net"))
            .step(|| "look at the network namespace of the container".to_owned())?
            .st_ino;
        options
            .external
            .push(format!("net[{inode}]:{EXTERNAL_NET}"));
    }
    if !request.pre_dump {
        let path = format!("/proc/{pid}/root");
        let root = Root::open(Path::new(&path)).step(|| format!("open `{path}`"))?;
        options.ext_mnt = places::to_dump(plan, &root, request.cgroup)?;
    }
    Ok(())
}

fn converse(
    session: &Session,
    options: Options,
    request: &Checkpoint<'_>,
) -> Result<(), RuntimeError> {
    let kind = if request.pre_dump {
        RequestKind::PreDump
    } else {
        RequestKind::Dump
    };
    session.ask(&Request {
        kind: kind.into(),
        options: Some(options),
        notify_success: None,
    })?;
    loop {
        match session.hear()? {
            Word::At(..) => session.go_on()?,
            Word::Done => return Ok(()),
        }
    }
}
