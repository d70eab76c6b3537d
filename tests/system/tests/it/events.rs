//! Events: Docker's actions and attributes in order, bounds and filters, and a journal that outlives the engine.

use crate::support::{SLEEPING_BOX, engine};
use anyhow::{Context as _, Result, ensure};
use havre_testkit::Engine;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Everything recorded so far, oldest first.
fn recorded(engine: &Engine, filters: &[&str]) -> Result<Vec<Value>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let now = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let mut words = vec![
        "events", "--since", "0", "--until", &now, "--format", "json",
    ];
    for filter in filters {
        words.extend(["--filter", filter]);
    }
    let lines = engine.docker(&words)?;
    lines
        .lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}

fn actions(events: &[Value]) -> Vec<String> {
    let action = |event: &Value| event["Action"].as_str().unwrap_or("").to_owned();
    events.iter().map(action).collect()
}

#[test]
fn a_life_is_told_in_order_with_dockers_attributes() -> Result<()> {
    let engine = engine()?;
    engine.docker(&[&SLEEPING_BOX[..4], &["--label", "k=v"], &SLEEPING_BOX[4..]].concat())?;
    engine.docker(&["exec", "box", "true"])?;
    engine.docker(&["pause", "box"])?;
    engine.docker(&["unpause", "box"])?;
    engine.docker(&["rename", "box", "other"])?;
    engine.docker(&["stop", "-t", "0", "other"])?;
    engine.docker(&["rm", "other"])?;
    let events = recorded(&engine, &["type=container"])?;
    assert_eq!(
        actions(&events),
        [
            "create",
            "start",
            "exec_create: true ",
            "exec_start: true ",
            "exec_die",
            "pause",
            "unpause",
            "rename",
            "kill",
            "kill",
            "die",
            "stop",
            "destroy"
        ]
    );
    for event in &events {
        let attributes = &event["Actor"]["Attributes"];
        assert_eq!(attributes["image"], "busybox", "{event}");
        assert_eq!(attributes["k"], "v", "{event}");
        assert_eq!(event["scope"], "local");
    }
    let of = |action: &str, name: &str| -> Result<Value> {
        let event = events.iter().find(|event| event["Action"] == action);
        Ok(event.context("no event")?["Actor"]["Attributes"][name].clone())
    };
    assert_eq!(of("die", "exitCode")?, "137");
    assert_eq!(of("kill", "signal")?, "15");
    assert_eq!(of("rename", "oldName")?, "/box");
    assert_eq!(of("exec_die", "exitCode")?, "0");
    ensure!(of("die", "execDuration")?.is_string());

    // Filters of every kind, by beginnings of names and ids as Docker compares them.
    let id = events[0]["Actor"]["ID"]
        .as_str()
        .context("an id")?
        .to_owned();
    for (filters, count) in [
        (vec!["event=die".to_owned()], 1),
        (vec!["event=exec_create".to_owned()], 1),
        (vec![format!("container={}", &id[..12])], 13),
        (vec!["container=othe".to_owned()], 6),
        (vec!["label=k=v".to_owned()], 13),
        (vec!["label=k=w".to_owned()], 0),
        (vec!["image=busybox".to_owned(), "event=load".to_owned()], 0),
        (vec!["event=load".to_owned()], 1),
        (vec!["type=network".to_owned()], 0),
    ] {
        let words: Vec<&str> = filters.iter().map(String::as_str).collect();
        assert_eq!(recorded(&engine, &words)?.len(), count, "{filters:?}");
    }
    Ok(())
}

#[test]
fn the_journal_outlives_a_killed_engine() -> Result<()> {
    let mut engine = engine()?;
    for number in 0..20 {
        let name = format!("c{number}");
        engine.docker(&[
            "create",
            "--network",
            "none",
            "--name",
            &name,
            "busybox",
            "true",
        ])?;
    }
    engine.docker(&["rm", "c0"])?;
    engine.docker(&["rename", "c1", "renamed"])?;
    let before = recorded(&engine, &["type=container"])?;
    assert_eq!(before.len(), 22);
    engine.kill9()?;
    engine.restart()?;
    assert_eq!(recorded(&engine, &["type=container"])?, before);
    engine.docker(&["rm", "renamed"])?;
    let all = recorded(&engine, &["type=container"])?;
    assert_eq!(actions(&all)[20..], ["destroy", "rename", "destroy"]);
    let times: Vec<i64> = all.iter().filter_map(|e| e["timeNano"].as_i64()).collect();
    ensure!(times.is_sorted() && times.len() == 23, "{times:?}");
    Ok(())
}

#[test]
fn a_slow_reader_loses_nothing_that_is_recorded() -> Result<()> {
    let engine = engine()?;
    engine.docker(&[
        "create",
        "--network",
        "none",
        "--name",
        "box",
        "busybox",
        "true",
    ])?;
    let mut reader = UnixStream::connect(engine.socket())?;
    reader.set_read_timeout(Some(Duration::from_secs(20)))?;
    // It asks and does not read: its buffers fill, and the engine goes on.
    reader.write_all(
        b"GET /events?filters=%7B%22event%22%3A%5B%22rename%22%5D%7D HTTP/1.1\r\nHost: x\r\n\r\n",
    )?;
    let mut lines = BufReader::new(reader).lines();
    let head = lines.next().context("an answer")??;
    assert_eq!(head, "HTTP/1.1 200 OK");
    let mut writer = UnixStream::connect(engine.socket())?;
    writer.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut answers = BufReader::new(writer.try_clone()?);
    let mut name = "box".to_owned();
    for number in 0..1500 {
        let next = format!("{}{number}", "n".repeat(100));
        let request = format!(
            "POST /containers/{name}/rename?name={next} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        );
        writer.write_all(request.as_bytes())?;
        let mut line = String::new();
        answers.read_line(&mut line)?;
        ensure!(line.contains("204"), "{line}");
        while line != "\r\n" {
            line.clear();
            answers.read_line(&mut line)?;
        }
        name = next;
    }
    let mut seen = 0;
    while seen < 1500 {
        let line = lines.next().context("the stream ended")??;
        let Ok(event) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        if event["Action"] == "rename" {
            let name = event["Actor"]["Attributes"]["name"].as_str().unwrap_or("");
            assert_eq!(name, format!("{}{seen}", "n".repeat(100)));
            seen += 1;
        }
    }
    engine.docker(&["rm", &name])?;
    Ok(())
}

#[test]
fn a_reader_that_is_too_slow_is_told_what_it_missed() -> Result<()> {
    let engine = engine()?;
    engine.docker(&[
        "create",
        "--network",
        "none",
        "--name",
        "aa",
        "busybox",
        "true",
    ])?;
    let mut reader = UnixStream::connect(engine.socket())?;
    reader.set_read_timeout(Some(Duration::from_secs(20)))?;
    reader.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut lines = BufReader::new(reader).lines();
    assert_eq!(lines.next().context("an answer")??, "HTTP/1.1 200 OK");
    let label = "x".repeat(200);
    let mut writer = UnixStream::connect(engine.socket())?;
    writer.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut answers = BufReader::new(writer.try_clone()?);
    for number in 0..9000 {
        let (from, to) = if number % 2 == 0 {
            ("aa", &*label)
        } else {
            (&*label, "aa")
        };
        let request = format!(
            "POST /containers/{from}/rename?name={to} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        );
        writer.write_all(request.as_bytes())?;
        let mut line = String::new();
        answers.read_line(&mut line)?;
        ensure!(line.contains("204"), "{line}");
        while line != "\r\n" {
            line.clear();
            answers.read_line(&mut line)?;
        }
    }
    let (mut seen, mut missed) = (0, 0);
    while seen + missed < 9000 {
        let line = lines.next().context("the stream ended")??;
        let Ok(event) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        let attributes = &event["Actor"]["Attributes"];
        match event["Action"].as_str() {
            Some("rename") => seen += 1,
            Some("events-missed") => {
                assert_eq!(event["Type"], "daemon");
                missed += attributes["count"]
                    .as_str()
                    .context("a count")?
                    .parse::<u32>()?;
            }
            _ => {}
        }
    }
    assert_eq!(seen + missed, 9000);
    ensure!(
        missed > 0,
        "the reader was not slow enough to test anything"
    );
    engine.docker(&["rm", "aa"])?;
    Ok(())
}
