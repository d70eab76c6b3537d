//! Pause, rename, update and prune of containers.

use crate::call::Call;
use crate::reply::Reply;

pub(super) async fn prune(call: &Call) -> Reply {
    super::unfinished(call)
}

pub(super) async fn update(call: &Call) -> Reply {
    super::unfinished(call)
}

pub(super) async fn rename(call: &Call) -> Reply {
    super::unfinished(call)
}

pub(super) async fn pause(call: &Call) -> Reply {
    super::unfinished(call)
}

pub(super) async fn unpause(call: &Call) -> Reply {
    super::unfinished(call)
}
