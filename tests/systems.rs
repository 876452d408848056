//! The systems under `flows/`, each in a checkout of its own, on the sandbox with the real programs:
//! cold, again, with one change, with a failure in the middle, and back.

mod partner;
mod runbooks;
