//! What was done, and what runs now: written as it happens, read back by everybody else.
//!
//! ```text
//! runs/<run>/journal.jsonl         every recorded event of a run, chained and synced   log
//! runs/<run>/logs/<step>.log       what its programs and containers wrote              logs
//! releases/<env>/<number>.json     what an environment runs                            releases
//! approvals/<plan digest>/…        who agreed to what                                  approvals
//! locks/<env>/<token>.jsonl        who may change it                                   locks
//! plans/<digest>.json              what runs were going to do                          plans
//! past/<env>/<flow>.json           how long its steps took                             past
//! runs-ended-well.jsonl            runs whose journals need not be read again              runs
//! sequences/<env>/<flow>/<n>.json  which run was the n-th that changed something       sequence
//! ```
//!
//! History, endings and reports are derived from these and can be made again.

pub mod approvals;
pub mod ids;
pub mod locks;
pub mod log;
pub mod logs;
pub mod past;
pub mod plans;
pub mod releases;
pub mod replay;
pub mod runs;
pub mod sequence;
