//! The life of a container as one total function of state and event.
//!
//! Nothing here performs anything: the actor asks [`step`] what an event means and does it.

use serde::{Deserialize, Serialize};

/// Where a container stands. `Starting` is shown to clients as the state before the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Created,
    Starting,
    Running,
    /// Runs, but its processes are frozen.
    Paused,
    /// Ended, and waits for the restart policy's back-off.
    Restarting,
    Exited,
    Removing,
    /// Removal failed half-way; only another removal is possible.
    Dead,
}

impl Status {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 8] = [
        Self::Created,
        Self::Starting,
        Self::Running,
        Self::Paused,
        Self::Restarting,
        Self::Exited,
        Self::Removing,
        Self::Dead,
    ];

    /// Docker's word for the state, as `State.Status` prints it.
    pub(crate) fn as_docker(self) -> &'static str {
        match self {
            Self::Created | Self::Starting => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
            Self::Dead => "dead",
        }
    }

    /// A process of the container may exist.
    pub(crate) fn has_process(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Paused)
    }

    /// Its process has been let go.
    pub(crate) fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// What Docker's `State.Running` says: true also while paused and while waiting to restart.
    pub(crate) fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

/// What may happen to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    StartRequested,
    Started,
    StartFailed,
    /// The process ended and nothing will start it again.
    Ended,
    /// The process ended and the restart policy will start it again.
    EndedWillRestart,
    StopRequested,
    PauseRequested,
    UnpauseRequested,
    RemoveRequested,
    ForceRemoveRequested,
    RemoveFailed,
}

#[cfg(test)]
impl Event {
    pub(crate) const ALL: [Self; 11] = [
        Self::StartRequested,
        Self::Started,
        Self::StartFailed,
        Self::Ended,
        Self::EndedWillRestart,
        Self::StopRequested,
        Self::PauseRequested,
        Self::UnpauseRequested,
        Self::RemoveRequested,
        Self::ForceRemoveRequested,
        Self::RemoveFailed,
    ];
}

/// Why an event is refused; the actor turns it into Docker's sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    MarkedForRemoval,
    MustStopFirst,
    RemovalInProgress,
    /// Docker does not start what is paused.
    StartPaused,
    NotRunning,
    Restarting,
    AlreadyPaused,
    NotPaused,
    /// An event that cannot follow from this state: a fault of ours.
    Impossible,
}

/// The answer of [`step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    To(Status),
    /// Already so: HTTP 304 where Docker says 304.
    NotModified,
    Refuse(Refusal),
    /// The process must be ended first; then ask again.
    EndFirst,
}

/// Decides what `event` means in `state`.
pub(crate) fn step(state: Status, event: Event) -> Step {
    use Event as E;
    use Refusal as R;
    use Status as S;
    use Step::{EndFirst, NotModified, Refuse, To};
    match (state, event) {
        (S::Created | S::Exited | S::Restarting, E::StartRequested) => To(S::Starting),
        (S::Starting | S::Running, E::StartRequested) => NotModified,
        (S::Paused, E::StartRequested) => Refuse(R::StartPaused),
        (S::Removing | S::Dead, E::StartRequested) => Refuse(R::MarkedForRemoval),

        (S::Starting, E::Started) => To(S::Running),
        (S::Starting, E::StartFailed) => To(S::Exited),

        (S::Starting | S::Running | S::Paused, E::Ended) => To(S::Exited),
        (S::Restarting, E::Ended | E::StopRequested) => To(S::Exited),
        (S::Starting | S::Running | S::Paused, E::EndedWillRestart) => To(S::Restarting),

        (S::Starting | S::Running | S::Paused, E::StopRequested) => EndFirst,
        (S::Created | S::Exited | S::Removing | S::Dead, E::StopRequested) => NotModified,

        (S::Running, E::PauseRequested) => To(S::Paused),
        (S::Paused, E::PauseRequested) => Refuse(R::AlreadyPaused),
        (S::Restarting, E::PauseRequested) => Refuse(R::Restarting),
        (S::Created | S::Starting | S::Exited | S::Removing | S::Dead, E::PauseRequested) => {
            Refuse(R::NotRunning)
        }

        (S::Paused, E::UnpauseRequested) => To(S::Running),
        (
            S::Created
            | S::Starting
            | S::Running
            | S::Restarting
            | S::Exited
            | S::Removing
            | S::Dead,
            E::UnpauseRequested,
        ) => Refuse(R::NotPaused),

        (S::Created | S::Exited | S::Dead, E::RemoveRequested | E::ForceRemoveRequested) => {
            To(S::Removing)
        }
        (S::Restarting, E::ForceRemoveRequested) => To(S::Removing),
        (S::Starting | S::Running | S::Paused | S::Restarting, E::RemoveRequested) => {
            Refuse(R::MustStopFirst)
        }
        (S::Starting | S::Running | S::Paused, E::ForceRemoveRequested) => EndFirst,
        (S::Removing, E::RemoveRequested | E::ForceRemoveRequested) => Refuse(R::RemovalInProgress),
        (S::Removing, E::RemoveFailed) => To(S::Dead),

        (
            S::Created | S::Running | S::Paused | S::Restarting | S::Exited | S::Removing | S::Dead,
            E::Started | E::StartFailed,
        )
        | (S::Created | S::Exited | S::Removing | S::Dead, E::Ended)
        | (S::Created | S::Restarting | S::Exited | S::Removing | S::Dead, E::EndedWillRestart)
        | (
            S::Created | S::Starting | S::Running | S::Paused | S::Restarting | S::Exited | S::Dead,
            E::RemoveFailed,
        ) => Refuse(R::Impossible),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    #[test]
    fn the_whole_table() {
        let mut table = String::new();
        for state in Status::ALL {
            for event in Event::ALL {
                writeln!(table, "{state:?} + {event:?} -> {:?}", step(state, event)).unwrap();
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn no_way_leads_out_of_removal_but_failure() {
        for event in Event::ALL {
            match step(Status::Removing, event) {
                Step::To(next) => assert_eq!((event, next), (Event::RemoveFailed, Status::Dead)),
                Step::NotModified | Step::Refuse(_) => {}
                Step::EndFirst => panic!("a container that is being removed has no process"),
            }
        }
    }

    #[test]
    fn a_process_is_never_forgotten() {
        // A state with a process is left only by its end, a failed start, or to another state with one.
        for state in Status::ALL.into_iter().filter(|s| s.has_process()) {
            for event in Event::ALL {
                if let Step::To(next) = step(state, event) {
                    let ended = matches!(
                        event,
                        Event::Ended | Event::EndedWillRestart | Event::StartFailed
                    );
                    assert!(next.has_process() || ended, "{state:?} {event:?} {next:?}");
                }
            }
        }
    }
}
