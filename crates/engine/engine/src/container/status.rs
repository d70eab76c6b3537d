//! The words that lists show for a container's state.

use havre_types::{Timestamp, duration};

use super::record::State;
use crate::state::Status;

/// `Up 5 minutes`, `Exited (0) 2 hours ago` …
/// <https://github.com/moby/moby/blob/master/daemon/container/state.go> (`String`)
pub(super) fn sentence(state: &State, now: Timestamp) -> String {
    let age = |since: Timestamp| duration::human(now.since(since));
    match state.status {
        Status::Running => match health(state) {
            "none" => format!("Up {}", age(state.started_at)),
            "starting" => format!("Up {} (health: starting)", age(state.started_at)),
            health => format!("Up {} ({health})", age(state.started_at)),
        },
        Status::Paused => format!("Up {} (Paused)", age(state.started_at)),
        Status::Restarting => {
            format!(
                "Restarting ({}) {} ago",
                state.exit_code,
                age(state.finished_at)
            )
        }
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
        Status::Created => "Created".to_owned(),
        Status::Starting | Status::Exited if state.started_at.is_zero() => "Created".to_owned(),
        Status::Starting | Status::Exited => {
            format!(
                "Exited ({}) {} ago",
                state.exit_code,
                age(state.finished_at)
            )
        }
    }
}

/// The word of the `health` filter.
pub(super) fn health(state: &State) -> &str {
    let health = state.health.as_ref();
    health.map_or("none", |health| health.status.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_dockers_words() {
        let now = Timestamp {
            secs: 1_000_000,
            nanos: 0,
        };
        let earlier = Timestamp {
            secs: 1_000_000 - 7200,
            nanos: 0,
        };
        let mut lines = Vec::new();
        for status in Status::ALL {
            let mut state = State::new();
            state.status = status;
            lines.push(sentence(&state, now));
            state.started_at = earlier;
            state.finished_at = earlier;
            state.exit_code = 3;
            lines.push(sentence(&state, now));
        }
        insta::assert_snapshot!(lines.join("\n"));
    }
}
