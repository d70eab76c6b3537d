//! `/system/df`.

use havre_api_traits::{ApiError, UsageQuery};
use hyper::StatusCode;

use super::containers::to_value;
use super::shape;
use crate::call::Call;
use crate::reply::{self, Reply};

pub(super) async fn disk_usage(call: &Call) -> Reply {
    let query = wanted(call)?;
    // From 1.52 on the lists are for those who ask; 1.52 and later still send the old ones to those who do not.
    let verbose = !call.version.before(52) && call.query.flag("verbose");
    let usage = call.api().system.disk_usage(query).await?;
    let mut value = to_value(&usage)?;
    shape::disk_usage(call.version, verbose, &mut value);
    reply::json(StatusCode::OK, &value)
}

fn wanted(call: &Call) -> Result<UsageQuery, ApiError> {
    let kinds = call.query.all("type");
    // The parameter came with 1.42.
    if kinds.is_empty() || call.version.before(42) {
        return Ok(UsageQuery {
            containers: true,
            images: true,
            volumes: true,
            build_cache: true,
        });
    }
    let mut query = UsageQuery::default();
    for kind in kinds {
        match kind.as_str() {
            "container" => query.containers = true,
            "image" => query.images = true,
            "volume" => query.volumes = true,
            "build-cache" => query.build_cache = true,
            _ => {
                let text = format!("unknown object type: {kind}");
                return Err(ApiError::invalid(text));
            }
        }
    }
    Ok(query)
}
