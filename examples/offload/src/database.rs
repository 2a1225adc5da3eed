//! The database: keys and texts in a table, a connection to it for each thread.

use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Result};

/// What a client may ask for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Query {
    Put(String, String),
    Get(String),
    Slow(Duration),
}

/// A connection to the database. All of its calls may block for long.
pub(crate) struct Database {
    connection: Connection,
}

/// How long a query waits for the writer of another thread.
const BUSY: Duration = Duration::from_secs(10);

impl Database {
    /// A connection to a file, which is made if need be.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        // Readers go on while one writes.
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        let table = "create table if not exists texts (key text primary key, text text not null)";
        connection.execute(table, ())?;
        Ok(Self { connection })
    }

    /// Runs a query; the answer is for the client, and so is what went wrong.
    pub(crate) fn run(&self, query: &Query) -> String {
        let answer = match query {
            Query::Put(key, text) => self.put(key, text).map(|()| "ok".to_owned()),
            Query::Get(key) => self.get(key).map(|text| match text {
                Some(text) => format!("value {text}"),
                None => "none".to_owned(),
            }),
            Query::Slow(time) => {
                thread::sleep(*time);
                Ok(format!("slept {}", time.as_millis()))
            }
        };
        answer.unwrap_or_else(|error| format!("error: {error}"))
    }

    fn put(&self, key: &str, text: &str) -> Result<()> {
        let sql = "insert or replace into texts (key, text) values (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute((key, text))?;
        Ok(())
    }

    fn get(&self, key: &str) -> Result<Option<String>> {
        let sql = "select text from texts where key = ?1";
        self.connection.prepare_cached(sql)?.query_row((key,), |row| row.get(0)).optional()
    }
}
