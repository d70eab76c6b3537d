//! What a check is and what its results mean: pure.

use std::time::Duration;

use havre_api_traits::ApiError;
use havre_engine_types::{ContainerConfig, Health, HealthConfig, HealthcheckResult};

use crate::container::State;

pub(super) const STARTING: &str = "starting";
pub(super) const HEALTHY: &str = "healthy";
pub(super) const UNHEALTHY: &str = "unhealthy";

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// How many results are kept.
const KEPT: usize = 5;
/// Nothing shorter is accepted.
const SHORTEST: i64 = 1_000_000;

/// A container's check with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub command: Vec<String>,
    pub timeout: Duration,
    interval: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: i64,
}

impl Check {
    /// The check of a container. None when it has none, or one that was switched off.
    pub(crate) fn of(config: &ContainerConfig) -> Option<Self> {
        let given = config.healthcheck.as_ref()?;
        let (kind, words) = given.test.split_first()?;
        let mut command = match kind.as_str() {
            "CMD" => Vec::new(),
            "CMD-SHELL" => match config.shell.as_deref() {
                Some(shell) if !shell.is_empty() => shell.to_vec(),
                _ => SHELL.map(str::to_owned).to_vec(),
            },
            // `NONE`, and kinds that do not exist.
            _ => return None,
        };
        if !words.is_empty() {
            command.extend_from_slice(words);
        } else {
            command.clear();
        }
        let time = |nanos: i64, usual: Duration| match u64::try_from(nanos) {
            Ok(0) | Err(_) => usual,
            Ok(nanos) => Duration::from_nanos(nanos),
        };
        Some(Self {
            command,
            timeout: time(given.timeout, TIMEOUT),
            interval: time(given.interval, INTERVAL),
            start_period: time(given.start_period, Duration::ZERO),
            start_interval: time(given.start_interval, START_INTERVAL),
            retries: if given.retries <= 0 {
                RETRIES
            } else {
                given.retries
            },
        })
    }

    /// How long to wait for the next check of a container that runs for `age`.
    pub(super) fn pause(&self, age: Duration, health: &Health) -> Duration {
        if age < self.start_period && health.status == STARTING {
            self.start_interval
        } else {
            self.interval
        }
    }

    /// Adds a result that began `age` after the container's start.
    pub(super) fn judge(&self, health: &mut Health, result: HealthcheckResult, age: Duration) {
        let success = result.exit_code == 0;
        let log = health.log.get_or_insert_default();
        log.push(result);
        log.drain(..log.len().saturating_sub(KEPT));
        if success {
            health.failing_streak = 0;
            HEALTHY.clone_into(&mut health.status);
            return;
        }
        // What has never been healthy may take its time.
        if health.status == STARTING && age < self.start_period {
            return;
        }
        health.failing_streak += 1;
        if health.failing_streak >= self.retries {
            UNHEALTHY.clone_into(&mut health.status);
        }
    }
}

/// The health at a start. The results of former runs stay, as in Docker.
pub(crate) fn initial(config: &ContainerConfig, before: Option<Health>) -> Option<Health> {
    Check::of(config)?;
    Some(Health {
        status: STARTING.to_owned(),
        failing_streak: 0,
        log: before.and_then(|health| health.log).or(Some(Vec::new())),
    })
}

/// Nobody checks it any more, because it ended or is paused: Docker then calls it unhealthy, and tells nobody.
pub(crate) fn stopped(state: &mut State) {
    if let Some(health) = &mut state.health {
        UNHEALTHY.clone_into(&mut health.status);
    }
}

/// Docker's refusals of a check that makes no sense.
pub(crate) fn refuse(check: &HealthConfig) -> Result<(), ApiError> {
    let refuse = |what: &str| {
        Err(ApiError::invalid(format!(
            "{what} in Healthcheck cannot be less than 1ms"
        )))
    };
    let short = |nanos: i64| nanos != 0 && nanos < SHORTEST;
    if short(check.interval) {
        return refuse("Interval");
    }
    if short(check.timeout) {
        return refuse("Timeout");
    }
    if check.retries < 0 {
        return Err(ApiError::invalid(
            "Retries in Healthcheck cannot be negative",
        ));
    }
    if short(check.start_period) {
        return refuse("StartPeriod");
    }
    if short(check.start_interval) {
        return refuse("StartInterval");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(test: &[&str]) -> ContainerConfig {
        ContainerConfig {
            healthcheck: Some(HealthConfig {
                test: test.iter().map(|word| (*word).to_owned()).collect(),
                ..HealthConfig::default()
            }),
            ..ContainerConfig::default()
        }
    }

    fn result(exit_code: i64) -> HealthcheckResult {
        HealthcheckResult {
            exit_code,
            ..HealthcheckResult::default()
        }
    }

    #[test]
    fn commands_are_found() {
        assert_eq!(Check::of(&ContainerConfig::default()), None);
        for none in [&[][..], &["NONE"], &["FOO", "x"]] {
            assert_eq!(Check::of(&config(none)), None, "{none:?}");
        }
        let plain = Check::of(&config(&["CMD", "a", "b"])).unwrap();
        assert_eq!(plain.command, ["a", "b"]);
        assert_eq!((plain.interval, plain.timeout), (INTERVAL, TIMEOUT));
        let mut shell = config(&["CMD-SHELL", "a b"]);
        assert_eq!(Check::of(&shell).unwrap().command, ["/bin/sh", "-c", "a b"]);
        shell.shell = Some(vec!["/bin/ash".to_owned()]);
        assert_eq!(Check::of(&shell).unwrap().command, ["/bin/ash", "a b"]);
        assert!(Check::of(&config(&["CMD"])).unwrap().command.is_empty());
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let config = config(&["CMD", "a"]);
        let check = Check::of(&config).unwrap();
        let mut health = initial(&config, None).unwrap();
        let mut seen = Vec::new();
        for code in [1, -1, 0, 1, 1, 1, 1, 0] {
            check.judge(&mut health, result(code), Duration::ZERO);
            seen.push(format!("{} {}", health.status, health.failing_streak));
        }
        assert_eq!(
            seen,
            [
                "starting 1",
                "starting 2",
                "healthy 0",
                "healthy 1",
                "healthy 2",
                "unhealthy 3",
                "unhealthy 4",
                "healthy 0"
            ]
        );
        let codes: Vec<i64> = health
            .log
            .as_ref()
            .unwrap()
            .iter()
            .map(|r| r.exit_code)
            .collect();
        assert_eq!(codes, [1, 1, 1, 1, 0], "the last five are kept");
        let again = initial(&config, Some(health)).unwrap();
        assert_eq!((again.status.as_str(), again.failing_streak), (STARTING, 0));
        assert_eq!(again.log.unwrap().len(), 5);
    }

    #[test]
    fn the_start_period_forgives_until_the_first_success() {
        let mut config = config(&["CMD", "a"]);
        if let Some(check) = &mut config.healthcheck {
            check.start_period = 10_000_000_000;
            check.start_interval = 2_000_000_000;
            check.retries = 1;
        }
        let check = Check::of(&config).unwrap();
        let mut health = initial(&config, None).unwrap();
        let early = Duration::from_secs(9);
        assert_eq!(check.pause(early, &health), Duration::from_secs(2));
        check.judge(&mut health, result(1), early);
        assert_eq!(
            (health.status.as_str(), health.failing_streak),
            (STARTING, 0)
        );
        check.judge(&mut health, result(0), early);
        assert_eq!(
            check.pause(early, &health),
            INTERVAL,
            "it is no longer starting"
        );
        check.judge(&mut health, result(1), early);
        assert_eq!(health.status, UNHEALTHY);
        let mut late = initial(&config, None).unwrap();
        assert_eq!(check.pause(Duration::from_secs(10), &late), INTERVAL);
        check.judge(&mut late, result(1), Duration::from_secs(10));
        assert_eq!(late.status, UNHEALTHY);
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_dockers_words() {
        let base = HealthConfig::default();
        let texts = [
            HealthConfig {
                interval: 10,
                ..base.clone()
            },
            HealthConfig {
                interval: -1,
                ..base.clone()
            },
            HealthConfig {
                timeout: 999_999,
                ..base.clone()
            },
            HealthConfig {
                retries: -1,
                ..base.clone()
            },
            HealthConfig {
                start_period: 1,
                ..base.clone()
            },
            HealthConfig {
                start_interval: 1,
                ..base.clone()
            },
        ]
        .map(|check| refuse(&check).unwrap_err().message);
        insta::assert_snapshot!(texts.join("\n"));
        refuse(&HealthConfig {
            interval: SHORTEST,
            ..base
        })
        .unwrap();
    }
}
