//! `flow` on a machine whose clock runs ahead of ours.
//!
//! What ends after hours is tried with the program as it is and with the files
//! as it wrote them: only the time of day that the system tells it is another
//! one (`tests/fixtures/ahead.c`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::project::{Project, Ran};

/// A later time of day.
pub(crate) struct Ahead {
    by: Duration,
    library: PathBuf,
    _folder: TempDir,
}

impl Ahead {
    /// So much later than now.
    pub(crate) fn by(by: Duration) -> Self {
        let folder = TempDir::new().unwrap();
        let library = folder.path().join("ahead.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ahead.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).output();
        let built = built.unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Self { by, library, _folder: folder }
    }

    /// Runs `flow` then, to its end.
    pub(crate) fn run(&self, project: &Project, arguments: &[&str]) -> Ran {
        let mut flow = project.command(arguments);
        flow.env("LD_PRELOAD", &self.library).env("AHEAD_SECONDS", self.by.as_secs().to_string());
        flow.output().unwrap().into()
    }
}
