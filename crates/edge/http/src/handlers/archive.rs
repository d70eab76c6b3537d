//! Files of containers: changes, export, copies, commit.

use crate::call::Call;
use crate::reply::Reply;

pub(super) async fn changes(call: &Call) -> Reply {
    super::unfinished(call)
}

pub(super) async fn export(call: &Call) -> Reply {
    super::unfinished(call)
}

pub(super) async fn stat(call: &Call) -> Reply {
    super::unfinished(call)
}

pub(super) async fn get(call: &Call) -> Reply {
    super::unfinished(call)
}

pub(super) async fn put(call: &Call) -> Reply {
    super::unfinished(call)
}

pub(super) async fn commit(call: &Call) -> Reply {
    super::unfinished(call)
}
