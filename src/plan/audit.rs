//! Which files a program used without its step declaring them: reads a trace
//! that `strace` wrote while the step ran.
//!
//! Pure but for [`Used::undeclared`], which looks what is still there. Looking
//! whether a file exists, or listing a folder, is not reported.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::steps::Attributes;
use crate::world::files::{FileError, Files, without_dots};
use crate::world::walk::{GlobError, Matcher};

/// What a traced program used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Files that it opened to read, and programs that it started; absolute.
    pub read: BTreeSet<PathBuf>,
    /// Files that it opened to write, or put in place; absolute.
    pub written: BTreeSet<PathBuf>,
    /// Programs that it started, in order, each once.
    pub started: Vec<PathBuf>,
}

/// What it used without declaring it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Undeclared {
    /// Files below the project's root that no `inputs` names, by path relative to it.
    pub read: Vec<String>,
    /// Files there that no `outputs` names.
    pub written: Vec<String>,
    /// Programs from outside that no `tool` names.
    pub programs: Vec<String>,
}

/// What an audit cannot do.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A glob that is none.
    #[error(transparent)]
    Glob(#[from] GlobError),
}

impl Used {
    /// Reads a trace; `dir` is where the program ran.
    #[must_use]
    pub fn read(trace: &str, dir: &Path) -> Self {
        let mut used = Self::default();
        let mut cut: BTreeMap<&str, &str> = BTreeMap::new();
        for line in trace.lines() {
            let Some((process, call)) = line.trim_start().split_once(' ') else { continue };
            let call = call.trim_start();
            if let Some(start) = call.strip_suffix("<unfinished ...>") {
                cut.insert(process, start);
            } else if let Some((_, end)) = call.split_once(" resumed>") {
                let start = cut.remove(process).unwrap_or_default();
                used.call(&format!("{}{end}", start.trim_end()), dir);
            } else {
                used.call(call, dir);
            }
        }
        used
    }

    /// One call, as `openat(AT_FDCWD</p>, "in/a", O_RDONLY) = 3</p/in/a>`.
    fn call(&mut self, call: &str, dir: &Path) {
        let (Some((name, arguments)), Some((_, result))) = (call.split_once('('), call.rsplit_once(" = "))
        else {
            return;
        };
        if result.starts_with('-') || result.starts_with('?') {
            return;
        }
        let dir = folder(arguments).map_or_else(|| dir.to_owned(), PathBuf::from);
        let names = quoted(arguments);
        match name {
            "open" | "openat" | "openat2" | "creat" => {
                let opened = result.split_once('<').and_then(|(_, path)| path.strip_suffix('>'));
                let Some(path) = opened.map(PathBuf::from) else { return };
                let flags = arguments.rsplit_once('"').map_or("", |(_, flags)| flags);
                if name == "creat"
                    || ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| flags.contains(flag))
                {
                    self.written.insert(path);
                } else if !flags.contains("O_DIRECTORY") && !flags.contains("O_PATH") {
                    self.read.insert(path);
                }
            }
            "execve" | "execveat" => {
                if let Some(program) = names.first().map(|name| without_dots(&dir.join(name))) {
                    if !self.started.contains(&program) {
                        self.started.push(program.clone());
                    }
                    self.read.insert(program);
                }
            }
            _ => {
                if let Some(place) = names.last() {
                    self.written.insert(without_dots(&dir.join(place)));
                }
            }
        }
    }

    /// What of it a step does not declare. `own` programs are flow's choice: the shell of a script.
    pub fn undeclared(
        &self,
        attributes: &Attributes,
        files: &Files,
        own: &[&str],
    ) -> Result<Undeclared, AuditError> {
        let globs = attributes.inputs.clone().unwrap_or_default();
        let inputs = Matcher::new(&globs.include, &globs.exclude)?;
        let outputs = Matcher::new(&attributes.outputs, &[])?;
        let root = files.real_path(files.root())?;
        let below = |path: &PathBuf| {
            let relative = path.strip_prefix(&root).or_else(|_| path.strip_prefix(files.root())).ok()?;
            let hidden = relative.starts_with(".flow") || relative.starts_with(".git");
            let there = files.metadata(path).ok()?.is_some_and(|found| !found.is_dir());
            (!hidden && there).then(|| relative.to_owned())
        };
        let text = |path: &PathBuf| path.display().to_string();
        let written: BTreeSet<PathBuf> = self.written.iter().filter_map(below).collect();
        let read: BTreeSet<PathBuf> = self.read.iter().filter_map(below).collect();
        let read = read.iter().filter(|path| !inputs.matches(path) && !outputs.matches(path));
        let outside = self.started.iter().filter(|path| below(path).is_none());
        let names = outside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let declared = |name: &String| attributes.tools.iter().any(|(tool, _)| tool == name);
        let programs: BTreeSet<String> =
            names.filter(|name| !declared(name) && !own.contains(&name.as_str())).collect();
        Ok(Undeclared {
            read: read.filter(|path| !written.contains(*path)).map(text).collect(),
            written: written.iter().filter(|path| !outputs.matches(path)).map(text).collect(),
            programs: programs.into_iter().collect(),
        })
    }
}

/// The folder that relative names are meant in, as far as the call says.
fn folder(arguments: &str) -> Option<&str> {
    let behind = arguments.strip_prefix("AT_FDCWD<").or_else(|| {
        let (number, rest) = arguments.split_once('<')?;
        number.chars().all(|c| c.is_ascii_digit()).then_some(rest)
    })?;
    behind.split_once('>').map(|(folder, _)| folder)
}

/// Every text in quotes outside brackets: names, not arguments of programs.
fn quoted(arguments: &str) -> Vec<String> {
    let plain = arguments.split_once('[').map_or(arguments, |(before, _)| before);
    let mut names = Vec::new();
    let mut rest = plain;
    while let Some((_, behind)) = rest.split_once('"') {
        let mut name = String::new();
        let mut characters = behind.char_indices();
        let mut end = behind.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => name.extend(characters.next().map(|(_, escaped)| escaped)),
                other => name.push(other),
            }
        }
        names.push(name);
        rest = behind.get(end..).unwrap_or_default();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_tells_what_was_read_written_and_started() {
        let trace = r#"29235 execve("/usr/bin/sh", ["sh", "-c", "cat \"in/a\" > o"], 0x7ffd /* 35 vars */) = 0
29235 openat(AT_FDCWD</p>, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC) = 3</etc/ld.so.cache>
29235 openat(AT_FDCWD</p>, "none", O_RDONLY) = -1 ENOENT (No such file or directory)
29235 openat(AT_FDCWD</p>, "o", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3</p/o>
29236 openat(AT_FDCWD</p>, "in/a", O_RDONLY <unfinished ...>
29235 openat(AT_FDCWD</p>, "in", O_RDONLY|O_NONBLOCK|O_DIRECTORY) = 3</p/in>
29236 <... openat resumed>)             = 3</p/in/a>
29237 renameat2(AT_FDCWD</p/in>, "../o", AT_FDCWD</p/in>, "../done", RENAME_NOREPLACE) = 0
29238 execve("./tool.sh", ["./tool.sh"], 0x55a7 /* 35 vars */) = 0
29239 symlinkat("a", AT_FDCWD</p>, "link") = 0
"#;
        let used = Used::read(trace, Path::new("/p"));
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        assert_eq!(used.read, paths(&["/usr/bin/sh", "/etc/ld.so.cache", "/p/in/a", "/p/tool.sh"]));
        assert_eq!(used.written, paths(&["/p/o", "/p/done", "/p/link"]));
        assert_eq!(used.started, [PathBuf::from("/usr/bin/sh"), PathBuf::from("/p/tool.sh")]);
    }
}
