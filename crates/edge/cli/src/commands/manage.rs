//! `diff`, `export`, `pause`, `port`, `rename`, `top`, `unpause`, `update`, `why`.

use std::io::Write as _;
use std::path::Path;

use havre_client::{Change, Query, Update};
use havre_engine_types::RestartPolicy;
use serde_json::Value;

use super::containers::each;
use crate::app::App;
use crate::config;
use crate::failure::{self, Failure, Outcome, os_text};
use crate::flags::{self, Matches};
use crate::tabwriter;
use crate::ui::{Output, safe};

/// `pause CONTAINER…` and `unpause CONTAINER…`
pub(super) async fn pause(app: &mut App, matches: &Matches, action: &'static str) -> Outcome {
    let client = &app.client.clone();
    let query = &Query::new();
    each(app, &matches.args, |name| async move {
        client.container_post(&name, action, query).await
    })
    .await
}

/// `rename CONTAINER NEW_NAME`
pub(super) async fn rename(app: &mut App, matches: &Matches) -> Outcome {
    let [old, new] = matches.args.as_slice() else {
        return Ok(());
    };
    let (old, new) = (old.trim(), new.trim());
    if old.is_empty() || new.is_empty() {
        return Err(Failure::new(
            "Error: Neither old nor new names may be empty",
        ));
    }
    let query = Query::new().text("name", new);
    app.client
        .container_post(old, "rename", &query)
        .await
        .map_err(|error| {
            let failure = Failure::from(error);
            Failure::new(format!(
                "{}\nError: failed to rename container named {old}",
                failure.message
            ))
        })
}

/// `update CONTAINER…`
pub(super) async fn update(app: &mut App, matches: &Matches) -> Outcome {
    if matches.is_empty() {
        return Err(Failure::new(
            "you must provide one or more flags when using this command",
        ));
    }
    let update = changes_of(matches)?;
    let mut failures = Vec::new();
    let mut warnings = Vec::new();
    for name in &matches.args {
        match app.client.container_update(name, &update).await {
            Ok(answer) => {
                app.ui.line(name);
                warnings.extend(answer.warnings);
            }
            Err(error) => failures.push(Failure::from(error)),
        }
    }
    for warning in warnings {
        app.ui.line(&safe(&warning));
    }
    failure::all(failures)
}

fn changes_of(matches: &Matches) -> Outcome<Update> {
    let text = |name: &str| matches.text_or_empty(name).to_owned();
    let int = |name: &str| matches.int(name).unwrap_or(0);
    let bytes = |name: &str| matches.bytes(name).unwrap_or(0);
    let restart_policy = match matches.text_or_empty("restart") {
        "" => RestartPolicy::default(),
        text => config::parse_restart(text).map_err(|error| Failure::new(error.to_string()))?,
    };
    let (network_receive_bps, network_send_bps) =
        config::network_bps(matches).map_err(|error| Failure::new(error.to_string()))?;
    Ok(Update {
        network_receive_bps,
        network_send_bps,
        blkio_weight: u16::try_from(int("blkio-weight")).unwrap_or(0),
        cpu_period: int("cpu-period"),
        cpu_quota: int("cpu-quota"),
        cpu_realtime_period: int("cpu-rt-period"),
        cpu_realtime_runtime: int("cpu-rt-runtime"),
        cpu_shares: int("cpu-shares"),
        cpuset_cpus: text("cpuset-cpus"),
        cpuset_mems: text("cpuset-mems"),
        memory: bytes("memory"),
        memory_reservation: bytes("memory-reservation"),
        memory_swap: bytes("memory-swap"),
        nano_cpus: matches
            .text("cpus")
            .and_then(|text| flags::parse_cpus(text).ok())
            .unwrap_or(0),
        pids_limit: matches.int("pids-limit").filter(|limit| *limit != 0),
        restart_policy,
    })
}

/// `top CONTAINER [ps OPTIONS]`
pub(super) async fn top(app: &mut App, matches: &Matches) -> Outcome {
    let Some((name, options)) = matches.args.split_first() else {
        return Ok(());
    };
    let top = app.client.container_top(name, &options.join(" ")).await?;
    let mut text = format!("{}\n", safe(&top.titles.join("\t")).replace("\\t", "\t"));
    for process in &top.processes {
        let cells: Vec<_> = process.iter().map(|cell| safe(cell)).collect();
        text.push_str(&cells.join("\t"));
        text.push('\n');
    }
    app.ui.print(&tabwriter::align(&text, 20, 3));
    Ok(())
}

/// `port CONTAINER [PRIVATE_PORT[/PROTO]]`
pub(super) async fn port(app: &mut App, matches: &Matches) -> Outcome {
    let name = matches.args.first().map_or("", String::as_str);
    if matches.on("explain") {
        return explain(app, name).await;
    }
    let container = app.client.container_inspect(name, false).await?;
    let published = container.pointer("/NetworkSettings/Ports");
    let ports = published.and_then(Value::as_object);
    let wanted = match matches.args.get(1) {
        Some(text) => Some(private_port(text)?),
        None => None,
    };
    let mut lines = Vec::new();
    for (private, bindings) in ports.into_iter().flatten() {
        if wanted.as_ref().is_some_and(|wanted| wanted != private) {
            continue;
        }
        for binding in bindings.as_array().into_iter().flatten() {
            let address = host_address(binding);
            lines.push(match wanted {
                Some(_) => address,
                None => format!("{private} -> {address}"),
            });
        }
    }
    if let Some(text) = matches.args.get(1).filter(|_| lines.is_empty()) {
        return Err(Failure::new(format!(
            "Error: No public port '{text}' published for {name}"
        )));
    }
    lines.sort_by(|a, b| naturally(a, b));
    for line in lines {
        app.ui.line(&safe(&line));
    }
    Ok(())
}

/// `port --explain CONTAINER`
async fn explain(app: &mut App, name: &str) -> Outcome {
    let answer = app.client.explain_ports(name).await?;
    let titles = ["PORT", "NETWORK", "FROM", "ADDRESS", "REACHABLE", "BECAUSE"];
    let mut lines = vec![titles.map(str::to_owned).join("\t")];
    for port in answer.ports {
        let reachable = if port.reachable { "yes" } else { "no" };
        let columns = [
            port.port,
            port.network,
            port.from,
            port.address,
            reachable.to_owned(),
            port.because,
        ];
        lines.push(columns.map(|text| safe(&text).into_owned()).join("\t"));
    }
    app.ui.line(&tabwriter::align(&lines.join("\n"), 8, 3));
    Ok(())
}

/// `80` or `80/udp` as the engine's key.
fn private_port(text: &str) -> Outcome<String> {
    let (port, protocol) = match text.split_once('/') {
        Some((port, protocol)) if !protocol.is_empty() => (port, protocol),
        _ => (text, "tcp"),
    };
    match port.parse::<u16>() {
        Ok(_) => Ok(format!("{port}/{protocol}")),
        Err(error) => {
            let cause = match error.kind() {
                std::num::IntErrorKind::PosOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Err(Failure::new(format!(
                "Error: invalid port ({port}): strconv.ParseUint: parsing {port:?}: {cause}"
            )))
        }
    }
}

fn host_address(binding: &Value) -> String {
    let text = |name: &str| {
        binding
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (ip, port) = (text("HostIp"), text("HostPort"));
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

/// Compares texts so that `9` comes before `10`.
pub(super) fn naturally(a: &str, b: &str) -> std::cmp::Ordering {
    let runs = |text: &str| {
        let mut runs: Vec<(u64, String)> = Vec::new();
        let mut last_digit = None;
        for c in text.chars() {
            if last_digit == Some(c.is_ascii_digit())
                && let Some((number, run)) = runs.last_mut()
            {
                run.push(c);
                *number = run.parse().unwrap_or(*number);
            } else {
                let number = c.to_digit(10).map_or(u64::MAX, u64::from);
                runs.push((number, c.to_string()));
                last_digit = Some(c.is_ascii_digit());
            }
        }
        runs
    };
    runs(a).cmp(&runs(b))
}

/// `diff CONTAINER`
pub(super) async fn diff(app: &mut App, matches: &Matches) -> Outcome {
    let name = matches.args.first().map_or("", String::as_str);
    let changes = app.client.container_changes(name).await?;
    for Change { path, kind } in changes {
        let letter = match kind {
            0 => "C",
            1 => "A",
            2 => "D",
            _ => "",
        };
        app.ui.line(&format!("{letter} {}", safe(&path)));
    }
    Ok(())
}

/// `export CONTAINER`
pub(super) async fn export(app: &mut App, matches: &Matches) -> Outcome {
    let name = matches.args.first().map_or("", String::as_str);
    let file = matches.text_or_empty("output");
    if file.is_empty() && app.ui.out_is_terminal() {
        return Err(Failure::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let fail = |error: std::io::Error| Failure::new(format!("failed to export container: {error}"));
    let mut target = if file.is_empty() {
        None
    } else {
        Some(Unfinished::create(Path::new(file)).map_err(fail)?)
    };
    let mut response = app.client.container_export(name).await?;
    while let Some(chunk) = response.chunk().await? {
        match &mut target {
            Some(target) => target.file.write_all(&chunk).map_err(fail)?,
            None => app.ui.write(Output::Out, &chunk),
        }
    }
    target.map_or(Ok(()), |target| target.finish().map_err(fail))
}

/// A file that gets its name once it is complete, and is gone when it never is.
struct Unfinished {
    file: fs_err::File,
    name: Option<std::path::PathBuf>,
    temporary: std::path::PathBuf,
}

impl Unfinished {
    fn create(name: &Path) -> std::io::Result<Self> {
        use fs_err::os::unix::fs::OpenOptionsExt as _;
        // A device or a pipe is written to as it is: replacing it is not what was meant.
        let special = fs_err::metadata(name).is_ok_and(|meta| !meta.is_file() && !meta.is_dir());
        let mut text = name.as_os_str().to_owned();
        if !special {
            text.push(format!(".{}.part", std::process::id()));
        }
        let temporary = std::path::PathBuf::from(text);
        let dir = name.parent().filter(|dir| !dir.as_os_str().is_empty());
        if let Some(dir) = dir
            && let Err(error) = fs_err::metadata(dir)
        {
            let cause = format!("stat {}: {}", dir.display(), os_text(&error));
            return Err(std::io::Error::other(format!(
                "invalid output path: {cause}"
            )));
        }
        if name.is_dir() {
            return Err(std::io::Error::other(format!(
                "{} is a directory",
                name.display()
            )));
        }
        let file = fs_err::OpenOptions::new()
            .write(true)
            .create(!special)
            .truncate(!special)
            .mode(0o600)
            .open(&temporary)?;
        Ok(Self {
            file,
            name: (!special).then(|| name.to_owned()),
            temporary,
        })
    }

    fn finish(mut self) -> std::io::Result<()> {
        match self.name.take() {
            Some(name) => fs_err::rename(&self.temporary, name),
            None => Ok(()),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.name.is_some() {
            // What is left is not what was asked for; that it cannot be removed changes nothing.
            fs_err::remove_file(&self.temporary).ok();
        }
    }
}

/// `why CONTAINER`
pub(super) async fn why(app: &mut App, matches: &Matches) -> Outcome {
    let name = matches.args.first().map_or("", String::as_str);
    let why = app.client.container_why(name).await?;
    let width = app.ui.width();
    // The paragraph has causes and advice in it; the lists beside it are for programs.
    for line in wrap(&why.summary, width) {
        app.ui.line(&safe(&line));
    }
    Ok(())
}

/// Lines of at most so many characters, broken between words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        let room = line.chars().count() + 1 + word.chars().count() <= width;
        if line.is_empty() || room {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sorted_as_numbers() {
        let mut lines = [
            "80/tcp -> a:10",
            "80/tcp -> a:9",
            "9/tcp -> b:1",
            "100/tcp -> b:1",
        ];
        lines.sort_by(|a, b| naturally(a, b));
        assert_eq!(
            lines,
            [
                "9/tcp -> b:1",
                "80/tcp -> a:9",
                "80/tcp -> a:10",
                "100/tcp -> b:1"
            ]
        );
    }

    #[test]
    fn a_paragraph_is_broken_between_words() {
        let text = "box ended with exit code 137. The kernel killed it: memory ran out at its limit of 16MiB.";
        assert_eq!(
            wrap(text, 40),
            [
                "box ended with exit code 137. The kernel",
                "killed it: memory ran out at its limit",
                "of 16MiB."
            ]
        );
    }

    #[test]
    fn private_ports_are_checked() {
        assert_eq!(private_port("80").unwrap(), "80/tcp");
        assert_eq!(private_port("80/udp").unwrap(), "80/udp");
        assert_eq!(
            private_port("x").unwrap_err().message,
            "Error: invalid port (x): strconv.ParseUint: parsing \"x\": invalid syntax"
        );
    }
}
