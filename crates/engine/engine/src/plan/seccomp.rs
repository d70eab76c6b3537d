//! Resolved system call filters, one for each set of capabilities, so that a start does not resolve a profile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use havre_api_traits::ApiError;
use havre_seccomp::{KernelVersion, Profile};
use oci_spec::runtime::{Arch, LinuxSeccomp};

use super::capabilities::Set;
use super::security::Seccomp;

/// The default profile as already resolved for the sets of capabilities in use.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    resolved: Mutex<HashMap<Vec<String>, Arc<LinuxSeccomp>>>,
}

impl Filters {
    /// The filter for a container, or `None` when it runs without.
    pub(crate) fn filter(
        &self,
        wanted: &Seccomp,
        caps: &Set,
    ) -> Result<Option<LinuxSeccomp>, ApiError> {
        match wanted {
            Seccomp::Unconfined => Ok(None),
            Seccomp::Profile(profile) => resolve(profile, caps).map(Some),
            Seccomp::Default => self.default_for(caps).map(|filter| Some((*filter).clone())),
        }
    }

    fn default_for(&self, caps: &Set) -> Result<Arc<LinuxSeccomp>, ApiError> {
        let mut key: Vec<String> = caps.iter().map(ToString::to_string).collect();
        key.sort_unstable();
        let known = self
            .resolved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(filter) = known {
            return Ok(filter);
        }
        let filter = Arc::new(resolve(&havre_seccomp::default_profile(), caps)?);
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        // Odd sets of capabilities must not add up for ever.
        if resolved.len() < 64 {
            resolved.insert(key, Arc::clone(&filter));
        }
        drop(resolved);
        Ok(filter)
    }
}

/// The profile's rules for these capabilities, this architecture and this kernel.
fn resolve(profile: &Profile, caps: &Set) -> Result<LinuxSeccomp, ApiError> {
    let names: Vec<String> = caps.iter().map(|cap| format!("CAP_{cap}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    // A release that is no number is younger than every condition in a profile.
    let newest = KernelVersion {
        kernel: u32::MAX,
        major: 0,
    };
    let kernel = KernelVersion::of_release(&release).unwrap_or(newest);
    profile
        .resolve(&names, native(), kernel)
        .map_err(|err| ApiError::invalid(format!("seccomp profile: {}", havre_types::chain(&err))))
}

fn native() -> Arch {
    if cfg!(target_arch = "aarch64") {
        Arch::ScmpArchAarch64
    } else {
        Arch::ScmpArchX86_64
    }
}
