//! Processes, statistics and diagnosis over HTTP.

use serde_json::Value;

use crate::rig::Rig;

#[tokio::test]
async fn statistics_come_once_or_as_lines() {
    let rig = Rig::start().await;
    for (query, wanted) in [
        ("?stream=false", "Pair 1"),
        ("?stream=0&one-shot=1", "Single 1"),
    ] {
        let answer = rig
            .ask(&format!("GET /containers/c/stats{query}"), "")
            .await;
        let sample: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(sample["name"], wanted, "{query}");
    }
    let old = rig
        .ask("GET /v1.40/containers/c/stats?stream=0&one-shot=1", "")
        .await;
    assert!(old.body.contains("Pair 1"), "{}", old.body);
    let answer = rig.ask("GET /containers/c/stats", "").await;
    let names: Vec<Value> = answer
        .body
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].clone())
        .collect();
    assert_eq!(names, ["Stream 1", "Stream 2", "Stream 3"]);
    rig.stop().await;
}

#[tokio::test]
async fn top_passes_its_arguments_on() {
    let rig = Rig::start().await;
    let answer = rig
        .ask("GET /containers/c/top?ps_args=-eo%20pid,cmd", "")
        .await;
    assert_eq!(
        answer.body,
        "{\"Processes\":[[\"c\",\"-eo pid,cmd\"]],\"Titles\":[\"PID\",\"CMD\"]}\n"
    );
    rig.stop().await;
}

#[tokio::test]
async fn why_is_havres_own() {
    let rig = Rig::start().await;
    let answer = rig.ask("GET /containers/c/why", "").await;
    assert_eq!(
        answer.body,
        "{\"Summary\":\"c is fine\",\"Causes\":[],\"Advice\":[]}\n"
    );
    rig.stop().await;
}
