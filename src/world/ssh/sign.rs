//! Signing with `ssh-keygen`: it asks for passphrases and touches at the
//! terminal itself, so it stays in flow's own process group.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Key, NAMESPACE};
use crate::world::host::Host;
use crate::world::terminal;

/// Keys of a person that are tried in this order, below `~/.ssh`.
const DEFAULTS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The named key is not there.
    #[error("there is no key {0}")]
    Missing(String),
    /// No key anywhere.
    #[error("there is no SSH key to sign with")]
    NoKey,
    /// An agent with several keys, and nothing says which.
    #[error("the agent holds {0} keys, and nothing says which one to sign with")]
    Several(usize),
    /// The program.
    #[error("cannot start {program}: {why}")]
    Start {
        /// `ssh-keygen`
        program: &'static str,
        /// The system's word.
        why: std::io::Error,
    },
    /// A file for the agent's key could not be written.
    #[error("cannot write a file for the key: {0}")]
    File(std::io::Error),
    /// It did not sign.
    #[error("ssh-keygen did not sign with {key}{}", if .said.is_empty() { String::new() } else { format!(": {said}") })]
    Refused {
        /// The key.
        key: String,
        /// Its words, unless it said them at the terminal.
        said: String,
    },
}

/// A key to sign with: a file, or the text of a public key whose other half an agent holds.
enum Chosen {
    File(PathBuf),
    Agent(String),
}

/// Signs these bytes in flow's namespace and returns the armoured signature. The key is the named
/// one, else git's `user.signingkey`, else the first of a person's usual ones, else the only one of
/// the agent. Relative paths are relative to `here`. Blocks for as long as a person takes to touch a
/// key or to type a passphrase.
pub fn sign(host: &Host, here: &Path, key: Option<&str>, bytes: &[u8]) -> Result<String, SignError> {
    let chosen = choose(host, here, key)?;
    let mut text = None;
    let file = match chosen {
        Chosen::File(file) => file,
        Chosen::Agent(public) => {
            let mut made = tempfile::Builder::new().suffix(".pub").tempfile().map_err(SignError::File)?;
            made.write_all(format!("{}\n", public.trim()).as_bytes()).map_err(SignError::File)?;
            text.insert(made).path().to_owned()
        }
    };
    let seen = terminal::stderr_is_terminal();
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"]).arg(&file).current_dir(here);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(if seen { Stdio::inherit() } else { Stdio::piped() });
    let start = |why| SignError::Start { program: "ssh-keygen", why };
    let mut child = command.spawn().map_err(start)?;
    if let Some(mut input) = child.stdin.take() {
        // Without a usable key it ends before it reads; what it says then is the reason.
        let _ = input.write_all(bytes);
    }
    let output = child.wait_with_output().map_err(start)?;
    let signature = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() && signature.contains("BEGIN SSH SIGNATURE") {
        return Ok(signature);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or_default().to_owned();
    Err(SignError::Refused { key: file.display().to_string(), said })
}

/// The key that [`sign`] would use; `None` where only signing tells, or nothing would sign.
#[must_use]
pub fn public(host: &Host, here: &Path, key: Option<&str>) -> Option<Key> {
    let text = match choose(host, here, key).ok()? {
        Chosen::Agent(text) => text,
        Chosen::File(file) if file.extension().is_some_and(|end| end == "pub") => read(&file)?,
        Chosen::File(file) => {
            let mut beside = file.into_os_string();
            beside.push(".pub");
            read(Path::new(&beside))?
        }
    };
    Key::parse(&text).ok()
}

/// The text of a small file, if it can be read.
fn read(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok()
}

fn choose(host: &Host, here: &Path, key: Option<&str>) -> Result<Chosen, SignError> {
    if let Some(named) = key {
        let file = here.join(home(host, named));
        return if file.is_file() {
            Ok(Chosen::File(file))
        } else {
            Err(SignError::Missing(named.to_owned()))
        };
    }
    if let Some(configured) = configured(host, here) {
        return configured;
    }
    let folder = host.var("HOME").map(|home| Path::new(home).join(".ssh"));
    let usual = folder.iter().flat_map(|folder| DEFAULTS.map(|name| folder.join(name)));
    if let Some(file) = usual.into_iter().find(|file| file.is_file()) {
        return Ok(Chosen::File(file));
    }
    let keys = agent_keys();
    match keys.as_slice() {
        [] => Err(SignError::NoKey),
        [one] => Ok(Chosen::Agent(one.clone())),
        several => Err(SignError::Several(several.len())),
    }
}

/// git's `user.signingkey`, when it is an SSH key: a file, or the text of a public key. Ids of
/// `OpenPGP` keys are none.
fn configured(host: &Host, here: &Path) -> Option<Result<Chosen, SignError>> {
    let said = Command::new("git")
        .args(["config", "user.signingkey"])
        .current_dir(here)
        .stdin(Stdio::null())
        .output();
    let text = String::from_utf8_lossy(&said.ok()?.stdout).trim().to_owned();
    let literal = text.strip_prefix("key::").unwrap_or(&text);
    if ["ssh-", "ecdsa-", "sk-"].iter().any(|start| literal.starts_with(start)) {
        return Some(Ok(Chosen::Agent(literal.to_owned())));
    }
    let file = here.join(home(host, &text));
    if file.is_file() {
        return Some(Ok(Chosen::File(file)));
    }
    // A path that leads nowhere is a mistake to name; anything else belongs to another program.
    (text.contains('/') && !text.is_empty()).then_some(Err(SignError::Missing(text)))
}

fn home(host: &Host, path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), host.var("HOME")) {
        (Some(rest), Some(home)) => Path::new(home).join(rest),
        _ => PathBuf::from(path),
    }
}

/// The public keys of the agent; none without one.
fn agent_keys() -> Vec<String> {
    let Ok(said) = Command::new("ssh-add").arg("-L").stdin(Stdio::null()).output() else { return Vec::new() };
    if !said.status.success() {
        return Vec::new();
    }
    String::from_utf8_lossy(&said.stdout).lines().map(str::to_owned).collect()
}
