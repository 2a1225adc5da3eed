//! The database: users, sessions and notes. Each thread has a connection of its own.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row};
use waterwheel::http::{SessionId, SessionStore, StoredSession};

/// How long a query waits for the writer of another thread.
const BUSY: Duration = Duration::from_secs(5);

/// Notes of one user. With more the oldest go.
const MAX_NOTES: i64 = 1_000;

const TABLES: &str = "
create table if not exists users (name text primary key, hash text not null);
create table if not exists sessions (id text primary key, data text not null, token text not null,
    began integer not null, expires integer not null);
create index if not exists sessions_by_end on sessions (expires);
create table if not exists notes (id integer primary key, user text not null, text text not null);
create index if not exists notes_by_user on notes (user, id);
";

/// A connection to the database. All of its calls may block.
pub(super) struct Database {
    connection: Connection,
}

fn failed(error: rusqlite::Error) -> io::Error {
    io::Error::other(error)
}

impl Database {
    /// Opens the file, which is made if need be.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let open = || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY)?;
            // Readers go on while one writes.
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", "normal")?;
            connection.execute_batch(TABLES)?;
            Ok(Self { connection })
        };
        open().map_err(|error: rusqlite::Error| {
            io::Error::other(format!("the database {}: {error}", path.display()))
        })
    }

    pub(super) fn set_user(&mut self, name: &str, hash: &str) -> io::Result<()> {
        self.run("insert or replace into users (name, hash) values (?1, ?2)", (name, hash))
    }

    pub(super) fn hash_of(&mut self, name: &str) -> io::Result<Option<String>> {
        self.find("select hash from users where name = ?1", (name,), |row| row.get(0))
    }

    pub(super) fn notes(&mut self, user: &str) -> io::Result<Vec<String>> {
        let sql = "select text from notes where user = ?1 order by id desc";
        let mut query = self.connection.prepare_cached(sql).map_err(failed)?;
        let rows = query.query_map((user,), |row| row.get(0)).map_err(failed)?;
        rows.collect::<Result<_, _>>().map_err(failed)
    }

    pub(super) fn add_note(&mut self, user: &str, text: &str) -> io::Result<()> {
        self.run("insert into notes (user, text) values (?1, ?2)", (user, text))?;
        let sql = "delete from notes where user = ?1 and id <= (select id from notes
            where user = ?1 order by id desc limit 1 offset ?2)";
        self.run(sql, (user, MAX_NOTES))
    }

    fn run(&mut self, sql: &str, values: impl rusqlite::Params) -> io::Result<()> {
        let mut query = self.connection.prepare_cached(sql).map_err(failed)?;
        query.execute(values).map_err(failed)?;
        Ok(())
    }

    fn find<T>(
        &mut self,
        sql: &str,
        values: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> io::Result<Option<T>> {
        let mut query = self.connection.prepare_cached(sql).map_err(failed)?;
        query.query_row(values, read).optional().map_err(failed)
    }
}

impl SessionStore for Database {
    fn load(&mut self, id: &SessionId) -> io::Result<Option<StoredSession>> {
        let sql = "select data, token, began, expires from sessions where id = ?1";
        self.find(sql, (id.as_str(),), |row| {
            let (began, expires): (i64, i64) = (row.get(2)?, row.get(3)?);
            let seconds = |time: i64| u64::try_from(time).unwrap_or_default();
            Ok(StoredSession::new(row.get(0)?, row.get(1)?, seconds(began), seconds(expires)))
        })
    }

    fn insert(&mut self, id: &SessionId, session: &StoredSession) -> io::Result<()> {
        let StoredSession { data, token, began, expires, .. } = session;
        let sql = "insert into sessions (id, data, token, began, expires)
            values (?1, ?2, ?3, ?4, ?5)";
        self.run(sql, (id.as_str(), data, token, *began as i64, *expires as i64))
    }

    fn touch(&mut self, id: &SessionId, expires: u64) -> io::Result<()> {
        let sql = "update sessions set expires = ?2 where id = ?1";
        self.run(sql, (id.as_str(), expires as i64))
    }

    fn remove(&mut self, id: &SessionId) -> io::Result<()> {
        self.run("delete from sessions where id = ?1", (id.as_str(),))
    }

    fn expire(&mut self, now: u64) -> io::Result<()> {
        self.run("delete from sessions where expires <= ?1", (now as i64,))
    }
}
