//! SSH keys: what a person signs with, and how a signature is checked.
//!
//! Signing is left to `ssh-keygen`, which knows agents, passphrases and
//! hardware keys. Checking is done here, so that a run depends on no program:
//! a signature counts only over exactly these bytes and in flow's own
//! namespace. What is written verifies with `ssh-keygen -Y verify` as well.

mod sign;

use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, PublicKey, SshSig};

pub use self::sign::{SignError, public, sign};

/// What flow's signatures are for. A signature of another namespace (a commit, a file) never counts.
pub const NAMESPACE: &str = "flow-approval@v1";

/// A public key. Two keys are equal whatever comment stands behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(KeyData);

/// A text that is no OpenSSH public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no OpenSSH public key: {0}")]
pub struct NoKey(String);

/// A signature that does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// It is not one.
    #[error("a signature that cannot be read")]
    Unreadable,
    /// It was made for something else.
    #[error("a signature of another namespace ({0})")]
    Namespace(String),
    /// A sort of key that cannot be checked here.
    #[error("a signature by a sort of key that flow cannot check ({0})")]
    Unsupported(String),
    /// It belongs to other bytes.
    #[error("a signature that does not belong to what it stands under")]
    Wrong,
}

impl Key {
    /// Reads `ssh-ed25519 AAAA… comment`.
    pub fn parse(text: &str) -> Result<Self, NoKey> {
        let key = PublicKey::from_openssh(text.trim()).map_err(|error| NoKey(error.to_string()))?;
        Ok(Self(key.key_data().clone()))
    }

    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    /// As file names have it: 64 hexadecimal digits.
    #[must_use]
    pub fn file_name(&self) -> String {
        let mut text = String::new();
        for byte in self.0.fingerprint(HashAlg::Sha256).as_bytes() {
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }

    /// `ssh-ed25519 AAAA…`, without a comment.
    #[must_use]
    pub fn to_line(&self) -> String {
        // Only foreign key types without a text form fail, and those are not parsed either.
        PublicKey::from(self.0.clone()).to_openssh().unwrap_or_default()
    }
}

/// Checks a signature over these bytes, and says whose it is.
pub fn verify(armoured: &str, bytes: &[u8]) -> Result<Key, SignatureFault> {
    let signature = SshSig::from_pem(armoured.trim()).map_err(|_| SignatureFault::Unreadable)?;
    if signature.namespace() != NAMESPACE {
        return Err(SignatureFault::Namespace(signature.namespace().to_owned()));
    }
    // What a later version reserves may change what is signed.
    if !signature.reserved().is_empty() {
        return Err(SignatureFault::Unreadable);
    }
    let algorithm = signature.public_key().algorithm();
    if !checkable(&algorithm) {
        return Err(SignatureFault::Unsupported(algorithm.to_string()));
    }
    // RSA with SHA-1 is no signature any more.
    if matches!(signature.algorithm(), Algorithm::Rsa { hash: None }) {
        return Err(SignatureFault::Unsupported("ssh-rsa with SHA-1".to_owned()));
    }
    let key = signature.public_key().clone();
    PublicKey::from(key.clone()).verify(NAMESPACE, bytes, &signature).map_err(|_| SignatureFault::Wrong)?;
    Ok(Key(key))
}

fn checkable(algorithm: &Algorithm) -> bool {
    matches!(
        algorithm,
        Algorithm::Ed25519
            | Algorithm::SkEd25519
            | Algorithm::SkEcdsaSha2NistP256
            | Algorithm::Rsa { .. }
            | Algorithm::Ecdsa { curve: ssh_key::EcdsaCurve::NistP256 }
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::world::host::Host;

    fn keygen(arguments: &[&str], folder: &Path) {
        let done = Command::new("ssh-keygen").args(arguments).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn make(folder: &Path, name: &str, sort: &[&str]) -> String {
        keygen(&[&["-q", "-N", "", "-C", name, "-f", name, "-t"], sort].concat(), folder);
        std::fs::read_to_string(folder.join(format!("{name}.pub"))).unwrap()
    }

    fn signed(folder: &Path, key: &str, text: &str) -> String {
        let key = folder.join(key);
        sign(&Host::current(), folder, key.to_str(), text.as_bytes()).unwrap()
    }

    #[test]
    fn what_ssh_keygen_signs_is_checked_here() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for sort in [&["ed25519"][..], &["ecdsa", "-b", "256"], &["rsa", "-b", "2048"]] {
            let public = make(folder, sort[0], sort);
            let signature = signed(folder, sort[0], "plan 7f3a");
            let key = verify(&signature, b"plan 7f3a").unwrap();
            assert_eq!(key, Key::parse(&public).unwrap());
            assert_eq!(verify(&signature, b"plan 7f3b"), Err(SignatureFault::Wrong));
            assert!(public.starts_with(&key.to_line()), "{public}");
            assert!(key.fingerprint().starts_with("SHA256:") && key.file_name().len() == 64);
        }
        make(folder, "big", &["ecdsa", "-b", "384"]);
        let fault = verify(&signed(folder, "big", "x"), b"x").unwrap_err();
        assert_eq!(
            fault.to_string(),
            "a signature by a sort of key that flow cannot check (ecdsa-sha2-nistp384)"
        );
        assert_eq!(verify("-----BEGIN SSH SIGNATURE-----", b"x"), Err(SignatureFault::Unreadable));
    }

    #[test]
    fn ssh_keygen_verifies_what_flow_signs() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let public = make(folder, "ada", &["ed25519"]);
        let signature = signed(folder, "ada", "the statement");
        std::fs::write(folder.join("allowed"), format!("ada namespaces=\"{NAMESPACE}\" {public}")).unwrap();
        std::fs::write(folder.join("statement.sig"), &signature).unwrap();
        std::fs::write(folder.join("statement"), "the statement").unwrap();
        let arguments =
            ["-Y", "verify", "-f", "allowed", "-I", "ada", "-n", NAMESPACE, "-s", "statement.sig"];
        let done = Command::new("ssh-keygen")
            .args(arguments)
            .current_dir(folder)
            .stdin(std::fs::File::open(folder.join("statement")).unwrap())
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert!(String::from_utf8_lossy(&done.stdout).contains("Good"), "{done:?}");
    }

    #[test]
    fn a_signature_for_something_else_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        make(folder, "ada", &["ed25519"]);
        std::fs::write(folder.join("text"), "x").unwrap();
        keygen(&["-q", "-Y", "sign", "-n", "git", "-f", "ada", "text"], folder);
        let signature = std::fs::read_to_string(folder.join("text.sig")).unwrap();
        let fault = verify(&signature, b"x").unwrap_err();
        assert_eq!(fault.to_string(), "a signature of another namespace (git)");
    }

    #[test]
    fn texts_that_are_no_keys_are_refused() {
        for text in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ecdsa nonsense"] {
            assert!(Key::parse(text).is_err(), "{text}");
        }
    }
}
