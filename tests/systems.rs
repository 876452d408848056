//! The systems under `flows/`, each in a checkout of its own, on the sandbox with the real programs.

mod runbooks;
