//! Removing names and images by Docker's rules: a pure decision, which the store then carries out.
//!
//! Rules and texts: <https://github.com/moby/moby/blob/v28.5.2/daemon/images/image_delete.go>.

use crate::error::StoreError;
use crate::index::{Index, Match, key};
use crate::record::Image;
use havre_types::{ChainId, Classify, ContainerId, ErrorKind, ImageId, Reference};
use std::collections::BTreeSet;
use thiserror::Error;

/// A container as far as images are concerned.
#[derive(Clone, Debug)]
pub struct ImageUser {
    /// The container.
    pub container: ContainerId,
    /// The image it was made of.
    pub image: ImageId,
    /// Whether it runs or is paused.
    pub running: bool,
}

/// How an image is removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeleteOptions {
    /// Remove although stopped containers use it, and with all its names.
    pub force: bool,
}

/// What was done, in order; one line each of `docker rmi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeleteRecord {
    /// A name was taken away.
    Untagged(Reference),
    /// The image itself is gone.
    Image(ImageId),
    /// A layer that only this image had is gone.
    Layer(ChainId),
}

/// Why an image or a name cannot be removed.
#[derive(Debug, Error)]
pub enum DeleteError {
    /// Nothing has that name or id, or the store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The last name of an image that a container uses.
    #[error(
        "conflict: unable to remove repository reference \"{reference}\" (must force) - container \
         {container} is using its referenced image {image}"
    )]
    LastReference {
        reference: String,
        container: String,
        image: String,
    },
    /// The image is in use.
    #[error("conflict: unable to delete {image} ({force}) - {message}")]
    Image {
        image: String,
        force: &'static str,
        message: String,
    },
}

impl Classify for DeleteError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::LastReference { .. } | Self::Image { .. } => ErrorKind::Conflict,
        }
    }
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) image: ImageId,
    pub(crate) untag: Vec<Reference>,
    /// Whether the image goes as well.
    pub(crate) delete: bool,
}

const MUST: &str = "must be forced";
const CANNOT: &str = "cannot be forced";

pub(crate) fn plan(
    index: &Index,
    text: &str,
    users: &[ImageUser],
    options: DeleteOptions,
) -> Result<Plan, DeleteError> {
    let found = index
        .resolve(text)
        .map_err(|source| StoreError::Name { source })?
        .ok_or_else(|| StoreError::no_such_image(text))?;
    let image = found.image();
    match &found {
        Match::Name(_, name) => by_name(image, name, text, users, options.force),
        Match::Id(_) => by_id(image, users, options.force),
    }
}

fn by_name(
    image: &Image,
    name: &Reference,
    text: &str,
    users: &[ImageUser],
    force: bool,
) -> Result<Plan, DeleteError> {
    let names = &image.record.references;
    let user = users.iter().find(|user| user.image == *image.id());
    if let Some(user) = user
        && !force
        && is_single(names)
    {
        return Err(DeleteError::LastReference {
            reference: text.to_owned(),
            container: user.container.short().to_owned(),
            image: image.id().short().to_owned(),
        });
    }
    let mut untag = vec![name.clone()];
    let mut left: Vec<&Reference> = names.iter().filter(|other| *other != name).collect();
    let same = |other: &&Reference| other.domain() == name.domain() && other.path() == name.path();
    if name.digest().is_none()
        && !left
            .iter()
            .any(|other| other.digest().is_none() && same(other))
    {
        // With its last tag, a repository loses its digests too.
        untag.extend(
            left.iter()
                .filter(|other| same(other))
                .map(|other| (*other).clone()),
        );
        left.retain(|other| !same(other));
    }
    let plan = |delete| Plan {
        image: image.id().clone(),
        untag: untag.clone(),
        delete,
    };
    if !left.is_empty() {
        return Ok(plan(false));
    }
    // The name goes even if the image has to stay for somebody who uses it.
    let used = conflict(image, users, force);
    Ok(plan(used.is_none()))
}

fn by_id(image: &Image, users: &[ImageUser], force: bool) -> Result<Plan, DeleteError> {
    let names = &image.record.references;
    if !names.is_empty() && !is_single(names) && !force {
        if let Some(running) = conflict(image, users, true) {
            return Err(running);
        }
        return Err(refusal(
            image,
            MUST,
            "image is referenced in multiple repositories".to_owned(),
        ));
    }
    match conflict(image, users, force) {
        Some(conflict) => Err(conflict),
        None => Ok(Plan {
            image: image.id().clone(),
            untag: names.clone(),
            delete: true,
        }),
    }
}

/// Who forbids that the image goes: a running container always, a stopped one unless it is forced.
fn conflict(image: &Image, users: &[ImageUser], force: bool) -> Option<DeleteError> {
    let mut users = users.iter().filter(|user| user.image == *image.id());
    if let Some(user) = users.clone().find(|user| user.running) {
        let container = user.container.short();
        let message = format!("image is being used by running container {container}");
        return Some(refusal(image, CANNOT, message));
    }
    let user = users.next().filter(|_| !force)?;
    let container = user.container.short();
    Some(refusal(
        image,
        MUST,
        format!("image is being used by stopped container {container}"),
    ))
}

fn refusal(image: &Image, force: &'static str, message: String) -> DeleteError {
    DeleteError::Image {
        image: image.id().short().to_owned(),
        force,
        message,
    }
}

/// One tag, one digest, or one tag with digests of the same repository.
fn is_single(names: &[Reference]) -> bool {
    let (digests, tags): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.digest().is_some());
    let repositories: BTreeSet<String> = digests.iter().map(|name| name.name()).collect();
    match (names, tags.as_slice()) {
        ([], _) => false,
        ([_], _) => true,
        (_, []) => repositories.len() == 1,
        (_, [tag]) => repositories.len() == 1 && repositories.contains(&tag.name()),
        (_, [_, _, ..]) => false,
    }
}

/// The names of an image without those that go.
pub(crate) fn without(names: &[Reference], gone: &[Reference]) -> Vec<Reference> {
    names
        .iter()
        .filter(|name| !gone.contains(&key(name)))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::tests::sample;
    use havre_types::Digest;

    fn digest() -> String {
        format!("h:5/x@{}", Digest::sha256_of(b"m"))
    }

    fn decide(
        names: &[&str],
        text: &str,
        running: Option<bool>,
        force: bool,
    ) -> Result<Plan, String> {
        let mut index = Index::default();
        let image = sample("a", names);
        index.insert(sample("a", names));
        let users: Vec<ImageUser> = running
            .into_iter()
            .map(|running| ImageUser {
                container: ContainerId::from_bytes([0xab; 32]),
                image: image.id().clone(),
                running,
            })
            .collect();
        let text = if text == "ID" {
            image.id().short()
        } else {
            text
        };
        plan(&index, text, &users, DeleteOptions { force }).map_err(|error| error.to_string())
    }

    fn outcome(names: &[&str], text: &str, running: Option<bool>, force: bool) -> String {
        match decide(names, text, running, force) {
            Ok(plan) => {
                let names: Vec<String> = plan.untag.iter().map(Reference::familiar).collect();
                let digest = Digest::sha256_of(b"m").to_string();
                format!("untag {} delete {}", names.join(","), plan.delete).replace(&digest, "D")
            }
            Err(text) => text.replace(sample("a", &[]).id().short(), "ID"),
        }
    }

    /// Names (`D` is a digest of `h:5/x`), words, container, force; and what comes of it.
    const CASES: [[&str; 5]; 14] = [
        ["h:5/x:1", "h:5/x:1", "", "", "untag h:5/x:1 delete true"],
        [
            "h:5/x:1 D",
            "h:5/x:1",
            "",
            "",
            "untag h:5/x:1,h:5/x@D delete true",
        ],
        [
            "h:5/x:1 y:1",
            "y:1",
            "running",
            "",
            "untag y:1 delete false",
        ],
        [
            "h:5/x:1 h:5/x:2 D",
            "h:5/x:1",
            "",
            "",
            "untag h:5/x:1 delete false",
        ],
        ["h:5/x:1 D", "D", "", "", "untag h:5/x@D delete false"],
        [
            "h:5/x:1",
            "h:5/x:1",
            "stopped",
            "",
            "conflict: unable to remove repository reference \"h:5/x:1\" (must force) - container \
             abababababab is using its referenced image ID",
        ],
        [
            "h:5/x:1",
            "h:5/x:1",
            "stopped",
            "force",
            "untag h:5/x:1 delete true",
        ],
        [
            "h:5/x:1",
            "h:5/x:1",
            "running",
            "force",
            "untag h:5/x:1 delete false",
        ],
        [
            "h:5/x:1 D",
            "ID",
            "",
            "",
            "untag h:5/x:1,h:5/x@D delete true",
        ],
        [
            "h:5/x:1 y:1",
            "ID",
            "",
            "",
            "conflict: unable to delete ID (must be forced) - image is referenced in multiple \
             repositories",
        ],
        [
            "h:5/x:1 y:1",
            "ID",
            "",
            "force",
            "untag h:5/x:1,y:1 delete true",
        ],
        [
            "h:5/x:1",
            "ID",
            "running",
            "force",
            "conflict: unable to delete ID (cannot be forced) - image is being used by running \
             container abababababab",
        ],
        [
            "h:5/x:1",
            "ID",
            "stopped",
            "",
            "conflict: unable to delete ID (must be forced) - image is being used by stopped \
             container abababababab",
        ],
        ["", "nope", "", "", "No such image: nope:latest"],
    ];

    #[test]
    fn the_rules_of_docker() {
        let digest = digest();
        for case in CASES {
            let [names, text, container, force, expected] = case;
            let names = names.split_whitespace();
            let names: Vec<&str> = names
                .map(|name| if name == "D" { &digest } else { name })
                .collect();
            let text = if text == "D" { &digest } else { text };
            let running = (!container.is_empty()).then_some(container == "running");
            let found = outcome(&names, text, running, force == "force");
            assert_eq!(found, expected, "{case:?}");
        }
    }
}
