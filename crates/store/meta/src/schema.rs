//! The tables, their statements and the checksum of a row. A row must never be believed before its
//! checksum, which covers kind, id and body, has been compared.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use sha2::{Digest as _, Sha256};

use crate::Quarantined;

/// "hvr1": tells our files from other SQLite databases.
pub(crate) const APPLICATION_ID: i64 = 0x6876_7231;
pub(crate) const FORMAT: i64 = 1;

/// The row id is there so that a damaged index or leaf page can be stepped over one row at a time.
const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS objects(
        seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL,
        sum BLOB NOT NULL, body BLOB NOT NULL);
    CREATE UNIQUE INDEX IF NOT EXISTS objects_key ON objects(kind, id);
    CREATE TABLE IF NOT EXISTS quarantine(
        seq INTEGER PRIMARY KEY, kind BLOB, id BLOB, sum BLOB, body BLOB, reason TEXT NOT NULL);";

/// Makes the tables and signs the file; to be run in a transaction, so that no file has our tables
/// without our signature.
pub(crate) fn create() -> String {
    format!("{CREATE} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT};")
}

pub(crate) const PUT: &str = "
    INSERT INTO objects(kind, id, sum, body) VALUES(?1, ?2, ?3, ?4)
    ON CONFLICT(kind, id) DO UPDATE SET sum = excluded.sum, body = excluded.body";
pub(crate) const DELETE: &str = "DELETE FROM objects WHERE kind = ?1 AND id = ?2";
pub(crate) const GET: &str =
    "SELECT seq, kind, id, sum, body FROM objects WHERE kind = ?1 AND id = ?2";
pub(crate) const LIST: &str =
    "SELECT seq, kind, id, sum, body FROM objects WHERE kind = ?1 ORDER BY id";
/// Kind and id come from the index here, so a damaged index shows as a wrong checksum.
pub(crate) const SCAN: &str =
    "SELECT seq, kind, id, sum, body FROM objects INDEXED BY objects_key ORDER BY kind, id";
pub(crate) const BY_SEQ: &str =
    "SELECT seq, kind, id, sum, body FROM objects NOT INDEXED WHERE seq = ?1";
pub(crate) const SET_ASIDE: &str =
    "INSERT INTO quarantine(kind, id, sum, body, reason) VALUES(?1, ?2, ?3, ?4, ?5)";

/// A row as found on disk; any column may be nonsense.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) seq: i64,
    pub(crate) kind: Vec<u8>,
    pub(crate) id: Vec<u8>,
    pub(crate) sum: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Stored {
    pub(crate) fn read(row: &Row<'_>) -> Self {
        Self {
            seq: row.get(0).unwrap_or_default(),
            kind: bytes(row, 1),
            id: bytes(row, 2),
            sum: bytes(row, 3),
            body: bytes(row, 4),
        }
    }

    pub(crate) fn is_intact(&self) -> bool {
        self.sum == checksum(&self.kind, &self.id, &self.body)
            && std::str::from_utf8(&self.kind).is_ok()
            && std::str::from_utf8(&self.id).is_ok()
    }

    pub(crate) fn kind_text(&self) -> String {
        String::from_utf8_lossy(&self.kind).into_owned()
    }

    pub(crate) fn id_text(&self) -> String {
        String::from_utf8_lossy(&self.id).into_owned()
    }

    pub(crate) fn quarantined(&self, reason: &str) -> Quarantined {
        Quarantined {
            kind: self.kind_text(),
            id: self.id_text(),
            reason: reason.to_owned(),
        }
    }

    /// Keeps the bytes for a person to look at; they are never read back by us.
    pub(crate) fn set_aside(&self, connection: &Connection, reason: &str) -> rusqlite::Result<()> {
        connection
            .prepare_cached(SET_ASIDE)?
            .execute((&self.kind, &self.id, &self.sum, &self.body, reason))?;
        Ok(())
    }
}

fn bytes(row: &Row<'_>, column: usize) -> Vec<u8> {
    match row.get_ref(column) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => bytes.to_vec(),
        _ => Vec::new(),
    }
}

/// 16 bytes of SHA-256: against decay, not against an attacker who can write the file.
pub(crate) fn checksum(kind: &[u8], id: &[u8], body: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in [kind, id, body] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize()[..16].to_vec()
}

/// The documents are in memory already, so SQLite's own copies of pages only have to carry one commit: half a
/// megabyte instead of two for each connection.
/// WAL with FULL: a commit returns after its frames are synced.
/// <https://www.sqlite.org/pragma.html#pragma_synchronous>
pub(crate) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.query_row("PRAGMA journal_mode = WAL", (), |_| Ok(()))?;
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;
         PRAGMA journal_size_limit = 4194304; PRAGMA cache_size = -512;",
    )
}
