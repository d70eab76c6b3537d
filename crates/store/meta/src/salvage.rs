//! Rebuilding a store whose pages are damaged: every row that can still be read goes to a new file,
//! the others are named. The damaged file is kept beside the new one and must never be deleted here.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::Quarantined;
use crate::error::OpenError;
use crate::open::sync_directory;
use crate::schema::{self, Stored};

pub(crate) fn rebuild(path: &Path, quarantined: &mut Vec<Quarantined>) -> Result<(), OpenError> {
    let sqlite = |source| OpenError::Sqlite {
        path: path.to_owned(),
        source,
    };
    let aside = |source| OpenError::SetAside {
        path: path.to_owned(),
        source,
    };
    let (rows, lost) = read_what_is_left(path);
    let fresh = with_suffix(path, ".salvage");
    for leftover in [&fresh, &with_suffix(&fresh, "-journal")] {
        remove_if_there(leftover).map_err(aside)?;
    }
    write_fresh(&fresh, &rows, quarantined).map_err(sqlite)?;
    quarantined.extend(lost);

    let kept = free_name(path);
    fs_err::hard_link(path, &kept).map_err(aside)?;
    // The old log goes first: beside the new file it would be replayed into it.
    for suffix in ["-wal", "-shm"] {
        match fs_err::rename(with_suffix(path, suffix), with_suffix(&kept, suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(aside(error)),
            _ => {}
        }
    }
    sync_directory(path)?;
    fs_err::rename(&fresh, path).map_err(aside)?;
    sync_directory(path)
}

/// All rows that can be fetched one by one, and the names (from the index) of those that cannot.
fn read_what_is_left(path: &Path) -> (Vec<Stored>, Vec<Quarantined>) {
    let Ok(connection) = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
    else {
        return (Vec::new(), vec![whole_file(path)]);
    };
    let mut known: BTreeMap<i64, Option<(String, String)>> = BTreeMap::new();
    for order in ["", "DESC"] {
        names(&connection, order, &mut known);
        sequences(&connection, order, &mut known);
    }
    if known.is_empty() {
        return (Vec::new(), vec![whole_file(path)]);
    }
    let mut rows = Vec::new();
    let mut lost = Vec::new();
    for (seq, name) in known {
        let row = connection
            .prepare_cached(schema::BY_SEQ)
            .and_then(|mut statement| statement.query_row((seq,), |row| Ok(Stored::read(row))));
        match (row, name) {
            (Ok(stored), _) => rows.push(stored),
            (Err(_), Some((kind, id))) => {
                lost.push(Quarantined {
                    kind,
                    id,
                    reason: "its page is unreadable".to_owned(),
                });
            }
            (Err(_), None) => lost.push(Quarantined {
                kind: String::new(),
                id: format!("row {seq}"),
                reason: "its page is unreadable".to_owned(),
            }),
        }
    }
    (rows, lost)
}

fn whole_file(path: &Path) -> Quarantined {
    Quarantined {
        kind: String::new(),
        id: path.display().to_string(),
        reason: "nothing in the file can be read".to_owned(),
    }
}

type Known = BTreeMap<i64, Option<(String, String)>>;

/// Reads until the first damaged page; called once from each end.
fn names(connection: &Connection, order: &str, known: &mut Known) {
    let query = format!(
        "SELECT seq, kind, id FROM objects INDEXED BY objects_key ORDER BY kind {order}, id {order}"
    );
    let Ok(mut statement) = connection.prepare(&query) else {
        return;
    };
    let Ok(mut rows) = statement.query(()) else {
        return;
    };
    while let Ok(Some(row)) = rows.next() {
        if let (Ok(seq), Ok(kind), Ok(id)) = (row.get(0), row.get(1), row.get(2)) {
            known.insert(seq, Some((kind, id)));
        }
    }
}

fn sequences(connection: &Connection, order: &str, known: &mut Known) {
    let query = format!("SELECT seq FROM objects NOT INDEXED ORDER BY seq {order}");
    let Ok(mut statement) = connection.prepare(&query) else {
        return;
    };
    let Ok(mut rows) = statement.query(()) else {
        return;
    };
    while let Ok(Some(row)) = rows.next() {
        if let Ok(seq) = row.get(0) {
            known.entry(seq).or_insert(None);
        }
    }
}

fn write_fresh(
    fresh: &Path,
    rows: &[Stored],
    quarantined: &mut Vec<Quarantined>,
) -> rusqlite::Result<()> {
    let mut connection = Connection::open(fresh)?;
    connection.execute_batch("PRAGMA synchronous = FULL")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(&schema::create())?;
    for row in rows {
        if row.is_intact() {
            let (kind, id) = (row.kind_text(), row.id_text());
            transaction
                .prepare_cached(schema::PUT)?
                .execute((kind, id, &row.sum, &row.body))?;
        } else {
            let reason = "its checksum does not match";
            row.set_aside(&transaction, reason)?;
            quarantined.push(row.quarantined(reason));
        }
    }
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)
}

fn free_name(path: &Path) -> PathBuf {
    (1_u64..)
        .map(|number| with_suffix(path, &format!(".damaged-{number}")))
        .find(|candidate| !candidate.exists())
        .unwrap_or_else(|| with_suffix(path, ".damaged"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
