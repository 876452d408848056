//! `changed("glob", …)`: which files changed since the environment's last
//! release of the flow.
//!
//! The last release is the newest good one; that of a rollback stands where it
//! went back to. Where it is not known what it was made from (there is none,
//! it was only found, it was made from files that no commit holds, its commit
//! is not in this clone) every file counts as changed, and a note says why.

use std::sync::{Arc, OnceLock};

use crate::journal::releases::{Release, ReleaseError, Releases};
use crate::world::git::Git;
use crate::world::walk::Matcher;

/// What changed; asked once, when a condition wants to know.
#[derive(Clone, Debug)]
pub struct Changes {
    git: Git,
    since: Since,
    asked: Arc<OnceLock<Asked>>,
}

#[derive(Clone, Debug)]
enum Since {
    /// There is no release.
    Nothing,
    /// It is not known what it was made from.
    Unknown(String),
    Release {
        id: u64,
        commit: String,
    },
}

#[derive(Clone, Debug)]
enum Asked {
    /// Files by their paths relative to the project's root.
    Files(Vec<String>),
    /// Everything counts as changed, for this reason.
    All(Option<String>),
}

impl Changes {
    /// Changes since nothing: all files are.
    #[must_use]
    pub fn since_nothing(git: Git) -> Self {
        Self { git, since: Since::Nothing, asked: Arc::default() }
    }

    /// Changes since a flow's newest good release.
    pub fn since(git: Git, good: Option<&Release>, releases: &Releases) -> Result<Self, ReleaseError> {
        let since = match good {
            None => Since::Nothing,
            Some(good) => since(good.clone(), releases)?,
        };
        Ok(Self { git, since, asked: Arc::default() })
    }

    /// Whether a file that these globs match was added, changed or removed.
    pub fn any(&self, globs: &[String]) -> Result<bool, String> {
        let matcher = Matcher::new(globs, &[]).map_err(|error| error.to_string())?;
        Ok(match self.asked.get_or_init(|| self.ask()) {
            Asked::All(_) => true,
            Asked::Files(files) => files.iter().any(|file| matcher.matches(std::path::Path::new(file))),
        })
    }

    /// Why all files count as changed, if a condition asked and that is so.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        match self.asked.get()? {
            Asked::All(why) => why.as_ref().map(|why| format!("All files count as changed: {why}.")),
            Asked::Files(_) => None,
        }
    }

    fn ask(&self) -> Asked {
        match &self.since {
            Since::Nothing => Asked::All(None),
            Since::Unknown(why) => Asked::All(Some(why.clone())),
            Since::Release { id, commit } => match self.git.changed_since(commit) {
                Ok(Some(files)) => Asked::Files(files),
                Ok(None) => {
                    let short = commit.get(..8).unwrap_or(commit);
                    Asked::All(Some(format!("commit {short} of release {id} is not in this clone")))
                }
                Err(said) => Asked::All(Some(format!("git cannot tell what changed: {said}"))),
            },
        }
    }
}

fn since(mut release: Release, releases: &Releases) -> Result<Since, ReleaseError> {
    // What went back stands where it went back to; numbers only get smaller.
    while let Some(to) = release.rolled_back_to.filter(|to| *to < release.id) {
        match releases.get(&release.environment, to)? {
            Some(there) => release = there,
            None => return Ok(Since::Unknown(format!("release {to} is gone"))),
        }
    }
    let id = release.id;
    Ok(match release.commit {
        _ if release.adopted => Since::Unknown(format!("release {id} was only found")),
        _ if release.dirty != Some(false) => {
            Since::Unknown(format!("release {id} was made from files that no commit holds"))
        }
        None => Since::Unknown(format!("release {id} was made without a commit")),
        Some(commit) => Since::Release { id, commit },
    })
}
