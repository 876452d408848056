//! Digests of values that must not be guessed.
//!
//! A plain digest of a password can be tried out offline; a keyed one cannot
//! without the key, which is made once per store and lies in it.

use std::io::Read as _;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::digests::Sum;
use super::files::{FileError, Files, hex};
use super::store::Store;

const KEY: &str = "key";
const BLOCK: usize = 64;

/// Makes keyed digests. Cheap to clone.
#[derive(Clone)]
pub struct Sealer {
    /// Both halves of HMAC (RFC 2104) as they stand when the key is read: it is the same each time.
    inner: Sha256,
    outer: Sha256,
}

impl Sealer {
    /// The store's key, made when it has none.
    pub fn load(store: &Store) -> Result<Self, FileError> {
        if store.get(KEY)?.is_none() {
            let mut fresh = [0; 32];
            let mut random = Files::new("/").open(Path::new("/dev/urandom"))?;
            random.read_exact(&mut fresh).map_err(|source| FileError {
                what: "cannot read",
                path: "/dev/urandom".into(),
                source,
            })?;
            // Whoever was first is right.
            store.create(KEY, hex(&fresh).as_bytes())?;
        }
        let text = store.get(KEY)?.unwrap_or_default();
        // Whatever lies there is a key; its digest has the right length.
        Ok(Self::with(Sha256::digest(&text).into()))
    }

    /// HMAC-SHA-256 (RFC 2104) of a value, in hexadecimal.
    #[must_use]
    pub fn digest(&self, value: &str) -> String {
        self.sum(value).to_string()
    }

    /// The same as bytes.
    #[must_use]
    pub fn sum(&self, value: &str) -> Sum {
        let inner = self.inner.clone().chain_update(value.as_bytes()).finalize();
        Sum(self.outer.clone().chain_update(inner).finalize().into())
    }

    fn with(key: [u8; 32]) -> Self {
        let padded = |with: u8| {
            let mut block = [with; BLOCK];
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            Sha256::new().chain_update(block)
        };
        Self { inner: padded(0x36), outer: padded(0x5c) }
    }
}

/// The key is not shown.
impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}
