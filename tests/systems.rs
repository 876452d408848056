//! The systems under `flows/`, each deployed as its team would do it, with the real CLIs.

mod happyrobot;
mod ohi;
