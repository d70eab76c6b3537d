//! A network namespace of a test's own, and programs started in it.

use anyhow::{Context as _, Result};
use fs_err::File;
use havre_netlink::{LinkChange, Route};
use havre_sys::namespace;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::io;
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Output};
use std::thread;

/// A network namespace. It goes with the last process in it and this.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// Makes one in which only the loopback interface is up.
    pub fn new() -> Result<Self> {
        let made = thread::scope(|scope| {
            let maker = scope.spawn(|| -> Result<File> {
                namespace::unshare(UnshareFlags::NEWNET)
                    .context("failed to make a network namespace")?;
                let mut route = Route::open()?;
                let lo = route.link("lo")?;
                let up = LinkChange {
                    up: Some(true),
                    ..LinkChange::default()
                };
                route.change_link(lo.index, &up)?;
                Ok(File::open("/proc/thread-self/ns/net")?)
            });
            maker.join()
        });
        made.map(|file| file.map(Self))
            .unwrap_or_else(|_panic| Err(anyhow::anyhow!("the namespace's thread failed")))
    }

    /// Starts a program in it.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.run(|| command.spawn())?
    }

    /// Runs a program in it to its end.
    pub fn output(&self, command: &mut Command) -> io::Result<Output> {
        self.run(|| command.output())?
    }

    /// The names of its interfaces, sorted.
    pub fn interfaces(&self) -> Result<Vec<String>> {
        let links = self.run(|| Route::open()?.links())??;
        let mut names: Vec<String> = links.into_iter().map(|link| link.name).collect();
        names.sort();
        Ok(names)
    }

    /// Removes an interface, as an administrator might.
    pub fn remove_interface(&self, name: &str) -> Result<()> {
        let removed = self.run(|| {
            let mut route = Route::open()?;
            let link = route.link(name)?;
            route.delete_link(link.index)
        });
        removed?.with_context(|| format!("removing interface {name}"))
    }

    /// Does something on a thread in it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                namespace::enter(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(work())
            });
            worker
                .join()
                .unwrap_or_else(|_panic| Err(io::Error::other("the namespace's thread failed")))
        })
    }
}
