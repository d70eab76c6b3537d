//! `commit CONTAINER [REPOSITORY[:TAG]]`

use havre_client::Query;
use havre_types::Reference;

use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::flags::Matches;

pub(super) async fn commit(app: &mut App, matches: &Matches) -> Outcome {
    let name = matches.args.first().map_or("", String::as_str);
    let (repository, tag) = match matches.args.get(1) {
        Some(text) => named(text)?,
        None => Default::default(),
    };
    let mut query = Query::new()
        .text("container", name)
        .text("repo", &repository)
        .text("tag", &tag)
        .text("author", matches.text_or_empty("author"))
        .text("comment", matches.text_or_empty("message"));
    for change in matches.list("change") {
        query = query.text("changes", change);
    }
    if matches.on("no-pause") || !matches.on_or("pause", true) {
        query = query.text("pause", "0");
    }
    let image = app.client.commit(&query).await?;
    app.ui.line(&image.id);
    Ok(())
}

/// Repository and tag, as the engine takes them apart.
fn named(text: &str) -> Outcome<(String, String)> {
    let name = Reference::parse_normalized(text).map_err(|err| Failure::new(err.to_string()))?;
    if name.digest().is_some() {
        return Err(Failure::new(
            "refusing to create a tag with a digest reference",
        ));
    }
    let tag = name.tag().unwrap_or_default().to_owned();
    Ok((name.familiar_name(), tag))
}
