//! Container names: the grammar, the registry of taken names, and names made up for those who give none.

use std::collections::BTreeMap;
use std::sync::Mutex;

use havre_api_traits::ApiError;
use havre_types::{ContainerId, ErrorKind};

const LEFT: [&str; 32] = [
    "amber", "brave", "calm", "clear", "cosy", "crisp", "deep", "eager", "early", "fair", "fine",
    "fresh", "gentle", "glad", "golden", "grand", "green", "happy", "keen", "kind", "light",
    "lively", "lucky", "mild", "noble", "proud", "quick", "quiet", "ready", "salty", "steady",
    "sunny",
];
const RIGHT: [&str; 32] = [
    "anchor",
    "barge",
    "beacon",
    "bollard",
    "brig",
    "buoy",
    "canoe",
    "clipper",
    "cutter",
    "dinghy",
    "dock",
    "ferry",
    "gull",
    "harbour",
    "heron",
    "jetty",
    "ketch",
    "lagoon",
    "lighthouse",
    "mast",
    "mooring",
    "oar",
    "pier",
    "pilot",
    "quay",
    "rudder",
    "schooner",
    "sloop",
    "tern",
    "tide",
    "tug",
    "wharf",
];

/// Which name belongs to which container. A name is taken before anything is made for the container.
#[derive(Debug, Default)]
pub(crate) struct Names {
    taken: Mutex<BTreeMap<String, ContainerId>>,
}

impl Names {
    /// Takes `name` for `id`, or says in Docker's words who has it.
    pub(crate) fn reserve(&self, name: &str, id: &ContainerId) -> Result<(), ApiError> {
        let mut taken = self.lock();
        if let Some(owner) = taken.get(name) {
            if owner == id {
                return Ok(());
            }
            return Err(conflict(name, owner));
        }
        taken.insert(name.to_owned(), id.clone());
        Ok(())
    }

    /// Gives `name` back if it still belongs to `id`.
    pub(crate) fn release(&self, name: &str, id: &ContainerId) {
        let mut taken = self.lock();
        if taken.get(name) == Some(id) {
            taken.remove(name);
        }
    }

    pub(crate) fn owner(&self, name: &str) -> Option<ContainerId> {
        self.lock().get(name).cloned()
    }

    /// Makes up a free name and takes it.
    pub(crate) fn reserve_random(&self, id: &ContainerId) -> Result<String, ApiError> {
        let mut seed = [0_u8; 8];
        getrandom::fill(&mut seed)
            .map_err(|err| crate::error::internal("failed to read random bytes", &err))?;
        let seed = u64::from_le_bytes(seed);
        for attempt in 0..64_u64 {
            let name = made_up(
                seed.wrapping_add(attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                attempt,
            );
            if self.reserve(&name, id).is_ok() {
                return Ok(name);
            }
        }
        let name = id.short().to_owned();
        self.reserve(&name, id)?;
        Ok(name)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, ContainerId>> {
        self.taken
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn made_up(bits: u64, attempt: u64) -> String {
    let pick = |shift: u32| usize::try_from((bits >> shift) & 31).unwrap_or(0);
    let (left, right) = (LEFT[pick(3)], RIGHT[pick(17)]);
    if attempt < 8 {
        format!("{left}_{right}")
    } else {
        format!("{left}_{right}{}", (bits >> 40) & 0xffff)
    }
}

fn conflict(name: &str, owner: &ContainerId) -> ApiError {
    ApiError::new(
        ErrorKind::Conflict,
        format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". \
             You have to remove (or rename) that container to be able to reuse that name."
        ),
    )
}

/// Accepts a name in Docker's grammar, with or without the leading slash, and returns it without.
pub(crate) fn check(name: &str) -> Result<&str, ApiError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut chars = bare.chars();
    let first_ok = chars.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let mut rest = 0_usize;
    let rest_ok = chars.all(|c| {
        rest += 1;
        c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
    });
    if first_ok && rest_ok && rest > 0 {
        return Ok(bare);
    }
    Err(ApiError::new(
        ErrorKind::InvalidParameter,
        format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> ContainerId {
        ContainerId::from_bytes([byte; 32])
    }

    #[test]
    fn grammar_is_dockers() {
        for good in ["ab", "/ab", "a_b.c-1", "0a"] {
            check(good).unwrap();
        }
        for bad in ["", "a", "/", "_a", "a/b", "a b", "é1", "a\n", "-a", "//ab"] {
            let err = check(bad).unwrap_err();
            assert_eq!(err.kind, ErrorKind::InvalidParameter);
            assert!(
                err.message.starts_with("Invalid container name ("),
                "{}",
                err.message
            );
        }
    }

    #[test]
    fn a_name_has_one_owner() {
        let names = Names::default();
        names.reserve("web", &id(1)).unwrap();
        names.reserve("web", &id(1)).unwrap();
        let err = names.reserve("web", &id(2)).unwrap_err();
        assert_eq!(err.kind, ErrorKind::Conflict);
        insta::assert_snapshot!(err.message);
        names.release("web", &id(2));
        assert_eq!(names.owner("web"), Some(id(1)));
        names.release("web", &id(1));
        names.reserve("web", &id(2)).unwrap();
    }

    #[test]
    fn made_up_names_obey_the_grammar_and_differ() {
        let names = Names::default();
        for byte in 0..100 {
            let name = names.reserve_random(&id(byte)).unwrap();
            check(&name).unwrap();
        }
    }
}
