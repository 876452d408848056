//! SSH keys of people, made by `ssh-keygen`, and what they sign besides flow.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::project::Project;

/// A person with a key in the project's folder `keys/`, which is not tracked.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    /// `ada`
    pub name: String,
    /// The private key's file, relative to the project.
    pub file: String,
    /// `ssh-ed25519 AAAA…`, without a comment.
    pub public: String,
    /// Where it lies.
    pub path: PathBuf,
}

impl Person {
    /// Makes a key of their own.
    pub(crate) fn new(project: &Project, name: &str) -> Self {
        let folder = project.path("keys");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        let public = public.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        Self { name: name.to_owned(), file: format!("keys/{name}"), public, path }
    }

    /// `SHA256:…`
    pub(crate) fn fingerprint(&self) -> String {
        let shown = Command::new("ssh-keygen").arg("-lf").arg(&self.path).output().unwrap();
        String::from_utf8(shown.stdout).unwrap().split_whitespace().nth(1).unwrap().to_owned()
    }

    /// Signs a text as `ssh-keygen -Y sign` does, in any namespace.
    pub(crate) fn sign(&self, namespace: &str, text: &str) -> String {
        use std::io::Write as _;
        let mut signing = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
            .arg(&self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        signing.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = signing.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }
}
