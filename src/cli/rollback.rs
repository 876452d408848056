//! `flow rollback FLOW --env ENV`

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Time;
use jiff::{Timestamp, ToSpan as _};

use super::Done;
use super::launch::{Launch, Manner};
use super::ready;
use super::saved::command_line;
use super::session::Session;
use super::workspace::Subject;
use crate::model::names::{EnvName, FlowName};
use crate::model::units::parse_duration;
use crate::plan::backwards::Wish;
use crate::plan::prepare::Request;
use crate::plan::selection::{Typed, split};
use crate::world::clock::Clock;

/// Go back to what a release records: an ordinary plan, with its gates, towards that release
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The flow
    #[arg(value_name = "FLOW")]
    flow: String,

    /// The environment; auto takes the one whose branch or tag matches the checkout
    #[arg(short, long, value_name = "ENV")]
    env: String,

    /// The release; without it the newest good one before what stands there now
    #[arg(long, value_name = "RELEASE|last-good", value_parser = release)]
    to: Option<To>,

    /// Only these groups, steps or instances (image[api]); gates in front of them stay
    #[arg(long, value_name = "NAMES")]
    only: Vec<String>,

    /// A parameter of the flow; those that are not given are the release's
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = super::selection::parameter)]
    param: Vec<(String, String)>,

    /// Only show the plan
    #[arg(long)]
    dry_run: bool,

    /// Only prove that it could be done; 5 where it could not
    #[arg(long, conflicts_with = "dry_run")]
    check: bool,

    /// As JSON, with --check
    #[arg(long, requires = "check")]
    json: bool,

    /// When the trouble began (14:02, 2026-11-21T14:02:00Z, or 10m ago): the time until all is healthy is recorded
    #[arg(long, value_name = "TIME", value_parser = incident)]
    incident: Option<Timestamp>,

    #[command(flatten)]
    manner: Manner,
}

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    LastGood,
    Release(u64),
}

fn release(text: &str) -> Result<To, String> {
    match text {
        "last-good" => Ok(To::LastGood),
        number => {
            number.parse().map(To::Release).map_err(|_| "write a release's number or last-good".to_owned())
        }
    }
}

fn incident(text: &str) -> Result<Timestamp, String> {
    let now = Clock.now();
    let then = moment(text, now).ok_or("write a time (14:02), a full one (2026-11-21T14:02:00Z), or 10m")?;
    if then > now { Err("that is in the future".to_owned()) } else { Ok(then) }
}

/// A full time, a time of day (of yesterday when it is still to come today), or how long ago.
fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(full) = text.parse::<Timestamp>() {
        return Some(full);
    }
    if let Ok(time) = text.parse::<Time>() {
        let today = now.to_zoned(Clock.zone());
        let then = today.with().time(time).build().ok()?;
        let then = if then.timestamp() > now { then.checked_sub(1.day()).ok()? } else { then };
        return Some(then.timestamp());
    }
    let ago = parse_duration(text.strip_suffix("ago").unwrap_or(text).trim())?;
    now.checked_sub(jiff::SignedDuration::try_from(ago).ok()?).ok().filter(|_| ago > Duration::ZERO)
}

impl Args {
    fn request(&self) -> Request {
        let to = match self.to {
            Some(To::Release(id)) => Some(id),
            Some(To::LastGood) | None => None,
        };
        Request {
            flow: FlowName::new(&self.flow),
            environment: EnvName::new(&self.env),
            typed: Typed {
                only: self.only.iter().flat_map(|names| split(names)).collect(),
                skip: Vec::new(),
            },
            params: self.param.clone(),
            no_cache: false,
            untrusted: false,
            resumes: None,
            inside: BTreeMap::new(),
            back: Some(Wish { to, incident: self.incident }),
        }
    }
}

impl Args {
    /// What it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::Flow(&self.flow)
    }
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    if args.check {
        return ready::rollback(session, args.request(), args.json);
    }
    let (request, again) = (args.request(), command_line(&args.request(), "rollback", &[]));
    Launch { session, request, again, saved: None, dry_run: args.dry_run, manner: &args.manner }.go()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_began_in_the_past() {
        let now: Timestamp = "2026-11-21T14:10:00Z".parse().unwrap();
        let ago = |text: &str| moment(text, now).map(|then| now.duration_since(then).as_secs());
        assert_eq!(ago("10m"), Some(600));
        assert_eq!(ago("10m ago"), Some(600));
        assert_eq!(ago("2026-11-21T14:02:00Z"), Some(480));
        assert_eq!(ago("2026-11-21T16:02:00+02:00"), Some(480));
        assert!(ago("14:02").is_some_and(|seconds| (0..86_400).contains(&seconds)), "{:?}", ago("14:02"));
        for wrong in ["", "soon", "0s", "25:00"] {
            assert_eq!(ago(wrong), None, "{wrong}");
        }
        assert!(incident("2999-01-01T00:00:00Z").is_err());
    }

    #[test]
    fn a_release_is_a_number_or_the_last_good_one() {
        assert_eq!(release("17"), Ok(To::Release(17)));
        assert_eq!(release("last-good"), Ok(To::LastGood));
        assert!(release("the last one").is_err());
    }
}
