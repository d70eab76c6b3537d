//! `checkpoint create`, `ls` and `rm`.

use havre_client::Query;
use serde_json::{Value, json};

use crate::app::App;
use crate::failure::Outcome;
use crate::flags::Matches;
use crate::table::{self, Row, Titles};

const TITLES: Titles = &[("Name", "CHECKPOINT NAME")];

/// `checkpoint create CONTAINER CHECKPOINT`
pub(super) async fn create(app: &mut App, matches: &Matches) -> Outcome {
    let [container, checkpoint] = matches.args.as_slice() else {
        return Ok(());
    };
    let request = json!({
        "CheckpointID": checkpoint,
        "CheckpointDir": matches.text_or_empty("checkpoint-dir"),
        "Exit": !matches.on("leave-running"),
    });
    app.client.checkpoint_create(container, &request).await?;
    app.ui.line(checkpoint);
    Ok(())
}

/// `checkpoint ls CONTAINER`
pub(super) async fn list(app: &mut App, matches: &Matches) -> Outcome {
    let container = matches.args.first().map_or("", String::as_str);
    let query = Query::new().text("dir", matches.text_or_empty("checkpoint-dir"));
    let list = app.client.checkpoint_list(container, &query).await?;
    let name = |item: &Value| item.get("Name").and_then(Value::as_str).map(str::to_owned);
    let rows = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| Row::from_iter([("Name".to_owned(), name(item).into())]))
        .collect();
    table::write(
        &mut app.ui,
        "",
        "{{.Name}}",
        TITLES,
        rows,
        "*checkpoint.checkpointContext",
    )
}

/// `checkpoint rm CONTAINER CHECKPOINT`
pub(super) async fn remove(app: &mut App, matches: &Matches) -> Outcome {
    let [container, checkpoint] = matches.args.as_slice() else {
        return Ok(());
    };
    let query = Query::new().text("dir", matches.text_or_empty("checkpoint-dir"));
    Ok(app
        .client
        .checkpoint_remove(container, checkpoint, &query)
        .await?)
}
