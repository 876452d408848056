//! Facts of the checkout, as `git` tells them. Absent ones are absent: no
//! repository, no commit yet, no `git`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use super::host::Host;
use super::process::base_env;

/// So many names are given to one command.
const MOST_NAMES: usize = 500;

/// The checkout of a project; nothing is asked before it is needed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Git {
    root: PathBuf,
    host: Host,
    known: Arc<Known>,
}

/// What was asked so far: each question costs a process.
#[derive(Debug, Default)]
struct Known {
    facts: OnceLock<Facts>,
    tag: OnceLock<Option<String>>,
    time: OnceLock<Option<i64>>,
}

/// What is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The commit, forty digits.
    pub sha: Option<String>,
    /// Its first eight.
    pub short: Option<String>,
    /// The branch; with a detached head, as CI checks out, the one that CI names.
    pub branch: Option<String>,
    /// Whether tracked files differ from the commit.
    pub dirty: bool,
    /// Why nothing is known, when that is not for want of a repository or a commit: `git` is missing,
    /// or refuses a checkout that belongs to somebody else.
    pub problem: Option<String>,
}

impl Git {
    /// The checkout that holds a folder.
    #[must_use]
    pub fn new(root: &Path, host: Host) -> Self {
        Self { root: root.to_owned(), host, known: Arc::default() }
    }

    /// What `git status` tells, asked once. Takes some milliseconds the first time.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        self.known.facts.get_or_init(|| self.ask())
    }

    /// A tag on the commit; of several the newest version.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        let ask = || {
            self.facts().sha.as_ref()?;
            let tags = self.run(&["tag", "--points-at", "HEAD", "--sort=-version:refname"]).ok()?;
            tags.lines().next().map(str::to_owned)
        };
        self.known.tag.get_or_init(ask).as_deref()
    }

    /// When the commit was made, seconds since 1970.
    #[must_use]
    pub fn time(&self) -> Option<i64> {
        let ask = || {
            self.facts().sha.as_ref()?;
            self.run(&["log", "-1", "--format=%ct"]).ok()?.trim().parse().ok()
        };
        *self.known.time.get_or_init(ask)
    }

    /// [`Git::time`] as `20260102T150405Z`.
    #[must_use]
    pub fn time_text(&self) -> Option<String> {
        let time = jiff::Timestamp::from_second(self.time()?).ok()?;
        Some(time.strftime("%Y%m%dT%H%M%SZ").to_string())
    }

    /// The commit alone, read from the repository's files where that is plain, which costs no process.
    #[must_use]
    pub fn commit(&self) -> Option<String> {
        if let Some(facts) = self.known.facts.get() {
            return facts.sha.clone();
        }
        match head(&self.root) {
            Head::Commit(sha) => Some(sha),
            Head::Nothing => None,
            Head::Unclear => self.facts().sha.clone(),
        }
    }

    fn ask(&self) -> Facts {
        // `.flow` holds records, never sources.
        let status = [
            "status",
            "--porcelain=v2",
            "--branch",
            "--untracked-files=no",
            "--",
            ".",
            ":(exclude,top,glob)**/.flow/**",
        ];
        let status = match self.run(&status) {
            Ok(status) => status,
            Err(said) if said.contains("not a git repository") => return Facts::default(),
            Err(said) => return Facts { problem: Some(said), ..Facts::default() },
        };
        let header = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let Some(sha) = header("# branch.oid ").filter(|sha| sha != "(initial)") else {
            return Facts::default();
        };
        let branch = header("# branch.head ").filter(|branch| branch != "(detached)");
        Facts {
            short: sha.get(..8).map(str::to_owned),
            branch: branch.or_else(|| self.ci_branch()),
            dirty: status.lines().any(|line| !line.starts_with('#')),
            sha: Some(sha),
            problem: None,
        }
    }

    /// Every tracked file of the checkout and what it holds now: mode and blob id as `git` computes
    /// them, so that committing a file changes nothing. Paths are relative to the project root;
    /// those of files outside of it begin with `:/`. Empty without a repository.
    pub fn tree(&self) -> Result<BTreeMap<String, String>, String> {
        let places = match self.run(&["rev-parse", "--show-prefix", "--show-toplevel"]) {
            Ok(places) => places,
            Err(said) if said.contains("not a git repository") => return Ok(BTreeMap::new()),
            Err(said) => return Err(said),
        };
        let (prefix, top) = places.split_once('\n').unwrap_or_default();
        let top = Self { root: PathBuf::from(top.trim_end_matches('\n')), ..self.clone() };
        let mut tree = BTreeMap::new();
        for entry in top.run(&["ls-files", "--stage", "-z"])?.split_terminator('\0') {
            // `100644 ID 0<TAB>PATH`
            let Some((facts, path)) = entry.split_once('\t') else { continue };
            let mut facts = facts.split(' ');
            let (mode, id) = (facts.next().unwrap_or_default(), facts.next().unwrap_or_default());
            tree.insert(path.to_owned(), format!("{mode} {id}"));
        }
        top.add_changed(&mut tree)?;
        let inside = |path: String| match path.strip_prefix(prefix) {
            Some(inside) => inside.to_owned(),
            None => format!(":/{path}"),
        };
        Ok(tree.into_iter().map(|(path, holds)| (inside(path), holds)).collect())
    }

    /// Every file under some places that is tracked, or neither tracked nor ignored: paths relative to
    /// the project root, as are the places. `None` without a repository.
    pub fn listed(&self, places: &[String]) -> Result<Option<Vec<String>>, String> {
        if let Err(said) = self.run(&["rev-parse", "--git-dir"]) {
            return if said.contains("not a git repository") { Ok(None) } else { Err(said) };
        }
        let mut arguments = vec!["ls-files", "--cached", "--others", "--exclude-standard", "-z", "--"];
        arguments.extend(places.iter().map(String::as_str));
        let listed = self.run(&arguments)?;
        let mut files: Vec<String> = listed.split_terminator('\0').map(str::to_owned).collect();
        files.sort();
        files.dedup();
        Ok(Some(files))
    }

    /// Files of the working tree that differ from the index.
    fn add_changed(&self, tree: &mut BTreeMap<String, String>) -> Result<(), String> {
        let raw = self.run(&["diff", "--raw", "-z", "--no-renames", "--no-ext-diff"])?;
        let mut fields = raw.split_terminator('\0');
        let mut changed = Vec::new();
        // `:100644 100755 ID ID M`, then the path.
        while let (Some(facts), Some(path)) = (fields.next(), fields.next()) {
            match facts.split(' ').nth(1).unwrap_or_default() {
                "000000" => drop(tree.insert(path.to_owned(), "missing".to_owned())),
                mode @ ("100644" | "100755") => changed.push((mode, path)),
                // A link or a checkout inside this one: that it differs is all that is known.
                mode => drop(tree.insert(path.to_owned(), format!("{mode} changed"))),
            }
        }
        for some in changed.chunks(MOST_NAMES) {
            let paths = some.iter().map(|(_, path)| *path);
            let arguments: Vec<&str> = ["hash-object", "--"].into_iter().chain(paths).collect();
            let ids = self.run(&arguments)?;
            for ((mode, path), id) in some.iter().zip(ids.lines()) {
                tree.insert((*path).to_owned(), format!("{mode} {id}"));
            }
        }
        Ok(())
    }

    /// Every file below the project root that was added, changed or removed since a commit, committed
    /// or not; `None` when this clone does not have the commit. Ignored files are never in it.
    pub fn changed_since(&self, commit: &str) -> Result<Option<Vec<String>>, String> {
        match self.run(&["cat-file", "-e", &format!("{commit}^{{commit}}")]) {
            Err(said) if said.starts_with("cannot start git") => return Err(said),
            // A commit that is not there, or no repository at all.
            Err(_) => return Ok(None),
            Ok(_) => {}
        }
        let diff = ["diff", "--name-only", "--relative", "-z", "--no-renames", "--no-ext-diff", commit, "--"];
        let changed = self.run(&diff)?;
        let fresh = self.run(&["ls-files", "--others", "--exclude-standard", "-z"])?;
        let files = changed.split_terminator('\0').chain(fresh.split_terminator('\0'));
        Ok(Some(files.map(str::to_owned).collect()))
    }

    fn ci_branch(&self) -> Option<String> {
        let var = |name: &str| self.host.var(name).filter(|value| !value.is_empty()).map(str::to_owned);
        var("GITHUB_REF_NAME")
            .filter(|_| self.host.var("GITHUB_REF_TYPE") == Some("branch"))
            .or_else(|| var("CI_COMMIT_BRANCH"))
            .or_else(|| var("BUILDKITE_BRANCH"))
    }

    /// What a git command prints, or why it failed.
    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("git")
            // Nothing that a checkout brings along is started: no monitor, no program that verifies
            // signatures, no filter of a repository that lies inside of it.
            .args(["-c", "core.fsmonitor=false", "-c", "log.showSignature=false"])
            .args(["-c", "safe.bareRepository=explicit", "--no-optional-locks"])
            .args(arguments)
            .current_dir(&self.root)
            .env_clear()
            .envs(base_env(&self.host))
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot start git: {error}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(said.lines().next().unwrap_or("git failed and did not say why").to_owned())
    }
}

/// What a repository's files say of its commit.
enum Head {
    /// It is this one.
    Commit(String),
    /// There is no repository.
    Nothing,
    /// Only git can tell: a worktree, packed references, no commit yet.
    Unclear,
}

fn head(root: &Path) -> Head {
    let Some(repository) = root.ancestors().map(|dir| dir.join(".git")).find(|git| git.exists()) else {
        return Head::Nothing;
    };
    let read = |path: &str| std::fs::read_to_string(repository.join(path)).ok();
    let Some(head) = read("HEAD") else { return Head::Unclear };
    let id = match head.trim_end().strip_prefix("ref: ") {
        Some(name) => read(name),
        None => Some(head),
    };
    let id = id.map(|id| id.trim_end().to_owned());
    let whole = |id: &String| matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    id.filter(whole).map_or(Head::Unclear, Head::Commit)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn git(dir: &Path, arguments: &[&str]) {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"];
        let done = Command::new("git").args(identity).args(arguments).current_dir(dir).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn host(more: &[(&str, &str)]) -> Host {
        let path = std::env::var("PATH").unwrap();
        let vars = more.iter().copied().chain([("PATH", path.as_str())]);
        Host::with(vars.map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn the_tree_is_what_tracked_files_hold_now() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let tree = || Git::new(&root.join("app"), host(&[])).tree().unwrap();
        for (path, text) in [("app/a", "1"), ("app/run.sh", "x"), ("other", "2"), ("app/gone", "3")] {
            std::fs::create_dir_all(root.join("app")).unwrap();
            std::fs::write(root.join(path), text).unwrap();
        }
        assert_eq!(tree(), BTreeMap::new(), "there is no repository");
        git(root, &["init", "-q"]);
        git(root, &["add", "."]);
        let fresh = tree();
        assert_eq!(fresh.keys().collect::<Vec<_>>(), [":/other", "a", "gone", "run.sh"]);
        git(root, &["commit", "-q", "-m", "x"]);
        assert_eq!(tree(), fresh, "committing changes nothing");

        std::fs::write(root.join("app/a"), "4").unwrap();
        std::fs::remove_file(root.join("app/gone")).unwrap();
        std::fs::write(root.join("app/untracked"), "5").unwrap();
        let changed = tree();
        assert_ne!(changed["a"], fresh["a"]);
        assert_eq!(changed["gone"], "missing");
        assert_eq!(changed.len(), 4);
        git(root, &["add", "app/a"]);
        assert_eq!(tree(), changed, "staging changes nothing");
    }

    #[test]
    fn facts_of_a_checkout() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let facts = |more: &[(&str, &str)]| Git::new(root, host(more)).facts().clone();
        let commit = || Git::new(root, host(&[])).commit();
        assert_eq!(commit(), None);
        assert_eq!(facts(&[]), Facts::default());
        assert!(
            Git::new(root, Host::with(BTreeMap::from([("PATH".to_owned(), "/nowhere".to_owned())])))
                .facts()
                .problem
                .is_some()
        );
        git(root, &["init", "-q", "-b", "trunk"]);
        assert_eq!(facts(&[]), Facts::default());

        std::fs::create_dir(root.join(".flow")).unwrap();
        std::fs::write(root.join(".flow/record"), "1").unwrap();
        std::fs::write(root.join("a"), "1").unwrap();
        git(root, &["add", "-f", "."]);
        git(root, &["commit", "-q", "-m", "x"]);
        git(root, &["tag", "v1.9"]);
        git(root, &["tag", "v1.10"]);
        let clean = facts(&[]);
        assert_eq!(clean.branch.as_deref(), Some("trunk"));
        assert_eq!(commit(), clean.sha);
        let asked = Git::new(root, host(&[]));
        assert_eq!(asked.tag(), Some("v1.10"));
        assert!(
            clean
                .sha
                .as_ref()
                .is_some_and(|sha| sha.len() == 40 && sha.starts_with(clean.short.as_ref().unwrap()))
        );
        assert!(!clean.dirty && asked.time_text().unwrap().ends_with('Z'));

        std::fs::write(root.join(".flow/record"), "2").unwrap();
        std::fs::write(root.join("untracked"), "1").unwrap();
        assert!(!facts(&[]).dirty);
        std::fs::write(root.join("a"), "2").unwrap();
        assert!(facts(&[]).dirty);

        git(root, &["pack-refs", "--all"]);
        assert_eq!(commit(), clean.sha, "git is asked where the files do not say");
        git(root, &["checkout", "-q", "--detach"]);
        assert_eq!(commit(), clean.sha);
        assert_eq!(facts(&[]).branch, None);
        assert_eq!(facts(&[("CI_COMMIT_BRANCH", "main")]).branch.as_deref(), Some("main"));
        let tagged = [("GITHUB_REF_NAME", "v1.10"), ("GITHUB_REF_TYPE", "tag")];
        assert_eq!(facts(&tagged).branch, None);
    }
}
