//! `stats`: once, or again and again on one screen.

use std::rc::Rc;
use std::time::Duration;

use havre_client::{Client, Query, Sampling};
use havre_engine_types::Filters;
use havre_types::{Timestamp, size};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{interval, timeout};

use crate::app::App;
use crate::failure::{self, Failure, Outcome};
use crate::flags::Matches;
use crate::signals::Background;
use crate::table::{self, Row, Titles};

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";
const TITLES: Titles = &[
    ("Container", "CONTAINER"),
    ("Name", "NAME"),
    ("ID", "CONTAINER ID"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];
/// How often the screen is drawn.
const REDRAW: Duration = Duration::from_millis(500);
/// After so long without an answer the numbers are old.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many containers are asked at once; each is a connection of its own.
const AT_ONCE: usize = 400;

/// What the tasks that watch tell.
enum News {
    /// New numbers of a container; none when they are not known any more.
    Numbers(String, Option<Numbers>),
    /// Nothing more will come of a container.
    Ended(String, Option<Failure>),
    /// A container has come to be watched.
    Appeared(String),
    /// A container is not to be watched any more.
    Gone(String),
    /// The engine went away.
    Over(Option<Failure>),
}

/// The numbers of one moment.
#[derive(Debug, Clone, Default, PartialEq)]
struct Numbers {
    id: String,
    name: String,
    cpu: f64,
    memory: u64,
    memory_limit: u64,
    received: u64,
    sent: u64,
    read: u64,
    written: u64,
    pids: u64,
}

/// One container on the screen.
struct Line {
    container: String,
    numbers: Option<Numbers>,
    /// The name and the id, once they are known.
    known: Option<(String, String)>,
    heard: bool,
    failure: Option<Failure>,
    /// Watches it for as long as it is on the screen.
    _task: Background,
}

/// The screen, and who tells it.
struct Board {
    lines: Vec<Line>,
    client: Rc<Client>,
    sampling: Sampling,
    tell: UnboundedSender<News>,
    slots: Rc<Semaphore>,
}

/// `stats [CONTAINER…]`
pub(super) async fn stats(app: &mut App, matches: &Matches) -> Outcome {
    let format = App::format(matches, &app.config.stats_format).to_owned();
    table::check(&format)?;
    let sampling = if matches.on("no-stream") {
        Sampling::Once
    } else {
        Sampling::Stream
    };
    let (tell, mut news) = unbounded_channel();
    let mut board = Board {
        lines: Vec::new(),
        client: Rc::clone(&app.client),
        sampling,
        tell,
        slots: Rc::new(Semaphore::new(AT_ONCE)),
    };
    let named = !matches.args.is_empty();
    let _events = if named {
        for name in &matches.args {
            board.add(name);
        }
        None
    } else {
        Some(watch_all(app, matches.on("all"), &mut board).await?)
    };
    while board.lines.iter().any(|line| !line.heard) {
        if let Some(outcome) = next(&mut news, &mut board).await {
            return outcome;
        }
    }
    if named {
        let failures = board
            .lines
            .iter_mut()
            .filter_map(|line| line.failure.take());
        failure::all(failures.collect())?;
    }
    let whole = matches.on("no-trunc");
    if sampling == Sampling::Once {
        if board.lines.is_empty() {
            return Ok(());
        }
        let text = board.render(&format, whole)?;
        app.ui.print(&text);
        return Ok(());
    }
    let mut ticks = interval(REDRAW);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if named && board.lines.is_empty() {
                    app.ui.print("\x1b[H\x1b[J");
                    return Ok(());
                }
                let text = board.render(&format, whole)?;
                app.ui.print(&frame(&text));
            }
            outcome = next(&mut news, &mut board) => {
                if let Some(outcome) = outcome {
                    return outcome;
                }
            }
        }
    }
}

/// The screen from its first line: each line is cleared to its end, and what is below the last.
fn frame(text: &str) -> String {
    let lines: Vec<String> = text
        .trim_end_matches('\n')
        .split('\n')
        .map(|line| format!("{line}\x1b[K\n"))
        .collect();
    format!("\x1b[H{}\x1b[J", lines.concat())
}

/// Takes one piece of news; some outcome when it is all over.
async fn next(news: &mut UnboundedReceiver<News>, board: &mut Board) -> Option<Outcome> {
    match news.recv().await? {
        News::Numbers(container, numbers) => {
            if let Some(line) = board.line(&container) {
                if let Some(numbers) = &numbers {
                    line.known = Some((numbers.name.clone(), numbers.id.clone()));
                }
                line.numbers = numbers;
                line.heard = true;
            }
        }
        News::Ended(container, failure) => {
            // Of one answer the numbers stay.
            let keep = board.sampling == Sampling::Once && failure.is_none();
            if let Some(line) = board.line(&container) {
                line.numbers = line.numbers.take().filter(|_| keep);
                line.failure = failure;
                line.heard = true;
            }
        }
        News::Appeared(container) => board.add(&container),
        News::Gone(container) => board.lines.retain(|line| line.container != container),
        News::Over(failure) => return Some(failure.map_or(Ok(()), Err)),
    }
    None
}

/// Puts all containers on the board, and starts to watch for more.
async fn watch_all(app: &App, all: bool, board: &mut Board) -> Outcome<Background> {
    let mut filters = Filters::default();
    filters.add("type", "container");
    let query = Query::new().text("filters", &filters.to_query());
    // From before the list is asked for, so that none is missed in between.
    let mut events = app
        .client
        .events(&query.text("since", &Timestamp::now().unix_text()))
        .await?;
    let tell = board.tell.clone();
    let watch = Background::spawn(async move {
        loop {
            let news = match events.next().await {
                Ok(Some(event)) => match event.action.as_str() {
                    "start" => News::Appeared(event.actor.id),
                    "create" if all => News::Appeared(event.actor.id),
                    "destroy" => News::Gone(event.actor.id),
                    "die" if !all => News::Gone(event.actor.id),
                    _ => continue,
                },
                Ok(None) => News::Over(None),
                Err(error) => News::Over(Some(error.into())),
            };
            let over = matches!(news, News::Over(_));
            // The screen may be gone.
            if tell.send(news).is_err() || over {
                return;
            }
        }
    });
    let list = app
        .client
        .container_list(&Query::new().flag("all", all))
        .await?;
    for container in list {
        board.add(&container.id);
    }
    Ok(watch)
}

impl Board {
    fn line(&mut self, container: &str) -> Option<&mut Line> {
        self.lines
            .iter_mut()
            .find(|line| line.container == container)
    }

    fn add(&mut self, container: &str) {
        if self.line(container).is_some() {
            return;
        }
        let task = watch(
            Rc::clone(&self.client),
            container.to_owned(),
            self.sampling,
            self.tell.clone(),
            Rc::clone(&self.slots),
        );
        self.lines.push(Line {
            container: container.to_owned(),
            numbers: None,
            known: None,
            heard: false,
            failure: None,
            _task: Background::spawn(task),
        });
    }

    fn render(&self, format: &str, whole: bool) -> Outcome<String> {
        let rows = self.lines.iter().map(|line| line.row(whole)).collect();
        table::render(format, TABLE, TITLES, rows, "*container.statsContext")
    }
}

/// Asks for the numbers of one container and tells them.
async fn watch(
    client: Rc<Client>,
    container: String,
    sampling: Sampling,
    tell: UnboundedSender<News>,
    slots: Rc<Semaphore>,
) {
    // The semaphore is never closed.
    let slot = slots.acquire().await.ok();
    let mut stream = match client.container_stats(&container, sampling).await {
        Ok(stream) => stream,
        Err(error) => {
            tell.send(News::Ended(container, Some(error.into()))).ok();
            return;
        }
    };
    loop {
        let news = match timeout(PATIENCE, stream.next()).await {
            Ok(Ok(Some(value))) => News::Numbers(container.clone(), Some(Numbers::of(&value))),
            Ok(Ok(None)) => News::Ended(container.clone(), None),
            Ok(Err(error)) => News::Ended(container.clone(), Some(error.into())),
            Err(_elapsed) => News::Numbers(container.clone(), None),
        };
        let ended = matches!(news, News::Ended(..));
        let once = sampling == Sampling::Once && matches!(news, News::Numbers(_, Some(_)));
        // The screen may be gone.
        if tell.send(news).is_err() || ended || once {
            drop(slot);
            return;
        }
    }
}

impl Numbers {
    /// Docker's arithmetic (<https://docs.docker.com/reference/api/engine/#tag/Container/operation/ContainerStats>).
    fn of(value: &Value) -> Self {
        let number = |pointer: &str| value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let text = |name: &str| {
            let text = value.get(name).and_then(Value::as_str).unwrap_or_default();
            text.trim_start_matches('/').to_owned()
        };
        let networks = || {
            value
                .get("networks")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
        };
        let network = |field: &str| {
            networks()
                .filter_map(|(_, network)| network.get(field)?.as_u64())
                .sum()
        };
        let block = |letter: char| {
            let entries = value
                .pointer("/blkio_stats/io_service_bytes_recursive")
                .and_then(Value::as_array);
            entries
                .into_iter()
                .flatten()
                .filter(|entry| {
                    let operation = entry.get("op").and_then(Value::as_str);
                    operation.is_some_and(|op| op.to_lowercase().starts_with(letter))
                })
                .filter_map(|entry| entry.get("value")?.as_u64())
                .sum()
        };
        Self {
            id: text("id"),
            name: text("name"),
            cpu: cpu_percent(value),
            memory: memory(value),
            memory_limit: number("/memory_stats/limit"),
            received: network("rx_bytes"),
            sent: network("tx_bytes"),
            read: block('r'),
            written: block('w'),
            pids: number("/pids_stats/current"),
        }
    }
}

/// The share of one CPU that was used between the two moments of a sample, times the CPUs.
#[expect(
    clippy::cast_precision_loss,
    reason = "percents need no more digits than a float has"
)]
fn cpu_percent(value: &Value) -> f64 {
    let number = |pointer: &str| value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let difference = |field: &str| {
        number(&format!("/cpu_stats/{field}"))
            .saturating_sub(number(&format!("/precpu_stats/{field}"))) as f64
    };
    let (used, system) = (
        difference("cpu_usage/total_usage"),
        difference("system_cpu_usage"),
    );
    let cpus = match number("/cpu_stats/online_cpus") {
        0 => value
            .pointer("/cpu_stats/cpu_usage/percpu_usage")
            .and_then(Value::as_array)
            .map_or(0, |cpus| cpus.len() as u64),
        cpus => cpus,
    };
    if used > 0.0 && system > 0.0 {
        used / system * cpus as f64 * 100.0
    } else {
        0.0
    }
}

/// Memory without the cache that the kernel can drop at once: the name of that counter differs between cgroup
/// versions 1 and 2.
fn memory(value: &Value) -> u64 {
    let number = |pointer: &str| value.pointer(pointer).and_then(Value::as_u64);
    let usage = number("/memory_stats/usage").unwrap_or(0);
    let inactive = number("/memory_stats/stats/total_inactive_file")
        .filter(|inactive| *inactive < usage)
        .or_else(|| number("/memory_stats/stats/inactive_file"))
        .filter(|inactive| *inactive < usage)
        .unwrap_or(0);
    usage - inactive
}

impl Line {
    #[expect(
        clippy::cast_precision_loss,
        reason = "percents need no more digits than a float has"
    )]
    fn row(&self, whole: bool) -> Row {
        let (name, id) = self.known.clone().unwrap_or_default();
        let mut row = Row::new();
        let mut set = |key: &str, value: String| row.insert(key.to_owned(), value.into());
        set("Container", self.container.clone());
        set(
            "Name",
            if name.is_empty() {
                "--".to_owned()
            } else {
                name
            },
        );
        set("ID", if whole { id } else { table::short_id(&id) });
        let Some(numbers) = &self.numbers else {
            for field in ["CPUPerc", "MemPerc", "NetIO", "BlockIO", "PIDs"] {
                set(field, "--".to_owned());
            }
            set("MemUsage", "-- / --".to_owned());
            return row;
        };
        let percent = |value: f64| format!("{value:.2}%");
        let pair =
            |a: u64, b: u64, human: fn(u64) -> String| format!("{} / {}", human(a), human(b));
        set("CPUPerc", percent(numbers.cpu));
        set(
            "MemUsage",
            pair(numbers.memory, numbers.memory_limit, size::human_binary),
        );
        let share = match numbers.memory_limit {
            0 => 0.0,
            limit => numbers.memory as f64 / limit as f64 * 100.0,
        };
        set("MemPerc", percent(share));
        set(
            "NetIO",
            pair(numbers.received, numbers.sent, size::human_decimal),
        );
        set(
            "BlockIO",
            pair(numbers.read, numbers.written, size::human_decimal),
        );
        set("PIDs", numbers.pids.to_string());
        row
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_numbers_are_dockers() {
        let sample = json!({
            "name": "/web", "id": "ab",
            "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 4},
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 1000, "limit": 2000, "stats": {"inactive_file": 200}},
            "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"op": "Read", "value": 5}, {"op": "read", "value": 6}, {"op": "Write", "value": 7}, {"op": "Sync", "value": 9}
            ]},
            "pids_stats": {"current": 3}
        });
        let numbers = Numbers::of(&sample);
        let expected = Numbers {
            id: "ab".to_owned(),
            name: "web".to_owned(),
            cpu: 80.0,
            memory: 800,
            memory_limit: 2000,
            received: 11,
            sent: 22,
            read: 11,
            written: 7,
            pids: 3,
        };
        assert_eq!(numbers, expected);
        assert_eq!(Numbers::of(&json!({})), Numbers::default());
    }

    #[test]
    fn a_frame_clears_what_is_left_of_the_last_one() {
        assert_eq!(frame("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
