//! The one writer: takes all batches that wait and commits them with one sync. Batches of a commit
//! share its fate; a commit that failed must never be reported as done.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rusqlite::{Connection, TransactionBehavior};

use crate::error::WriteError;
use crate::pending::Completion;
use crate::{Change, schema};

/// Bounds what one transaction holds in memory and how long the first batch in it waits.
const GROUP: usize = 256;

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) changes: Vec<Change>,
    pub(crate) completion: Completion,
}

pub(crate) fn run(mut connection: Connection, queue: &Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        let result = commit(&mut connection, &group).map_err(|source| WriteError::Commit {
            source: Arc::new(source),
        });
        for job in &group {
            job.completion.finish(result.clone());
        }
    }
}

fn commit(connection: &mut Connection, group: &[Job]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut put = transaction.prepare_cached(schema::PUT)?;
        let mut delete = transaction.prepare_cached(schema::DELETE)?;
        for change in group.iter().flat_map(|job| &job.changes) {
            match change {
                Change::Put { kind, id, body } => {
                    let sum = schema::checksum(kind.as_bytes(), id.as_bytes(), body);
                    put.execute((kind, id, sum, body))?;
                }
                Change::Delete { kind, id } => {
                    delete.execute((kind, id))?;
                }
            }
        }
    }
    transaction.commit()
}
