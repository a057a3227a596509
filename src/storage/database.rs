//! Opens SQLite files. A file that is damaged, of another program or of a later version is left unchanged, and the
//! error says what to do.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, TransactionBehavior};
use thiserror::Error;

/// How long to wait for another process that writes the same file: its transactions take milliseconds.
const BUSY_TIME_MAX: Duration = Duration::from_secs(5);

/// The most bytes of a write-ahead log at rest: twice the size at which SQLite moves it into the file
/// (`wal_autocheckpoint`), so that it is not truncated every time. It is larger only while another program reads the
/// file for long.
pub(super) const LOG_BYTES_MAX: u64 = 8 << 20;

/// The free space that a disk must have after a failure before it is written again.
pub(super) const BALLAST_BYTES: u32 = 1 << 20;

/// The schema of a file, with the steps that lead to it.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Identifies this kind of file (`PRAGMA application_id`). Not 0.
    pub application_id: i32,
    /// The SQL that leads from each version to the next; an empty file has version 0. Steps are added,
    /// never changed, once files of their version exist.
    pub steps: &'static [&'static str],
}

impl Schema {
    /// The version that this program writes (`PRAGMA user_version`).
    fn version(&self) -> i32 {
        i32::try_from(self.steps.len()).expect("Bug: more steps than versions")
    }
}

/// Why a database cannot be used.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The content is invalid.
    #[error(
        "{} is damaged ({detail}); restore it from a backup, or move it and the files beside it that begin with \
         its name out of the way, to begin with an empty one",
        path.display()
    )]
    Damaged { path: PathBuf, detail: String },
    /// It is a file of another program.
    #[error("{} is another program's database; name another directory with --data", path.display())]
    Foreign { path: PathBuf },
    /// It was written by a later version of this program.
    #[error(
        "{} has version {found}, and this uproar knows versions up to {known}; start the newer uproar that wrote \
         it, or name another directory with --data",
        path.display()
    )]
    Newer { path: PathBuf, found: i32, known: i32 },
    /// It can only be read.
    #[error(
        "{} cannot be written; the user that runs uproar must own it and its directory",
        path.display()
    )]
    ReadOnly { path: PathBuf },
    /// Another process has locked it for too long.
    #[error("{} is locked by another program for longer than {BUSY_TIME_MAX:?}; try again later", path.display())]
    Busy { path: PathBuf },
    /// Any other error of SQLite.
    #[error(
        "{} cannot be used: {source}; the user that runs uproar must own it and its directory, and the disk must \
         have room",
        path.display()
    )]
    Unusable { path: PathBuf, source: rusqlite::Error },
    /// The file cannot be created.
    #[error(
        "{} cannot be created: {source}; the directory must exist, and the user that runs uproar must own it",
        path.display()
    )]
    NotCreated { path: PathBuf, source: io::Error },
}

impl DatabaseError {
    /// An error of SQLite about the file at `path`.
    #[must_use]
    pub fn new(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { path, detail: source.to_string() }
            }
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            _ => Self::Unusable { path, source },
        }
    }
}

/// Why a write failed.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug, Error)]
pub enum WriteError {
    /// An error of SQLite.
    #[error("the file cannot be written: {0}; {advice}", advice = advice(.0))]
    Sqlite(#[from] rusqlite::Error),
    /// The file or its log was deleted, moved or replaced.
    #[error(
        "{} was deleted, moved or replaced: put it back where it was, or restart uproar, which goes on with what it \
         finds there",
        path.display()
    )]
    Missing { path: PathBuf },
}

fn advice(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "stop the program that has locked it",
        _ => "check that the disk works and has room",
    }
}

/// Opens the database at `path`, and brings it to the schema's version.
///
/// A missing file is created, readable only by its owner; a missing directory is not. The journal is a write-ahead log
/// (`journal_mode=WAL`), so readers never wait for a writer, and a commit returns when it is on the disk
/// (`synchronous=FULL`), so that it survives a power failure. The whole file is checked, which takes about a second for
/// each gigabyte.
///
/// # Errors
///
/// [`DatabaseError`]; the file is unchanged.
pub fn open(path: &Path, schema: &Schema) -> Result<Connection, DatabaseError> {
    assert!(schema.application_id != 0, "Bug: this would take any database for ours");
    // SQLite would make it readable for everyone. The files beside it get the same permissions.
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| not_opened(path, source))?;
    let failed = |source| DatabaseError::new(path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIME_MAX).map_err(failed)?;
    // Before anything is written, so that a foreign file stays unchanged.
    version(&connection, path, schema)?;
    if connection.is_readonly(MAIN_DB).map_err(failed)? {
        return Err(DatabaseError::ReadOnly { path: path.to_owned() });
    }
    check(&connection, path)?;
    let journal: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(failed)?;
    if journal != "wal" {
        let detail = format!("no write-ahead log is possible there, only '{journal}'");
        let source = io::Error::new(io::ErrorKind::Unsupported, detail);
        return Err(DatabaseError::NotCreated { path: path.to_owned(), source });
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    // A log that grew beyond this is truncated once it has been moved into the file.
    connection
        .pragma_update_and_check(None, "journal_size_limit", LOG_BYTES_MAX, |row| row.get::<_, i64>(0))
        .map_err(failed)?;
    upgrade(&mut connection, path, schema)?;
    Ok(connection)
}

/// The state of a write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogState {
    /// It has not grown, or is short again.
    Short,
    /// Another program still reads from it, so it could not be truncated.
    Held {
        /// Its length.
        bytes: u64,
    },
}

/// Truncates the write-ahead log of the database at `path`, if it has grown, without waiting for readers. Its content
/// is written to the file first.
///
/// # Errors
///
/// What SQLite reports.
pub(super) fn shorten_log(connection: &Connection, path: &Path) -> rusqlite::Result<LogState> {
    let length = || std::fs::metadata(log_path(path)).map_or(0, |log| log.len());
    if length() <= LOG_BYTES_MAX {
        return Ok(LogState::Short);
    }
    connection.busy_timeout(Duration::ZERO)?;
    let is_held = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    connection.busy_timeout(BUSY_TIME_MAX)?;
    Ok(if is_held? { LogState::Held { bytes: length() } } else { LogState::Short })
}

/// The write-ahead log of the database at `path`.
fn log_path(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// The files of a database by device and inode, to notice when another file has taken the place of the open one.
#[derive(Debug)]
pub(super) struct FileIdentity(Vec<(PathBuf, FileNumber)>);

/// A device, and the number of a file on it.
type FileNumber = (u64, u64);

impl FileIdentity {
    /// The database at `path` and its log, which both exist while it is open.
    ///
    /// # Errors
    ///
    /// When one of them does not exist.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let files = [path.to_owned(), log_path(path)];
        files
            .into_iter()
            .map(|file| number(&file).map(|number| (file, number)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The first file that was deleted, moved or replaced.
    ///
    /// It looks the names up without opening the files: closing one would release SQLite's locks on it.
    #[must_use]
    pub(super) fn missing(&self) -> Option<&Path> {
        let is_there =
            |(path, expected): &&(PathBuf, FileNumber)| number(path).is_ok_and(|found| found == *expected);
        self.0.iter().find(|file| !is_there(file)).map(|(path, _)| &**path)
    }

    /// Checks that no file was deleted, moved or replaced. SQLite would go on writing to a deleted one.
    ///
    /// # Errors
    ///
    /// [`WriteError::Missing`].
    pub(super) fn check(&self) -> Result<(), WriteError> {
        match self.missing() {
            None => Ok(()),
            Some(path) => Err(WriteError::Missing { path: path.to_owned() }),
        }
    }
}

fn number(path: &Path) -> io::Result<FileNumber> {
    std::fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

fn not_opened(path: &Path, source: io::Error) -> DatabaseError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            DatabaseError::ReadOnly { path }
        }
        _ => DatabaseError::NotCreated { path, source },
    }
}

/// The version of a database that is ours or empty.
fn version(connection: &Connection, path: &Path, schema: &Schema) -> Result<i32, DatabaseError> {
    let read = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i32>(0));
    let failed = |source| DatabaseError::new(path, source);
    let application_id = read("PRAGMA application_id").map_err(failed)?;
    let found = read("PRAGMA user_version").map_err(failed)?;
    let entries = read("SELECT count(*) FROM sqlite_schema").map_err(failed)?;
    let is_empty = (application_id, found, entries) == (0, 0, 0);
    if !is_empty && application_id != schema.application_id {
        return Err(DatabaseError::Foreign { path: path.to_owned() });
    }
    let known = schema.version();
    match found {
        found if found > known => Err(DatabaseError::Newer { path: path.to_owned(), found, known }),
        found if found < 0 => {
            Err(DatabaseError::Damaged { path: path.to_owned(), detail: format!("its version is {found}") })
        }
        found => Ok(found),
    }
}

/// Checks the file for damage.
fn check(connection: &Connection, path: &Path) -> Result<(), DatabaseError> {
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|source| DatabaseError::new(path, source))?;
    if found == "ok" {
        return Ok(());
    }
    // SQLite returns a heading with lines below it.
    let detail = found.lines().filter(|line| !line.starts_with("***")).collect::<Vec<_>>().join(", ");
    Err(DatabaseError::Damaged { path: path.to_owned(), detail })
}

/// Runs the missing steps in one transaction. Another process may do the same at the same time.
fn upgrade(connection: &mut Connection, path: &Path, schema: &Schema) -> Result<(), DatabaseError> {
    if version(connection, path, schema)? == schema.version() {
        return Ok(());
    }
    let failed = |source| DatabaseError::new(path, source);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let taken = version(&transaction, path, schema)?;
    for step in &schema.steps[taken as usize..] {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction.pragma_update(None, "application_id", schema.application_id).map_err(failed)?;
    transaction.pragma_update(None, "user_version", schema.version()).map_err(failed)?;
    transaction.commit().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const FIRST: Schema = Schema { application_id: 7, steps: &["CREATE TABLE words (word TEXT)"] };
    const SECOND: Schema = Schema {
        application_id: 7,
        steps: &[FIRST.steps[0], "ALTER TABLE words ADD COLUMN language TEXT DEFAULT 'en'"],
    };

    fn count(connection: &Connection, sql: &str) -> i64 {
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// What opening says of a file that it must leave as it is.
    fn refusal(path: &Path, schema: &Schema) -> String {
        let before = fs::read(path).unwrap();
        let said = open(path, schema).unwrap_err().to_string();
        assert_eq!(fs::read(path).unwrap(), before, "{said}");
        assert!(said.contains(path.to_str().unwrap()), "{said}");
        said
    }

    #[test]
    fn a_new_file_is_durable_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new.db");
        let connection = open(&path, &FIRST).unwrap();
        assert_eq!(count(&connection, "PRAGMA user_version"), 1);
        assert_eq!(count(&connection, "PRAGMA synchronous"), 2, "2 is FULL");
        let journal: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(journal, "wal");
        for entry in fs::read_dir(directory.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
        }
    }

    #[test]
    fn an_older_file_is_brought_up_to_date_and_keeps_what_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("old.db");
        open(&path, &FIRST).unwrap().execute("INSERT INTO words VALUES ('kept')", []).unwrap();
        for _ in 0..2 {
            let connection = open(&path, &SECOND).unwrap();
            assert_eq!(
                count(&connection, "SELECT count(*) FROM words WHERE word = 'kept' AND language = 'en'"),
                1
            );
        }
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("half.db");
        drop(open(&path, &FIRST).unwrap());
        const BROKEN: Schema = Schema {
            application_id: 7,
            steps: &[FIRST.steps[0], "CREATE TABLE more (x); CREATE TABLE words (x)"],
        };
        assert!(open(&path, &BROKEN).unwrap_err().to_string().contains("already exists"));
        let connection = open(&path, &FIRST).unwrap();
        assert_eq!(count(&connection, "SELECT count(*) FROM sqlite_schema WHERE name = 'more'"), 0);
    }

    #[test]
    fn a_newer_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("newer.db");
        drop(open(&path, &SECOND).unwrap());
        let said = refusal(&path, &FIRST);
        assert!(said.contains("has version 2, and this uproar knows versions up to 1"), "{said}");
    }

    #[test]
    fn another_programs_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("foreign.db");
        drop(open(&path, &Schema { application_id: 8, ..FIRST }).unwrap());
        assert!(refusal(&path, &FIRST).contains("another program's"));
        let nameless = directory.path().join("nameless.db");
        Connection::open(&nameless).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert!(refusal(&nameless, &FIRST).contains("another program's"));
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("damaged.db");
        {
            let connection = open(&path, &FIRST).unwrap();
            let long = "x".repeat(2_000);
            for _ in 0..100 {
                connection.execute("INSERT INTO words VALUES (?1)", [&long]).unwrap();
            }
        }
        let whole = fs::read(&path).unwrap();
        assert!(whole.len() > 100_000, "the log was put into the file");
        let second_page = 4096..4096 + 100;
        for damage in [
            b"not a database, by any means".repeat(100),
            whole[..whole.len() / 2].to_vec(),
            whole
                .iter()
                .enumerate()
                .map(|(at, byte)| if second_page.contains(&at) { 0xa5 } else { *byte })
                .collect(),
        ] {
            fs::write(&path, damage).unwrap();
            let said = refusal(&path, &FIRST);
            assert!(said.contains("is damaged (") && said.contains("restore it from a backup"), "{said}");
        }
    }

    #[test]
    fn a_file_that_another_program_holds_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("busy.db");
        let mut holder = open(&path, &FIRST).unwrap();
        let transaction = holder.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        let beside = open(&path, &FIRST).unwrap();
        beside.busy_timeout(Duration::ZERO).unwrap();
        let refused = beside.execute("INSERT INTO words VALUES ('x')", []).unwrap_err();
        assert!(DatabaseError::new(&path, refused).to_string().contains("is locked by another program"));
        drop(transaction);
    }

    #[test]
    fn a_log_that_a_reader_held_is_short_once_it_has_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("read.db");
        let connection = open(&path, &FIRST).unwrap();
        let write = |count| {
            for _ in 0..count {
                connection.execute("INSERT INTO words VALUES (hex(randomblob(50000)))", []).unwrap();
            }
        };
        write(30);
        assert_eq!(shorten_log(&connection, &path).unwrap(), LogState::Short);
        let reader = Connection::open(&path).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        count(&reader, "SELECT count(*) FROM words");
        write(2 * LOG_BYTES_MAX / 100_000);
        let grown = fs::metadata(log_path(&path)).unwrap().len();
        assert!(grown > LOG_BYTES_MAX);
        assert_eq!(shorten_log(&connection, &path).unwrap(), LogState::Held { bytes: grown });
        reader.execute_batch("COMMIT").unwrap();
        assert_eq!(shorten_log(&connection, &path).unwrap(), LogState::Short);
        assert_eq!(fs::metadata(log_path(&path)).unwrap().len(), 0);
    }

    #[test]
    fn a_file_that_is_not_the_one_that_is_open_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept.db");
        let _connection = open(&path, &FIRST).unwrap();
        let identity = FileIdentity::of(&path).unwrap();
        let elsewhere = directory.path().join("elsewhere");
        for file in [path.clone(), log_path(&path)] {
            assert_eq!(identity.missing(), None);
            fs::rename(&file, &elsewhere).unwrap();
            assert_eq!(identity.missing(), Some(&*file));
            fs::copy(&elsewhere, &file).unwrap();
            assert_eq!(identity.missing(), Some(&*file), "a copy is another file");
            fs::rename(&elsewhere, &file).unwrap();
        }
        assert_eq!(identity.missing(), None);
    }

    #[test]
    fn a_file_in_no_directory_is_not_created() {
        let said = open(Path::new("/nonexistent/a.db"), &FIRST).unwrap_err().to_string();
        assert!(said.starts_with("/nonexistent/a.db cannot be created: No such file"), "{said}");
    }
}
