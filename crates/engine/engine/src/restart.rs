//! Restart policies: whether a container that ended is started again, and when.
//!
//! Rules and figures: <https://github.com/moby/moby/blob/master/daemon/internal/restartmanager/restartmanager.go>.

use std::time::Duration;

use havre_api_traits::ApiError;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A container that ran so long is healthy: the next delay starts from the beginning.
const HEALTHY: Duration = Duration::from_secs(10);

/// What `--restart` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Policy {
    #[default]
    No,
    Always,
    UnlessStopped,
    /// At most so many times; 0 is without limit.
    OnFailure(u32),
    /// Havre's own: as `on-failure`, and also when its health check finds it unhealthy, which then ends it.
    OnUnhealthy(u32),
}

/// Why a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself or a signal, with this code.
    Exited(i64),
    /// It was ended because of its health.
    Unhealthy,
}

impl Policy {
    /// Reads the name and the count of the request.
    pub(crate) fn parse(name: &str, retries: i64) -> Result<Self, ApiError> {
        let refuse_count = |policy: Self| {
            if retries == 0 {
                return Ok(policy);
            }
            Err(ApiError::invalid(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'",
            ))
        };
        match name {
            "" | "no" => refuse_count(Self::No),
            "always" => refuse_count(Self::Always),
            "unless-stopped" => refuse_count(Self::UnlessStopped),
            "on-failure" => count(retries).map(Self::OnFailure),
            "on-unhealthy" => count(retries).map(Self::OnUnhealthy),
            other => Err(ApiError::invalid(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ))),
        }
    }

    /// A container that ended by itself is started again.
    pub(crate) fn after_exit(self, end: End, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::Always | Self::UnlessStopped => true,
            Self::OnFailure(max) | Self::OnUnhealthy(max) => {
                end != End::Exited(0) && (max == 0 || restarts < max)
            }
        }
    }

    /// A container that became unhealthy is ended to be started again. One that may not be started any more goes on.
    pub(crate) fn ends_unhealthy(self, restarts: u32) -> bool {
        matches!(self, Self::OnUnhealthy(_)) && self.after_exit(End::Unhealthy, restarts)
    }

    /// A container that is found ended when the engine starts is started again.
    pub(crate) fn at_boot(self, code: i64, restarts: u32, stopped_by_user: bool) -> bool {
        match self {
            Self::Always => true,
            Self::No | Self::UnlessStopped | Self::OnFailure(_) | Self::OnUnhealthy(_) => {
                !stopped_by_user && self.after_exit(End::Exited(code), restarts)
            }
        }
    }
}

fn count(retries: i64) -> Result<u32, ApiError> {
    u32::try_from(retries).map_err(|_negative| {
        ApiError::invalid("invalid restart policy: maximum retry count cannot be negative")
    })
}

/// The delays of one container.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BackOff {
    last: Option<Duration>,
}

impl BackOff {
    /// How long to wait after a run of `ran`.
    pub(crate) fn next(&mut self, ran: Duration) -> Duration {
        let delay = match self.last {
            Some(last) if ran < HEALTHY => (last * 2).min(LONGEST_DELAY),
            _ => FIRST_DELAY,
        };
        self.last = Some(delay);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_decide_as_dockers() {
        let never = Policy::parse("no", 0).unwrap();
        let always = Policy::parse("always", 0).unwrap();
        let unless = Policy::parse("unless-stopped", 0).unwrap();
        let twice = Policy::parse("on-failure", 2).unwrap();
        let (good, bad) = (End::Exited(0), End::Exited(1));
        assert!(!never.after_exit(bad, 0));
        assert!(always.after_exit(good, 99) && unless.after_exit(good, 99));
        assert!(
            twice.after_exit(bad, 1) && !twice.after_exit(bad, 2) && !twice.after_exit(good, 0)
        );
        assert!(Policy::OnFailure(0).after_exit(bad, 1000));
        assert!(
            always.at_boot(0, 0, true),
            "always comes back with the engine"
        );
        assert!(!unless.at_boot(0, 0, true) && unless.at_boot(0, 0, false));
    }

    #[test]
    fn an_unhealthy_container_is_ended_only_to_be_started_again() {
        let twice = Policy::parse("on-unhealthy", 2).unwrap();
        assert!(twice.ends_unhealthy(1) && !twice.ends_unhealthy(2));
        assert!(twice.after_exit(End::Exited(1), 0) && !twice.after_exit(End::Exited(0), 0));
        assert!(twice.after_exit(End::Unhealthy, 0) && !twice.after_exit(End::Unhealthy, 2));
        assert!(!Policy::Always.ends_unhealthy(0) && !Policy::OnFailure(0).ends_unhealthy(0));
        assert!(twice.at_boot(255, 0, false) && !twice.at_boot(255, 0, true));
    }

    #[test]
    fn wrong_policies_are_refused() {
        let texts = [("sometimes", 0), ("always", 3), ("on-failure", -1)]
            .map(|(name, count)| Policy::parse(name, count).unwrap_err().message);
        insta::assert_snapshot!(texts.join("\n"));
    }

    #[test]
    fn delays_double_to_a_minute_and_start_again_after_a_healthy_run() {
        let mut back_off = BackOff::default();
        let delays: Vec<u128> = (0..12)
            .map(|_| back_off.next(Duration::from_millis(5)).as_millis())
            .collect();
        assert_eq!(
            delays,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000
            ]
        );
        assert_eq!(back_off.next(Duration::from_secs(11)).as_millis(), 100);
    }
}
