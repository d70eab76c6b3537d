//! The fake engine's statistics: three samples, then the end.

use async_trait::async_trait;
use havre_api_traits::{ApiResult, Monitor, StatsMode};
use havre_engine_types::{ContainerStats, TopResponse, WhyResponse};
use tokio::sync::mpsc;

use super::Fake;

#[async_trait]
impl Monitor for Fake {
    async fn top(&self, id: &str, arguments: &str) -> ApiResult<TopResponse> {
        Ok(TopResponse {
            processes: vec![vec![id.to_owned(), arguments.to_owned()]],
            titles: vec!["PID".to_owned(), "CMD".to_owned()],
        })
    }

    async fn stats(&self, id: &str, mode: StatsMode) -> ApiResult<mpsc::Receiver<ContainerStats>> {
        let count = if mode == StatsMode::Stream { 3 } else { 1 };
        let (sender, receiver) = mpsc::channel(count);
        for number in 1..=count {
            let sample = ContainerStats {
                id: id.to_owned(),
                name: format!("{mode:?} {number}"),
                ..ContainerStats::default()
            };
            sender.try_send(sample).expect("there is room for all");
        }
        Ok(receiver)
    }

    async fn why(&self, id: &str) -> ApiResult<WhyResponse> {
        Ok(WhyResponse {
            summary: format!("{id} is fine"),
            ..WhyResponse::default()
        })
    }
}
