//! Dockerfile instructions that only touch a configuration: `--change` of `commit` and `import`. No file is
//! looked at and nothing is run.
//!
//! <https://docs.docker.com/reference/dockerfile/>

mod words;

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::{ContainerConfig, Empty, HealthConfig, ImageRunConfig, KeySet};
use havre_types::duration;

use words::Env;

/// Most ports that one range may stand for.
const PORTS: u32 = 1 << 16;

/// Applies instructions in order; each text may hold several lines.
pub(crate) fn apply(config: &mut ContainerConfig, texts: &[String]) -> ApiResult<()> {
    let all = texts.join("\n").replace("\\\n", "");
    // A new entrypoint resets an inherited command, but not one that was given with it.
    let mut has_command = false;
    for line in all.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let instruction = Instruction {
            word,
            rest: rest.trim(),
        };
        instruction.apply(config, &mut has_command)?;
    }
    Ok(())
}

/// The part of a container's configuration that an image keeps.
pub(crate) fn image_config(config: &ContainerConfig) -> ImageRunConfig {
    let keys = |set: &Option<KeySet>| {
        let set = set.as_ref().filter(|set| !set.is_empty())?;
        let empty = || serde_json::Value::Object(serde_json::Map::new());
        Some(set.keys().map(|key| (key.clone(), empty())).collect())
    };
    ImageRunConfig {
        user: config.user.clone(),
        exposed_ports: keys(&config.exposed_ports),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        volumes: keys(&config.volumes),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone().filter(|labels| !labels.is_empty()),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        args_escaped: config.args_escaped,
        healthcheck: config.healthcheck.clone(),
        on_build: config.on_build.clone(),
        shell: config.shell.clone(),
        ..ImageRunConfig::default()
    }
}

#[derive(Debug, Clone, Copy)]
struct Instruction<'a> {
    word: &'a str,
    rest: &'a str,
}

impl Instruction<'_> {
    fn apply(&self, config: &mut ContainerConfig, has_command: &mut bool) -> ApiResult<()> {
        let word = self.word.to_ascii_uppercase();
        match word.as_str() {
            "CMD" => {
                config.cmd = Some(self.command(config));
                config.args_escaped = false;
                *has_command = true;
            }
            "ENTRYPOINT" => {
                config.entrypoint = Some(self.command(config));
                if !*has_command {
                    config.cmd = None;
                }
            }
            "ENV" => {
                for (key, value) in self.pairs(config)? {
                    set_env(config, &key, &value);
                }
            }
            "LABEL" => {
                let pairs = self.pairs(config)?;
                config.labels.get_or_insert_default().extend(pairs);
            }
            "EXPOSE" => self.expose(config)?,
            "VOLUME" => self.volume(config)?,
            "USER" => config.user = self.one(config)?,
            "WORKDIR" => {
                let path = self.one(config)?;
                config.working_dir = joined(&config.working_dir, &path);
            }
            "STOPSIGNAL" => {
                let signal = self.one(config)?;
                crate::signal::parse(&signal)?;
                config.stop_signal = signal;
            }
            "HEALTHCHECK" => config.healthcheck = Some(self.healthcheck(config)?),
            "ONBUILD" => {
                self.check_trigger()?;
                let triggers = config.on_build.get_or_insert_default();
                triggers.push(self.rest.to_owned());
            }
            _ => {
                return Err(ApiError::invalid(format!(
                    "{} is not a valid change command",
                    self.word
                )));
            }
        }
        Ok(())
    }

    /// The JSON form as it is, the shell form through the shell; nothing at all clears.
    fn command(&self, config: &ContainerConfig) -> Vec<String> {
        if let Ok(words) = serde_json::from_str(self.rest) {
            return words;
        }
        if self.rest.is_empty() {
            return Vec::new();
        }
        let shell = config.shell.clone().filter(|shell| !shell.is_empty());
        let mut words = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
        words.push(self.rest.to_owned());
        words
    }

    /// The whole text as one word.
    fn one(&self, config: &ContainerConfig) -> ApiResult<String> {
        let word = self.word.to_ascii_uppercase();
        if self.rest.is_empty() {
            return Err(wrong(&format!("{word} requires exactly one argument")));
        }
        words::whole(self.rest, Env(config.env.as_deref()))
            .ok_or_else(|| wrong("unexpected end of statement while looking for a quote"))
    }

    fn list(&self, config: &ContainerConfig) -> ApiResult<Vec<String>> {
        words::split(self.rest, Env(config.env.as_deref()))
            .ok_or_else(|| wrong("unexpected end of statement while looking for a quote"))
    }

    /// `a=b c="d e"`, or the old form `a rest`.
    fn pairs(&self, config: &ContainerConfig) -> ApiResult<Vec<(String, String)>> {
        let word = self.word.to_ascii_uppercase();
        let first = self.rest.split_whitespace().next().unwrap_or_default();
        if first.is_empty() {
            return Err(wrong(&format!("{word} requires at least one argument")));
        }
        if !first.contains('=') {
            let Some((key, value)) = self.rest.split_once(char::is_whitespace) else {
                return Err(wrong(&format!("{word} must have two arguments")));
            };
            let value = words::whole(value.trim(), Env(config.env.as_deref()));
            let value = value.unwrap_or_else(|| self.rest.to_owned());
            return Ok(vec![(key.to_owned(), value)]);
        }
        let mut pairs = Vec::new();
        for text in self.list(config)? {
            let Some((key, value)) = text.split_once('=') else {
                return Err(wrong(&format!(
                    "Syntax error - can't find = in {text:?}. Must be of the form: name=value"
                )));
            };
            if key.is_empty() {
                return Err(wrong(&format!("{word} names can not be blank")));
            }
            pairs.push((key.to_owned(), value.to_owned()));
        }
        Ok(pairs)
    }

    fn expose(&self, config: &mut ContainerConfig) -> ApiResult<()> {
        let ports = self.list(config)?;
        if ports.is_empty() {
            return Err(wrong("EXPOSE requires at least one argument"));
        }
        for text in ports {
            let invalid = || wrong(&format!("Invalid containerPort: {text}"));
            let (range, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
            let protocol = protocol.to_ascii_lowercase();
            if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
                return Err(wrong(&format!("invalid proto: {protocol}")));
            }
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| text.parse::<u16>().map_err(|_no_port| invalid());
            let (first, last) = (number(first)?, number(last)?);
            if u32::from(last) < u32::from(first) || u32::from(last - first) >= PORTS {
                return Err(invalid());
            }
            let set = config.exposed_ports.get_or_insert_default();
            set.extend((first..=last).map(|port| (format!("{port}/{protocol}"), Empty {})));
        }
        Ok(())
    }

    fn volume(&self, config: &mut ContainerConfig) -> ApiResult<()> {
        let paths: Vec<String> = match serde_json::from_str(self.rest) {
            Ok(paths) => paths,
            Err(_not_json) => self.list(config)?,
        };
        if paths.is_empty() {
            return Err(wrong("VOLUME requires at least one argument"));
        }
        for path in paths {
            if path.trim().is_empty() {
                return Err(wrong("VOLUME specified can not be an empty string"));
            }
            let set = config.volumes.get_or_insert_default();
            set.insert(path.trim().to_owned(), Empty {});
        }
        Ok(())
    }

    /// `[--interval=… …] CMD …` or `NONE`.
    fn healthcheck(&self, config: &ContainerConfig) -> ApiResult<HealthConfig> {
        let mut health = HealthConfig::default();
        let mut rest = self.rest;
        while let Some(option) = rest.strip_prefix("--") {
            let (option, tail) = option
                .split_once(char::is_whitespace)
                .unwrap_or((option, ""));
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            Self::health_option(&mut health, key, value)?;
            rest = tail.trim_start();
        }
        let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let command = command.trim();
        match kind.to_ascii_uppercase().as_str() {
            "NONE" if command.is_empty() => health.test = vec!["NONE".to_owned()],
            "NONE" => return Err(wrong("HEALTHCHECK NONE takes no arguments")),
            "CMD" if command.is_empty() => {
                return Err(wrong("missing command after HEALTHCHECK CMD"));
            }
            "CMD" => {
                let words = serde_json::from_str::<Vec<String>>(command);
                health.test = match (words, &config.shell) {
                    (Ok(words), _) => [vec!["CMD".to_owned()], words].concat(),
                    (Err(_), Some(shell)) if !shell.is_empty() => {
                        let command = vec![command.to_owned()];
                        [vec!["CMD".to_owned()], shell.clone(), command].concat()
                    }
                    (Err(_), _) => vec!["CMD-SHELL".to_owned(), command.to_owned()],
                };
            }
            "" => return Err(wrong("HEALTHCHECK requires at least one argument")),
            other => {
                let why = format!("Unknown type {other:?} in HEALTHCHECK (try CMD)");
                return Err(wrong(&why));
            }
        }
        Ok(health)
    }

    fn health_option(health: &mut HealthConfig, key: &str, value: &str) -> ApiResult<()> {
        let time = || {
            let nanos = duration::parse_go(value);
            let nanos = nanos.map_err(|err| wrong(&err.to_string()))?;
            if nanos != 0 && nanos < 1_000_000 {
                return Err(wrong(&format!("interval {key:?} cannot be less than 1ms")));
            }
            Ok(nanos)
        };
        match key {
            "interval" => health.interval = time()?,
            "timeout" => health.timeout = time()?,
            "start-period" => health.start_period = time()?,
            "start-interval" => health.start_interval = time()?,
            "retries" => {
                let retries = value.parse().ok().filter(|retries| *retries >= 0);
                let wrong = || wrong(&format!("invalid value {value:?} for --retries"));
                health.retries = retries.ok_or_else(wrong)?;
            }
            other => return Err(wrong(&format!("unknown flag: --{other}"))),
        }
        Ok(())
    }

    fn check_trigger(&self) -> ApiResult<()> {
        let trigger = self.rest.split_whitespace().next().unwrap_or_default();
        match trigger.to_ascii_uppercase().as_str() {
            "" => Err(wrong("ONBUILD requires at least one argument")),
            "ONBUILD" => Err(wrong(
                "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
            )),
            word @ ("MAINTAINER" | "FROM") => Err(wrong(&format!(
                "{word} isn't allowed as an ONBUILD trigger"
            ))),
            _ => Ok(()),
        }
    }
}

fn wrong(why: &str) -> ApiError {
    ApiError::invalid(why)
}

fn set_env(config: &mut ContainerConfig, key: &str, value: &str) {
    let entry = format!("{key}={value}");
    let env = config.env.get_or_insert_default();
    let name = |entry: &str| entry.split('=').next() == Some(key);
    match env.iter_mut().find(|old| name(old)) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

/// A relative directory begins where the last one was.
fn joined(before: &str, path: &str) -> String {
    use std::path::{Component, Path, PathBuf};
    let mut clean = PathBuf::from("/");
    for part in Path::new("/").join(before).join(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(lines: &[&str]) -> Result<ContainerConfig, String> {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let mut config = ContainerConfig {
            cmd: Some(vec!["old".to_owned()]),
            working_dir: "/w".to_owned(),
            env: Some(vec!["A=1".to_owned(), "PATH=/bin".to_owned()]),
            ..ContainerConfig::default()
        };
        apply(&mut config, &lines).map_err(|err| err.message)?;
        Ok(config)
    }

    #[test]
    fn every_instruction_reaches_its_field() {
        let config = applied(&[
            "ENTRYPOINT [\"/e\", \"x\"]",
            "ENV A=2 B=\"b c\" C=$A/d\nENV old form of it",
            "LABEL one=1 two='2 2'",
            "EXPOSE 80 53/udp 8000-8002",
            "VOLUME /a /b",
            "VOLUME [\"/c d\"]",
            "USER me:us",
            "WORKDIR sub/../dir",
            "STOPSIGNAL SIGQUIT",
            "ONBUILD RUN echo $A",
            "HEALTHCHECK --interval=5s --retries=3 CMD curl -f http://x/",
        ])
        .unwrap();
        assert_eq!(config.entrypoint.unwrap(), ["/e", "x"]);
        assert_eq!(config.cmd, None);
        assert_eq!(
            config.env.unwrap(),
            ["A=2", "PATH=/bin", "B=b c", "C=1/d", "old=form of it"]
        );
        let labels: Vec<_> = config.labels.unwrap().into_iter().collect();
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(labels, [label("one", "1"), label("two", "2 2")]);
        let ports: Vec<_> = config.exposed_ports.unwrap().into_keys().collect();
        assert_eq!(
            ports,
            ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]
        );
        let volumes: Vec<_> = config.volumes.unwrap().into_keys().collect();
        assert_eq!(volumes, ["/a", "/b", "/c d"]);
        assert_eq!(config.user, "me:us");
        assert_eq!(config.working_dir, "/w/dir");
        assert_eq!(config.stop_signal, "SIGQUIT");
        assert_eq!(config.on_build.unwrap(), ["RUN echo $A"]);
        let health = config.healthcheck.unwrap();
        assert_eq!(health.test, ["CMD-SHELL", "curl -f http://x/"]);
        assert_eq!((health.interval, health.retries), (5_000_000_000, 3));
    }

    #[test]
    fn a_command_given_with_the_entrypoint_stays() {
        let config = applied(&["CMD [\"new\"]", "ENTRYPOINT run it"]).unwrap();
        assert_eq!(config.cmd.unwrap(), ["new"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "run it"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, message) in [
            ("RUN rm -rf /", "RUN is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV a", "ENV must have two arguments"),
            ("EXPOSE x", "Invalid containerPort: x"),
            ("HEALTHCHECK CMD", "missing command after HEALTHCHECK CMD"),
            ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
            ("STOPSIGNAL NOPE", "invalid signal: NOPE"),
            (
                "LABEL a='b",
                "unexpected end of statement while looking for a quote",
            ),
        ] {
            assert_eq!(applied(&[line]).unwrap_err(), message, "{line}");
        }
    }
}
