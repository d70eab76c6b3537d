//! Where networks become interfaces and rules: the one way from the records to the data plane.

use std::fmt::Debug;

use havre_api_traits::ApiResult;

use super::record::Record;

/// What carries out what the records say. Its calls block.
pub(crate) trait DataPlane: Debug + Send + Sync {
    /// Makes what the network needs on the host. What a failed call made, it took away again.
    fn add_network(&self, record: &Record) -> ApiResult<()>;

    /// Takes it away again. A network of which nothing is there is no error.
    fn remove_network(&self, record: &Record) -> ApiResult<()>;
}

/// Networks that are records and nothing else: no container can join one.
#[derive(Debug)]
pub(crate) struct RecordsOnly;

impl DataPlane for RecordsOnly {
    fn add_network(&self, _record: &Record) -> ApiResult<()> {
        Ok(())
    }

    fn remove_network(&self, _record: &Record) -> ApiResult<()> {
        Ok(())
    }
}
