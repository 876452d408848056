//! flow deploys from workflow files: one plan over all layers, gates, and a
//! record of everything done.
//!
//! # One direction
//!
//! ```text
//! KDL text ─▶ typed flow ─▶ plan ─▶ execution ─▶ steps ─▶ events ─▶ journal and reports
//! ```
//!
//! Modules import one way only, later ones from earlier ones:
//! `syntax → model → event → world → journal → steps → cache → plan → exec →
//! report → cli`. A test reads every `use crate::` and keeps it so.
//!
//! | module | what lives there | what never does |
//! |---|---|---|
//! | [`syntax`] | text, places, the guarded KDL parser, how mistakes are drawn | meaning; files |
//! | [`model`] | a flow in types: templates, conditions, settings, steps | files, clock, network |
//! | [`event`] | the one event type | sinks |
//! | [`world`] | files, processes, AWS, Docker, HTTP, time, secrets' mask | flows |
//! | [`journal`] | records of a run, releases | what is shown |
//! | [`steps`] | one file a kind: what it would do, and the effect that does it | order, retries, gates |
//! | [`cache`] | what steps that only make files left behind | deploying |
//! | [`plan`] | graph, selection, asking the world, the plan as data | effects |
//! | [`exec`] | scheduler, the life of a step, dispatcher, signals | words |
//! | [`report`] | console, plain, JSON, history: views of events | decisions |
//! | [`cli`] | words ↔ requests, hints, exit codes | anything else |
//!
//! # Where to begin reading
//!
//! `steps::Step` and `steps::Effect` say what a step is; `plan::propose` is
//! how one is looked at, `exec::unit` how one lives. Adding a kind is one file
//! under `steps` and one line in `steps::KINDS`.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make files and start programs"))]

pub mod cache;
pub mod cli;
pub mod event;
pub mod exec;
pub mod exit;
pub mod journal;
pub mod model;
pub mod plan;
pub mod report;
pub mod steps;
pub mod syntax;
pub mod world;
