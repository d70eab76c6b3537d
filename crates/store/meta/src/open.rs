//! Opening: create or check the file, look at every row once, set damaged ones aside. A damaged row
//! or page must never make opening fail; a file of another program must never be touched.

use std::path::Path;

use rusqlite::{Connection, ErrorCode};

use crate::error::OpenError;
use crate::schema::{self, Stored};
use crate::{Quarantined, salvage};

#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) reader: Connection,
    pub(crate) writer: Connection,
    pub(crate) quarantined: Vec<Quarantined>,
}

pub(crate) fn open(path: &Path) -> Result<Opened, OpenError> {
    let sqlite = |source| OpenError::Sqlite {
        path: path.to_owned(),
        source,
    };
    let mut quarantined = Vec::new();
    let writer = match checked(path, &mut quarantined) {
        Ok(writer) => writer,
        Err(OpenError::Sqlite { source, .. }) if is_damage(&source) => {
            quarantined.clear();
            salvage::rebuild(path, &mut quarantined)?;
            checked(path, &mut quarantined)?
        }
        Err(other) => return Err(other),
    };
    sync_directory(path)?;
    let reader = Connection::open(path).map_err(sqlite)?;
    schema::configure(&reader).map_err(sqlite)?;
    reader
        .execute_batch("PRAGMA query_only = ON")
        .map_err(sqlite)?;
    Ok(Opened {
        reader,
        writer,
        quarantined,
    })
}

pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// SQLite syncs the directory for its journals, not for the database file itself.
pub(crate) fn sync_directory(path: &Path) -> Result<(), OpenError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs_err::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| OpenError::Sync {
            path: path.to_owned(),
            source,
        })
}

fn checked(path: &Path, quarantined: &mut Vec<Quarantined>) -> Result<Connection, OpenError> {
    let sqlite = |source| OpenError::Sqlite {
        path: path.to_owned(),
        source,
    };
    let mut connection = Connection::open(path).map_err(sqlite)?;
    identify(path, &connection)?;
    schema::configure(&connection).map_err(sqlite)?;
    let transaction = connection.transaction().map_err(sqlite)?;
    transaction
        .execute_batch(&schema::create())
        .map_err(sqlite)?;
    transaction.commit().map_err(sqlite)?;
    verify(&mut connection, quarantined).map_err(sqlite)?;
    Ok(connection)
}

fn identify(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    let pragma = |name: &str| {
        connection
            .query_row(&format!("PRAGMA {name}"), (), |row| row.get::<_, i64>(0))
            .map_err(|source| OpenError::Sqlite {
                path: path.to_owned(),
                source,
            })
    };
    let (application, found, pages) = (
        pragma("application_id")?,
        pragma("user_version")?,
        pragma("page_count")?,
    );
    // One page and no number: a file that was just being made. Most programs set no number.
    if application != schema::APPLICATION_ID && (application != 0 || pages > 1) {
        return Err(OpenError::Foreign {
            path: path.to_owned(),
        });
    }
    if found > schema::FORMAT {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known: schema::FORMAT,
        });
    }
    Ok(())
}

/// Compares every row with its checksum. Damage to pages comes out as an error, for `salvage`.
fn verify(connection: &mut Connection, quarantined: &mut Vec<Quarantined>) -> rusqlite::Result<()> {
    let mut bad = scan(connection)?;
    if !bad.is_empty() || count_through_index(connection)? != count(connection)? {
        connection.execute_batch("REINDEX objects_key")?;
        let named = std::mem::take(&mut bad);
        bad = scan(connection)?;
        // The index often still knows the right name of a row whose own copy is damaged.
        for row in &mut bad {
            if let Some(before) = named.iter().find(|before| before.seq == row.seq) {
                row.kind.clone_from(&before.kind);
                row.id.clone_from(&before.id);
            }
        }
    }
    if bad.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for row in &bad {
        let reason = "its checksum does not match";
        row.set_aside(&transaction, reason)?;
        transaction.execute("DELETE FROM objects WHERE seq = ?1", (row.seq,))?;
        quarantined.push(row.quarantined(reason));
    }
    transaction.commit()
}

fn scan(connection: &Connection) -> rusqlite::Result<Vec<Stored>> {
    let mut statement = connection.prepare(schema::SCAN)?;
    let mut rows = statement.query(())?;
    let mut bad = Vec::new();
    while let Some(row) = rows.next()? {
        let stored = Stored::read(row);
        if !stored.is_intact() {
            bad.push(stored);
        }
    }
    Ok(bad)
}

fn count(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(body) FROM objects NOT INDEXED", (), |row| {
        row.get::<_, i64>(0)
    })
}

fn count_through_index(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row(
        "SELECT count(id) FROM objects INDEXED BY objects_key",
        (),
        |row| row.get::<_, i64>(0),
    )
}
