//! One connection, driven to an answer at a time.
//!
//! A sink is called and returns; the client library is asynchronous. So each piece of work runs to its end on a thread
//! of its own: the caller may itself be inside an executor (batch jobs are), where a second one could not run.
//!
//! Nothing waits for ever: a connection and every single answer have `patience`. A server that is stopped keeps its
//! sockets open, so only a clock can tell.

use super::options::{Address, PASSWORD, PATIENCE, Settings, URL, USERNAME};
use futures::{SinkExt, TryStreamExt};
use millstream_core::{Error, Result};
use std::error::Error as _;
use std::future::Future;
use std::io::Cursor;
use std::pin::pin;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

pub struct Session {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    link: Link,
}

/// What work is done with: the client, with a bound on each answer and errors in our words.
pub struct Link {
    client: Client,
    address: Address,
    patience: Duration,
}

impl Session {
    /// Connects and prepares the session: ISO dates, UTC, and a server that gives up on us when we vanish in the
    /// middle of a transaction.
    ///
    /// # Errors
    /// `Io` where another try may help, `Usage` where it cannot: a wrong password, no such database.
    pub fn connect(settings: &Settings) -> Result<Session> {
        let Settings { address, patience, .. } = settings;
        let mut config = Config::new();
        for (host, port) in &address.hosts {
            config.host(host).port(*port);
        }
        config.dbname(&address.database).application_name(&address.application).connect_timeout(*patience);
        if let Some(user) = &address.user {
            config.user(user);
        }
        if let Some(password) = &address.password {
            config.password(password.reveal());
        }
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::io(format!("cannot start the thread of a connection: {e}")))?;
        let connected = on_a_thread(&runtime, async || {
            let (client, connection) = tokio::time::timeout(*patience, config.connect(NoTls))
                .await
                .map_err(|_| silent(address, *patience, "to accept the connection"))?
                .map_err(|e| explain(address, "connect", &e))?;
            // It ends with the client; what went wrong reaches the client as well.
            tokio::spawn(async move {
                let _ = connection.await;
            });
            let link = Link { client, address: address.clone(), patience: *patience };
            let vanished_ms = patience.as_millis().saturating_mul(2).min(i32::MAX as u128);
            link.execute(&format!(
                "SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'; SET client_min_messages = warning; \
                 SET idle_in_transaction_session_timeout = {vanished_ms}"
            ))
            .await?;
            if let Some(schema) = &address.schema {
                link.query("SELECT set_config('search_path', $1, false)", &[schema]).await?;
            }
            // What we are told is committed must survive a crash of the server: we then forget the rows.
            link.execute(
                "SELECT set_config('synchronous_commit', 'on', false) \
                 WHERE current_setting('synchronous_commit') = 'off'",
            )
            .await?;
            Ok(link)
        });
        match connected {
            Ok(link) => Ok(Session { runtime: Some(runtime), link }),
            Err(e) => {
                runtime.shutdown_background();
                Err(e)
            }
        }
    }

    /// Does `work` and waits for its end.
    pub fn run<T: Send>(&mut self, work: impl AsyncFnOnce(&Link) -> Result<T> + Send) -> Result<T> {
        let runtime = self.runtime.as_ref().expect("there until it is dropped");
        let link = &self.link;
        on_a_thread(runtime, async || work(link).await)
    }

    /// The same within one transaction: committed if `work` succeeds, else rolled back.
    pub fn transaction<T: Send>(&mut self, work: impl AsyncFnOnce(&Link) -> Result<T> + Send) -> Result<T> {
        self.run(async |link| {
            link.execute("BEGIN").await?;
            match work(link).await {
                Ok(done) => link.execute("COMMIT").await.map(|()| done),
                Err(e) => {
                    let _ = link.execute("ROLLBACK").await;
                    Err(e)
                }
            }
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Waiting for its threads is not allowed inside another executor, and there is nothing to wait for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn on_a_thread<T: Send>(runtime: &Runtime, work: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let working = scope.spawn(|| runtime.block_on(async { work().await }));
        working.join().unwrap_or_else(|_| Err(Error::internal("the thread of a connection has panicked")))
    })
}

impl Link {
    /// Statements without parameters and without an answer of interest.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        self.answer(sql, self.client.batch_execute(sql)).await
    }

    pub async fn query(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        self.answer(sql, self.client.query(sql, parameters)).await
    }

    pub async fn prepare(&self, sql: &str) -> Result<Statement> {
        self.answer(sql, self.client.prepare(sql)).await
    }

    /// Gives each row of the answer to `each` as it comes; `patience` is for each of them.
    pub async fn rows(
        &self,
        sql: &str,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
        mut each: impl FnMut(&Row) -> Result<()>,
    ) -> Result<()> {
        let parameters = parameters.iter().map(|p| *p as &dyn ToSql);
        let mut rows = pin!(self.answer(sql, self.client.query_raw(statement, parameters)).await?);
        while let Some(row) = self.answer(sql, rows.try_next()).await? {
            each(&row)?;
        }
        Ok(())
    }

    /// Sends what `next` gives, piece by piece until `None`, as the rows of a COPY.
    pub async fn copy(&self, sql: &str, mut next: impl FnMut() -> Result<Option<Vec<u8>>>) -> Result<u64> {
        let mut sink = pin!(self.answer(sql, self.client.copy_in::<_, Cursor<Vec<u8>>>(sql)).await?);
        while let Some(piece) = next()? {
            self.answer(sql, sink.send(Cursor::new(piece))).await?;
        }
        self.answer(sql, sink.finish()).await
    }

    async fn answer<T>(
        &self,
        sql: &str,
        asked: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        // Enough to know which statement it was.
        let doing = || sql.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        match tokio::time::timeout(self.patience, asked).await {
            Ok(answer) => answer.map_err(|e| explain(&self.address, &doing(), &e)),
            Err(_) => Err(silent(&self.address, self.patience, &format!("to {}", doing()))),
        }
    }
}

fn silent(address: &Address, patience: Duration, what: &str) -> Error {
    let waited = millstream_core::format_duration(patience);
    Error::io(format!("PostgreSQL at {address} has not answered for {waited} when asked {what}"))
        .remedy(format!("see that the server is well and not waiting for a lock, or raise '{PATIENCE}'"))
}

/// An error of the client in our words. Its kind says whether another try may help: `Io` if so.
fn explain(address: &Address, doing: &str, e: &tokio_postgres::Error) -> Error {
    let Some(db) = e.as_db_error() else {
        // The cause says more than the frame: `Connection refused` where it says `error connecting to server`.
        let cause = e.source().map_or_else(|| e.to_string(), ToString::to_string);
        if cause.contains("password missing") {
            return Error::usage(format!("PostgreSQL at {address} asks for a password"))
                .remedy(format!("add '{PASSWORD}' = '${{NAME_OF_AN_ENVIRONMENT_VARIABLE}}' to the table's options"));
        }
        let name_unknown = cause.contains("lookup address");
        return Error::io(format!("PostgreSQL at {address} cannot be reached ({doing}): {cause}")).remedy(
            if name_unknown {
                format!("check the host in '{URL}'")
            } else {
                format!("see that the server runs and takes connections at the host and port of '{URL}'")
            },
        );
    };
    let code = db.code();
    let mut what = format!("PostgreSQL at {address}, {doing}: {} ({})", db.message(), code.code());
    for more in [db.detail(), db.where_()].into_iter().flatten() {
        what.push_str("; ");
        what.push_str(more.lines().next().unwrap_or_default());
    }
    let class = &code.code()[..2.min(code.code().len())];
    match class {
        "28" => Error::usage(what).remedy(format!("check '{USERNAME}' and '{PASSWORD}', and the server's pg_hba.conf")),
        "3D" => Error::usage(what).remedy(format!("check the database in '{URL}', or CREATE DATABASE it")),
        _ if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            Error::usage(what).remedy("GRANT the user what it needs: SELECT, INSERT, UPDATE, DELETE on the table, TEMPORARY on the database")
        }
        // Connections, resources, an administrator's stop, locks and conflicts with other transactions.
        "08" | "40" | "53" | "55" | "57" | "58" | "25" => {
            Error::io(what).remedy("it may pass; see the server's log")
        }
        "42" => Error::sql(what).remedy("compare the columns of the table with those of its declaration"),
        "22" | "23" | "21" => Error::data(what).remedy(
            "the table does not take such a row: guard the query (WHERE, CAST, COALESCE), or ALTER the table and start again",
        ),
        _ => Error::data(what).remedy("see the server's log"),
    }
}
