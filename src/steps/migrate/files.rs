//! Migration files as sqlx names them (`0042_note.sql`, `0042_note.up.sql`),
//! what each would break, and what of them a database already has.

use serde::{Deserialize, Serialize};

use super::lint::{Dialect, Finding, lint};
use super::statements::{place, split};
use crate::steps::Failure;
use crate::world::database::{History, Script, checksum};
use crate::world::files::{FileError, Files};

/// One file.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// `0042_note.sql`
    pub name: String,
    /// Relative to the project root, for messages.
    pub path: String,
    /// What is sent.
    pub script: Script,
    /// Whether code of the release before can live with it.
    pub phase: Phase,
    /// What in it such code cannot live with; empty when the file's header says that it can.
    pub findings: Vec<Finding>,
    /// It says `CONCURRENTLY` inside a transaction, which the server refuses.
    pub needs_no_transaction: bool,
    /// It begins or ends transactions itself, so that a failure may leave something behind.
    pub own_transactions: bool,
}

/// When a migration may be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Phase {
    /// Before new code is rolled: old code lives with it.
    Expand,
    /// Once no old code can return.
    Contract,
}

impl Phase {
    /// As written in flow files.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Expand => "expand",
            Self::Contract => "contract",
        }
    }
}

impl File {
    /// Whether what it did is gone when it does not come to its end.
    pub(super) fn is_atomic(&self) -> bool {
        self.script.transaction && !self.own_transactions
    }

    /// `migrations/0042_note.sql:3`
    pub(super) fn line(&self, at: usize) -> String {
        format!("{}:{}", self.path, place(&self.script.text, at).0)
    }
}

/// Files that cannot be taken as migrations.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilesError {
    /// The folder or a file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nothing to migrate with.
    #[error("there is no migration in {0}")]
    None(String),
    /// sqlx wants a number first.
    #[error("{0} begins with no number")]
    Name(String),
    /// Two files of one number.
    #[error("{0} and {1} have the same number")]
    Twice(String, String),
    /// It cannot be sent.
    #[error("{0} is not UTF-8")]
    NotText(String),
    /// A header that names no phase, or `expand` without a reason where there is a finding.
    #[error("{at}: \"{text}\" gives no phase and reason")]
    Header {
        /// File and line.
        at: String,
        /// The line.
        text: String,
    },
}

impl From<FilesError> for Failure {
    fn from(error: FilesError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            FilesError::None(_) | FilesError::Name(_) => failure.help("migrations are named 0001_words.sql"),
            FilesError::Header { .. } => failure
                .help("write \"-- flow: contract\", or \"-- flow: expand\" and why old code lives with it"),
            FilesError::File(_) | FilesError::Twice(..) | FilesError::NotText(_) => failure,
        }
    }
}

/// All files of a folder, by number. Files that lead back (`.down.sql`) are left out.
pub(super) fn read(files: &Files, dir: &str, dialect: Dialect) -> Result<Vec<File>, FilesError> {
    let mut all: Vec<File> = Vec::new();
    for path in files.list(&files.locate(dir)?)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some((number, words)) = name.split_once('_') else { continue };
        // As sqlx reads names: in lower case only.
        if name.ends_with(".down.sql") {
            continue;
        }
        let Some(words) = words.strip_suffix(".sql") else { continue };
        let shown = format!("{}/{name}", dir.trim_end_matches('/'));
        let version = number.parse().map_err(|_| FilesError::Name(shown.clone()))?;
        let text = String::from_utf8(files.read(&path)?).map_err(|_| FilesError::NotText(shown.clone()))?;
        let words = words.strip_suffix(".up").unwrap_or(words);
        all.push(file(name.clone(), shown, version, words.replace('_', " "), text, dialect)?);
    }
    all.sort_by_key(|file| file.script.version);
    if let Some([a, b]) = all.array_windows().find(|[a, b]| a.script.version == b.script.version) {
        return Err(FilesError::Twice(a.path.clone(), b.path.clone()));
    }
    if all.is_empty() { Err(FilesError::None(dir.to_owned())) } else { Ok(all) }
}

fn file(
    name: String,
    path: String,
    version: i64,
    description: String,
    text: String,
    dialect: Dialect,
) -> Result<File, FilesError> {
    let statements = split(&text);
    let header = header(&path, &text)?;
    let mut findings = lint(&statements, dialect);
    let phase = match header {
        Some(Header { phase: Phase::Expand, has_reason: true, .. }) => {
            findings.clear();
            Phase::Expand
        }
        Some(Header { phase: Phase::Expand, at, text, .. }) if !findings.is_empty() => {
            return Err(FilesError::Header { at, text });
        }
        Some(Header { phase, .. }) => phase,
        None if findings.is_empty() => Phase::Expand,
        None => Phase::Contract,
    };
    let transaction = !text.starts_with("-- no-transaction");
    let concurrent = |token: &super::statements::Token| token.text == "CONCURRENTLY";
    let bracket = [&["BEGIN"][..], &["START", "TRANSACTION"], &["COMMIT"], &["END"], &["ROLLBACK"]];
    Ok(File {
        needs_no_transaction: transaction && statements.iter().any(|s| s.tokens.iter().any(concurrent)),
        own_transactions: statements.iter().any(|s| bracket.iter().any(|words| s.starts_with(words))),
        script: Script {
            version,
            description,
            statements: statements.into_iter().map(|statement| statement.range).collect(),
            transaction,
            text,
        },
        name,
        path,
        phase,
        findings,
    })
}

/// What the comments at the top say of when the file may be applied.
struct Header {
    phase: Phase,
    has_reason: bool,
    /// File and line.
    at: String,
    text: String,
}

/// `-- flow: contract` or `-- flow: expand REASON` among the comments at the top.
fn header(path: &str, text: &str) -> Result<Option<Header>, FilesError> {
    let top = text.lines().map(str::trim).enumerate();
    for (index, line) in top.take_while(|(_, line)| line.is_empty() || line.starts_with("--")) {
        let Some(words) = line.trim_start_matches('-').trim_start().strip_prefix("flow:") else { continue };
        let (at, text) = (format!("{path}:{}", index + 1), line.to_owned());
        let mut words = words.split_whitespace();
        let phase = match words.next() {
            Some("contract") => Phase::Contract,
            Some("expand") => Phase::Expand,
            _ => return Err(FilesError::Header { at, text }),
        };
        return Ok(Some(Header { phase, has_reason: words.next().is_some(), at, text }));
    }
    Ok(None)
}

/// What a database has of the files.
#[derive(Debug, Default)]
pub(super) struct Compared<'a> {
    /// Not applied yet, by number.
    pub pending: Vec<&'a File>,
    /// Applied with another text.
    pub edited: Vec<&'a File>,
    /// Not applied, though a later one is.
    pub late: Vec<&'a File>,
    /// Applied numbers without a file.
    pub missing: Vec<i64>,
    /// The highest number applied.
    pub head: Option<i64>,
}

/// Compares; another line ending is no edit.
pub(super) fn compare<'a>(files: &'a [File], history: &History) -> Compared<'a> {
    let head = history.applied.iter().map(|(version, _)| *version).max();
    let mut compared = Compared { head, ..Compared::default() };
    for file in files {
        let version = file.script.version;
        match history.applied.iter().find(|(applied, _)| *applied == version) {
            None => {
                compared.pending.push(file);
                if head.is_some_and(|head| version < head) {
                    compared.late.push(file);
                }
            }
            Some((_, sum)) if !is_same(&file.script.text, sum) => compared.edited.push(file),
            Some(_) => {}
        }
    }
    let has_file = |version: &i64| files.iter().any(|file| file.script.version == *version);
    compared.missing = history.applied.iter().map(|(v, _)| *v).filter(|v| !has_file(v)).collect();
    compared
}

/// Whether the file of that number has the text that was applied.
pub(super) fn is_applied_as_written(files: &[File], version: Option<i64>, history: &History) -> bool {
    let file = files.iter().find(|file| Some(file.script.version) == version);
    let applied = history.applied.iter().find(|(applied, _)| Some(*applied) == version);
    matches!((file, applied), (Some(file), Some((_, sum))) if is_same(&file.script.text, sum))
}

fn is_same(text: &str, sum: &[u8]) -> bool {
    let unix = text.replace("\r\n", "\n");
    checksum(text) == sum || checksum(&unix) == sum || checksum(&unix.replace('\n', "\r\n")) == sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Vec<File>, FilesError>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let read = read(&Files::new(dir.path()), ".", Dialect::Postgres);
        (dir, read)
    }

    #[test]
    fn names_and_headers_are_read() {
        let (_dir, files) = folder(&[
            ("0002_drop_it.sql", "-- about\n-- flow: contract\ndrop table a;"),
            ("0001_first.up.sql", "create table a (b int);"),
            ("0001_first.down.sql", "drop table a;"),
            ("0003_known.sql", "--flow: expand nobody reads it any more\ndrop table b;"),
            ("0010_found.sql", "select 1;\nalter table a drop b;"),
            ("0011_index.sql", "-- no-transaction\ncreate index concurrently i on a (b);"),
            ("0012_index.sql", "create index concurrently i on a (b);"),
            ("notes.txt", "x"),
        ]);
        let files = files.unwrap();
        let seen: Vec<_> =
            files.iter().map(|f| (f.script.version, f.phase.as_str(), f.findings.len())).collect();
        let wanted = [
            (1, "expand", 0),
            (2, "contract", 1),
            (3, "expand", 0),
            (10, "contract", 1),
            (11, "expand", 0),
            (12, "expand", 0),
        ];
        assert_eq!(seen, wanted);
        assert_eq!(
            (files[0].name.as_str(), files[0].script.description.as_str()),
            ("0001_first.up.sql", "first")
        );
        assert_eq!(files[1].script.description, "drop it");
        assert_eq!(files[3].line(files[3].findings[0].at), "./0010_found.sql:2");
        assert!(
            !files[4].script.transaction && !files[4].needs_no_transaction && files[5].needs_no_transaction
        );
    }

    #[test]
    fn what_is_no_migration_is_named() {
        let fault = |files: &[(&str, &str)]| folder(files).1.unwrap_err().to_string();
        assert_eq!(fault(&[]), "there is no migration in .");
        assert_eq!(fault(&[("v1_x.sql", "")]), "./v1_x.sql begins with no number");
        assert_eq!(
            fault(&[("1_x.sql", ""), ("01_y.sql", "")]),
            "./01_y.sql and ./1_x.sql have the same number"
        );
        let bare = "-- flow: expand\ndrop table a;";
        assert_eq!(fault(&[("1_x.sql", bare)]), "./1_x.sql:1: \"-- flow: expand\" gives no phase and reason");
        assert_eq!(
            fault(&[("1_x.sql", "-- flow: later")]),
            "./1_x.sql:1: \"-- flow: later\" gives no phase and reason"
        );
        assert!(folder(&[("1_x.sql", "-- flow: expand\nselect 1;")]).1.is_ok());
    }

    #[test]
    fn edits_gaps_and_line_endings() {
        let (_dir, files) =
            folder(&[("1_a.sql", "x;\r\ny;\r\n"), ("2_b.sql", "new"), ("3_c.sql", ""), ("5_e.sql", "")]);
        let files = files.unwrap();
        let applied = vec![(1, checksum("x;\ny;\n")), (2, checksum("old")), (4, vec![1]), (5, checksum(""))];
        let compared = compare(&files, &History { applied, dirty: None });
        let names = |files: &[&File]| files.iter().map(|f| f.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&compared.pending), ["3_c.sql"]);
        assert_eq!(names(&compared.late), ["3_c.sql"]);
        assert_eq!(names(&compared.edited), ["2_b.sql"]);
        assert_eq!((compared.missing.as_slice(), compared.head), ([4].as_slice(), Some(5)));
    }
}
