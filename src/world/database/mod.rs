//! One connection to a database, for migrations only: sqlx's table and its
//! advisory lock, on a dedicated connection that is closed whatever happens
//! (the lock lives as long as the connection, also after an error).
//!
//! PostgreSQL scripts are sent statement by statement inside one transaction,
//! so that an error has a place and a stop is confirmed; MySQL and SQLite
//! scripts go through sqlx as a whole.

mod error;

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha384};
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqlSafeStr as _};
use tokio_util::sync::CancellationToken;

pub use self::error::{ApplyError, DatabaseError, Place, SqlFault};
use super::cancel::{Cancel, Urgency};
use super::crash;
use crate::model::secret::Secret;

/// sqlx's table.
const TABLE: &str = "_sqlx_migrations";

/// Longer does no server take that is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before a session is told once more to stop.
const STOP_AGAIN: Duration = Duration::from_millis(250);

/// A script to apply.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its number.
    pub version: i64,
    /// Its file's name without number and suffix, blanks for underscores.
    pub description: String,
    /// The whole file.
    pub text: String,
    /// Where its statements stand, in bytes.
    pub statements: Vec<Range<usize>>,
    /// Whether it runs in one transaction together with its record.
    pub transaction: bool,
}

/// What a database says was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Number and SHA-384 of each script, by number.
    pub applied: Vec<(i64, Vec<u8>)>,
    /// A script that stopped in its middle.
    pub dirty: Option<i64>,
}

/// How long somebody waits for a script.
#[derive(Clone, Copy, Debug)]
pub struct Patience<'a> {
    /// Whether the run is being stopped.
    pub cancel: &'a Cancel,
    /// How long the script may take.
    pub timeout: Option<Duration>,
    /// How long the database may take to confirm a stop.
    pub grace: Duration,
}

/// A connection.
pub struct Database {
    connection: Connection,
    place: Place,
    user: String,
    lock_timeout: Duration,
}

enum Connection {
    /// With what another connection needs to stop it: the options, and the process at the server.
    Postgres {
        connection: PgConnection,
        options: Box<PgConnectOptions>,
        process: i32,
    },
    MySql(MySqlConnection),
    Sqlite(SqliteConnection),
}

/// SHA-384 of a script, as sqlx records it.
#[must_use]
pub fn checksum(text: &str) -> Vec<u8> {
    Sha384::digest(text).to_vec()
}

impl Database {
    /// Connects. No statement waits longer than `lock_timeout` for a lock.
    pub async fn connect(url: &Secret, lock_timeout: Duration) -> Result<Self, DatabaseError> {
        crash::point("database.connect.before");
        let text = url.expose();
        match text.split_once(':').map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") => postgres(text, lock_timeout).await,
            Some("mysql" | "mariadb") => mysql(text, lock_timeout).await,
            Some("sqlite") => sqlite(text, lock_timeout).await,
            _ => Err(DatabaseError::Url),
        }
    }

    /// Which database it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Whether a script that fails leaves nothing behind.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        !matches!(self.connection, Connection::MySql(_))
    }

    /// What was applied. Changes nothing: a database that was never migrated has no table.
    pub async fn history(&mut self) -> Result<History, DatabaseError> {
        crash::point("database.history.before");
        let read = async {
            let migrate = self.connection.migrate();
            let dirty = migrate.dirty_version(TABLE).await?;
            let applied = migrate.list_applied_migrations(TABLE).await?;
            Ok(History {
                applied: applied.into_iter().map(|m| (m.version, m.checksum.into_owned())).collect(),
                dirty,
            })
        };
        let outcome: Result<History, MigrateError> = read.await;
        match outcome.map_err(|error| self.read_error(error)) {
            Err(DatabaseError::Sql(fault)) if is_no_table(&fault) => Ok(History::default()),
            outcome => outcome,
        }
    }

    /// Takes the lock and makes the table.
    pub async fn prepare(&mut self) -> Result<(), DatabaseError> {
        self.lock().await?;
        crash::point("database.table.before");
        let made = self.connection.migrate().ensure_migrations_table(TABLE).await;
        made.map_err(|error| self.read_error(error))
    }

    /// Takes the lock that sqlx's own tools take too: once it is had, a session that was lost is
    /// over. Changes nothing. Freed by [`Database::close`].
    pub async fn lock(&mut self) -> Result<(), DatabaseError> {
        crash::point("database.lock.before");
        let limit = self.lock_timeout;
        // MySQL's lock knows no time limit of the session.
        let locked =
            tokio::time::timeout(limit.saturating_add(limit), self.connection.migrate().lock()).await;
        let is_held = |fault: &SqlFault| matches!(fault.code.as_deref(), Some("55P03"));
        match locked.map(|locked| locked.map_err(|error| self.read_error(error))) {
            Ok(Err(DatabaseError::Sql(fault))) if is_held(&fault) => {
                Err(DatabaseError::Locked { place: self.place.clone(), after: limit })
            }
            Ok(answer) => answer,
            Err(_) => Err(DatabaseError::Locked { place: self.place.clone(), after: limit + limit }),
        }
    }

    /// Applies a script and records it.
    pub async fn apply(&mut self, script: &Script, patience: Patience<'_>) -> Result<(), ApplyError> {
        let (place, user) = (self.place.clone(), self.user.clone());
        crash::point(format_args!("database.script {}.before", script.version));
        match &mut self.connection {
            Connection::Postgres { connection, options, process } => {
                let stop = CancellationToken::new();
                let work = run_postgres(connection, script, &stop);
                tokio::pin!(work);
                let why = tokio::select! {
                    biased;
                    () = patience.cancel.reached(Urgency::Stopping) => ApplyError::Stopped,
                    () = passed(patience.timeout) => ApplyError::TimedOut,
                    done = &mut work => return done.map_err(|halt| halt.read(&place, &user, ApplyError::Unanswered)),
                };
                stop.cancel();
                tokio::select! {
                    biased;
                    // It may have been quicker than the stop.
                    done = work => done.map_err(|halt| halt.read(&place, &user, why)),
                    () = keep_stopping(options, *process) => Err(ApplyError::Unanswered),
                    () = tokio::time::sleep(patience.grace) => Err(ApplyError::Unanswered),
                }
            }
            other => {
                let migration = migration(script);
                let work = other.migrate().apply(TABLE, &migration);
                tokio::pin!(work);
                if patience.cancel.is_stopping() {
                    return Err(ApplyError::Stopped);
                }
                let done = tokio::select! {
                    biased;
                    done = &mut work => done,
                    () = patience.cancel.reached(Urgency::Stopping) => {
                        tokio::time::timeout(patience.grace, work).await.map_err(|_| ApplyError::Unanswered)?
                    }
                    () = passed(patience.timeout) => return Err(ApplyError::Unanswered),
                };
                done.map(drop).map_err(|error| read_error(&place, &user, error).into())
            }
        }
    }

    /// Ends the connection, and with it the lock.
    pub async fn close(self) {
        crash::point("database.close.before");
        // A server that is gone has freed the lock too.
        let closing = async {
            match self.connection {
                Connection::Postgres { connection, .. } => connection.close().await,
                Connection::MySql(connection) => connection.close().await,
                Connection::Sqlite(connection) => connection.close().await,
            }
        };
        let _ = tokio::time::timeout(CONNECT_TIMEOUT, closing).await;
    }

    fn read_error(&self, error: MigrateError) -> DatabaseError {
        read_error(&self.place, &self.user, error)
    }
}

fn read_error(place: &Place, user: &str, error: MigrateError) -> DatabaseError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            error::read(place, user, false, &error)
        }
        other => DatabaseError::Sql(SqlFault { message: other.to_string(), ..SqlFault::default() }),
    }
}

/// The URL holds the password: only the place is shown.
impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Database").field(&self.place).finish()
    }
}

impl Connection {
    fn migrate(&mut self) -> &mut (dyn Migrate + Send) {
        match self {
            Self::Postgres { connection, .. } => connection,
            Self::MySql(connection) => connection,
            Self::Sqlite(connection) => connection,
        }
    }
}

fn is_no_table(fault: &SqlFault) -> bool {
    matches!(fault.code.as_deref(), Some("42P01" | "42S02")) || fault.message.starts_with("no such table")
}

async fn in_time<T>(
    place: &Place,
    user: &str,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, DatabaseError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(error::read(place, user, true, &error)),
        Err(_) => Err(DatabaseError::Unreachable {
            place: place.clone(),
            why: "no answer within 10 seconds".to_owned(),
        }),
    }
}

async fn postgres(url: &str, lock_timeout: Duration) -> Result<Database, DatabaseError> {
    let options: PgConnectOptions = url.parse().map_err(|_| DatabaseError::Url)?;
    let user = options.get_username().to_owned();
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let place = Place { host, database: options.get_database().unwrap_or(&user).to_owned() };
    let options = options
        .application_name("flow")
        .options([("lock_timeout", format!("{}ms", lock_timeout.as_millis()))])
        .disable_statement_logging();
    let (connection, process) = in_time(&place, &user, async {
        let mut connection = options.connect().await?;
        let process = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await?;
        Ok((connection, process))
    })
    .await?;
    let connection = Connection::Postgres { connection, options: Box::new(options), process };
    Ok(Database { connection, place, user, lock_timeout })
}

async fn mysql(url: &str, lock_timeout: Duration) -> Result<Database, DatabaseError> {
    let options: MySqlConnectOptions = url.parse().map_err(|_| DatabaseError::Url)?;
    let options = options.disable_statement_logging();
    let user = options.get_username().to_owned();
    let place = Place {
        host: format!("{}:{}", options.get_host(), options.get_port()),
        database: options.get_database().unwrap_or_default().to_owned(),
    };
    let seconds = lock_timeout.as_secs().max(1);
    let connection = in_time(&place, &user, async {
        let mut connection = options.connect().await?;
        let limits =
            format!("set session lock_wait_timeout = {seconds}, innodb_lock_wait_timeout = {seconds}");
        sqlx::raw_sql(AssertSqlSafe(limits)).execute(&mut connection).await?;
        Ok(connection)
    })
    .await?;
    Ok(Database { connection: Connection::MySql(connection), place, user, lock_timeout })
}

async fn sqlite(url: &str, lock_timeout: Duration) -> Result<Database, DatabaseError> {
    let options: SqliteConnectOptions = url.parse().map_err(|_| DatabaseError::Url)?;
    let options = options.busy_timeout(lock_timeout).disable_statement_logging();
    let file = options.get_filename().to_owned();
    let shown = |path: Option<&Path>| path.map(|path| path.display().to_string()).unwrap_or_default();
    let place = Place { host: shown(file.parent()), database: shown(file.file_name().map(Path::new)) };
    let connection = in_time(&place, "", options.connect()).await?;
    Ok(Database { connection: Connection::Sqlite(connection), place, user: String::new(), lock_timeout })
}

/// Why a script did not run to its end.
enum Halt {
    /// An error and, where it is known, its place in the script.
    Error(sqlx::Error, Option<usize>),
    /// It was asked to stop, between two statements.
    Stopped,
}

impl Halt {
    fn read(self, place: &Place, user: &str, stopped: ApplyError) -> ApplyError {
        match self {
            Self::Stopped => stopped,
            Self::Error(error, at) => match error::read(place, user, false, &error) {
                // The server gave up a statement because it was told to.
                DatabaseError::Sql(fault)
                    if fault.code.as_deref() == Some("57014") && stopped != ApplyError::Unanswered =>
                {
                    stopped
                }
                DatabaseError::Sql(fault) => DatabaseError::Sql(SqlFault { at, ..fault }).into(),
                other => other.into(),
            },
        }
    }
}

impl From<sqlx::Error> for Halt {
    fn from(error: sqlx::Error) -> Self {
        Self::Error(error, None)
    }
}

async fn run_postgres(
    connection: &mut PgConnection,
    script: &Script,
    stop: &CancellationToken,
) -> Result<(), Halt> {
    if !script.transaction {
        statements(connection, script, stop).await?;
        crash::point("database.record.before");
        record(connection, script).await?;
        crash::point("database.record.after");
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    statements(&mut transaction, script, stop).await?;
    record(&mut transaction, script).await?;
    crash::point("database.commit.before");
    transaction.commit().await?;
    crash::point("database.commit.after");
    Ok(())
}

async fn statements(
    connection: &mut PgConnection,
    script: &Script,
    stop: &CancellationToken,
) -> Result<(), Halt> {
    for range in &script.statements {
        if stop.is_cancelled() {
            return Err(Halt::Stopped);
        }
        let statement = script.text.get(range.clone()).unwrap_or_default();
        crash::point("database.statement.before");
        let sent = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut *connection).await;
        sent.map_err(|error| {
            let inside = error::position(&error)
                .and_then(|chars| statement.char_indices().nth(chars))
                .map_or(0, |(byte, _)| byte);
            Halt::Error(error, Some(range.start + inside))
        })?;
    }
    Ok(())
}

/// As sqlx records it, the time left out.
async fn record(connection: &mut PgConnection, script: &Script) -> Result<(), sqlx::Error> {
    let insert = format!(
        "insert into {TABLE} (version, description, success, checksum, execution_time) values ($1, $2, true, $3, -1)"
    );
    sqlx::query(AssertSqlSafe(insert))
        .bind(script.version)
        .bind(&script.description)
        .bind(checksum(&script.text))
        .execute(connection)
        .await
        .map(drop)
}

/// Tells the server to give up what the session does, again and again: told between two statements
/// it gives up nothing. Without an answer here, the session's own answer decides.
async fn keep_stopping(options: &PgConnectOptions, process: i32) {
    loop {
        let _ = stop_postgres(options, process).await;
        tokio::time::sleep(STOP_AGAIN).await;
    }
}

async fn stop_postgres(options: &PgConnectOptions, process: i32) -> Result<(), sqlx::Error> {
    let mut connection = options.connect().await?;
    sqlx::query("select pg_cancel_backend($1)").bind(process).execute(&mut connection).await?;
    connection.close().await
}

fn migration(script: &Script) -> Migration {
    Migration::new(
        script.version,
        Cow::Owned(script.description.clone()),
        MigrationType::Simple,
        AssertSqlSafe(script.text.clone()).into_sql_str(),
        !script.transaction,
    )
}

async fn passed(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}
