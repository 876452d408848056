//! A value that cannot be printed, serialised or compared in the clear.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A secret. `Debug` says only that it is one; there is no `Display` and no `Serialize`.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes a value out of sight.
    pub fn new(value: impl Into<String>) -> Self {
        Self(SecretString::from(value.into()))
    }

    /// The value, for the one call that needs it: a child's environment, a
    /// file of mode 0600, a provider's request. Never for text that is shown.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
