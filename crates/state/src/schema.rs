//! Opening, checking and migrating the file. A migration is only ever added at the end of
//! [`MIGRATIONS`]; `user_version` says how many have run. Called by [`crate::State::open`].

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rusqlite::{Connection, ErrorCode};

use crate::Error;

/// Forward-only: entry n brings version n to n + 1.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE containers (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, doc TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE images (name TEXT PRIMARY KEY, doc TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE volumes (name TEXT PRIMARY KEY, doc TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE networks (id TEXT PRIMARY KEY, doc TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
",
    "
    CREATE TABLE image_versions (name TEXT PRIMARY KEY, doc TEXT NOT NULL) WITHOUT ROWID;
",
    "
    CREATE TABLE image_marks (id TEXT PRIMARY KEY, doc TEXT NOT NULL) WITHOUT ROWID;
",
    "
    CREATE TABLE build_results (key TEXT PRIMARY KEY, doc TEXT NOT NULL) WITHOUT ROWID;
",
    "
    CREATE TABLE builds (name TEXT PRIMARY KEY, doc TEXT NOT NULL) WITHOUT ROWID;
",
];

pub(crate) fn open(path: &Path) -> Result<Connection, Error> {
    let classify = |what: &'static str| {
        move |source: rusqlite::Error| match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Error::Corrupt { path: path.to_owned(), detail: source.to_string() }
            }
            _ => Error::Database { what, source },
        }
    };
    keep_private(path)?;
    let mut connection = Connection::open(path).map_err(classify("open"))?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(classify("open"))?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(classify("open"))?;
    // Rows are small documents; a small page cache keeps the idle daemon lean.
    connection.pragma_update(None, "cache_size", -512).map_err(classify("open"))?;
    connection.pragma_update(None, "temp_store", "MEMORY").map_err(classify("open"))?;

    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(classify("check"))?;
    if verdict != "ok" {
        return Err(Error::Corrupt { path: path.to_owned(), detail: verdict });
    }

    let known = MIGRATIONS.len() as i64;
    let found: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(classify("read the version of"))?;
    if found > known || found < 0 {
        return Err(Error::TooNew { path: path.to_owned(), found, known });
    }
    for (version, sql) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        let tx = connection.transaction().map_err(classify("migrate"))?;
        tx.execute_batch(sql).map_err(classify("migrate"))?;
        tx.pragma_update(None, "user_version", version as i64 + 1).map_err(classify("migrate"))?;
        tx.commit().map_err(classify("migrate"))?;
    }
    Ok(connection)
}

/// Mode 0600, as environments of containers hold secrets; SQLite gives its side files the same.
fn keep_private(path: &Path) -> Result<(), Error> {
    let failed = |source: std::io::Error| Error::Access { path: path.to_owned(), source };
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    }
    Ok(())
}
