//! What the kinds that drive an infrastructure program share, written once:
//! the settings, the program and its version, `prepare` and `policy`, what a
//! preview says and what it may not do, and the sources that a rollback applies
//! again.
//!
//! A kind puts the rows of [`settings`] into its table, reads them with
//! [`Common::read`], and in `plan` goes this way:
//!
//! 1. [`Sources::of`]: the local files it is made from ([`Proposal::inputs`]).
//! 2. [`Workplace::here`], or [`Workplace::unpacked`] on the way back.
//! 3. [`Common::prepare`]: local work that the program needs.
//! 4. [`Tool::find`]: the program, its version checked.
//! 5. its own preview, as [`Preview`]; [`Preview::guard`] refuses what would
//!    take a protected resource away; [`Common::judge`] asks the policy.
//! 6. [`Preview::proposal`], with an effect that applies exactly this preview.
//!
//! Nothing is compared again before the effect: `exec` plans once more right
//! before it and refuses where the baseline, which holds the preview's digest,
//! is another. An effect therefore applies the preview that it was made with,
//! and keeps the sources with [`Sources::keep`] first.
//!
//! [`Proposal::inputs`]: super::Proposal::inputs

mod policy;
mod prepare;
mod preview;
mod protect;
mod record;
pub(super) mod settings;
mod sources;
mod tool;
mod version;
mod workplace;

pub(super) use self::preview::{Op, Preview, ResourceChange, canonical};
pub(super) use self::protect::Protect;
pub(super) use self::record::{Kept, lacks, refuses_unasked};
pub(super) use self::settings::Common;
pub(super) use self::sources::{Sources, keep_bytes, kept_bytes};
pub(super) use self::tool::{Tool, ToolSpec};
pub(super) use self::workplace::Workplace;
