//! Processes, statistics and the diagnosis of containers.

use crate::call::Call;
use crate::reply::Reply;

pub(super) async fn top(call: &Call) -> Reply {
    super::unfinished(call)
}

pub(super) async fn stats(call: &Call) -> Reply {
    super::unfinished(call)
}
