//! A decision in words: what the plan shows of it.

use super::decide::{Configuration, Update, Way};
use super::plan::{Observed, Wanted};
use super::roll::Target;
use super::settings::Deploy;
use crate::model::change::{Action, Change};
use crate::model::units::count;
use crate::steps::Proposal;
use crate::steps::ecs::canonical::{Canonical, image_form, short_image};
use crate::steps::ecs::definition::{Definition, Unknown, short_arn};
use crate::world::aws::ecs::{Deployment, Registered};
use crate::world::keyed::Sealer;

/// What was observed, wanted and decided.
pub(super) struct Draft<'a> {
    pub(super) deploy: &'a Deploy,
    pub(super) observed: &'a Observed,
    pub(super) wanted: &'a Wanted,
    /// Of the wanted definition.
    pub(super) form: &'a Canonical,
    pub(super) target: &'a Target,
    /// `None` when there is nothing to do.
    pub(super) way: Option<&'a Way>,
    pub(super) configuration: &'a Configuration,
    /// ARN and words of what the service had before the first release.
    pub(super) placeholder: Option<&'a (String, String)>,
    /// ARN that the last release left running.
    pub(super) released: Option<&'a str>,
    /// For the values of variables.
    pub(super) sealer: &'a Sealer,
}

impl Draft<'_> {
    /// Action, summary, subject, changes and warnings.
    pub(super) fn proposal(&self) -> Proposal {
        let action = if self.way.is_some() { Action::Update } else { Action::UpToDate };
        Proposal {
            subject: self.subject(),
            changes: self.changes(),
            warnings: self.warnings(),
            ..Proposal::new(action, self.summary())
        }
    }

    fn current(&self) -> &str {
        short_arn(&self.observed.service.task_definition)
    }

    fn summary(&self) -> String {
        let service = &self.observed.service;
        let primary = service.primary();
        let (running, tasks) = primary.map_or((0, 0), |one| (one.running_count, one.desired_count));
        match self.way {
            None if tasks == 0 => format!("{} is set, nothing runs: desired is 0", self.current()),
            None if running < tasks => format!("{} is being rolled out", self.current()),
            None => format!("{} runs with {running} of {}", self.current(), count_tasks(tasks)),
            Some(Way::Await(_)) => format!("wait for {}, {running} running", count_tasks(tasks)),
            Some(Way::Update(update)) if self.deploy.goal.is_some() && update.rolls() => {
                match update.desired.unwrap_or(service.desired_count) {
                    0 => "go back, with no tasks".to_owned(),
                    then => format!("roll {} back", count_tasks(then)),
                }
            }
            Some(Way::Update(update)) => update_summary(service.desired_count, update),
        }
    }

    /// `shop-api:41 → :42`
    fn subject(&self) -> String {
        let current = self.current();
        match self.way {
            None => String::new(),
            Some(Way::Update(Update { moves: true, .. })) => {
                let (family, revision) = self.next();
                match current.rsplit_once(':') {
                    Some((same, _)) if same == family => format!("{current} → :{revision}"),
                    _ => format!("{current} → {family}:{revision}"),
                }
            }
            Some(_) => current.to_owned(),
        }
    }

    /// Family and revision that will run; a revision that is not registered yet gets the next number,
    /// and with an image that is still to be built none is registered yet.
    fn next(&self) -> (String, String) {
        let definition = match self.target {
            Target::Registered(arn) if self.wanted.unknown.is_empty() => {
                let (family, revision) = short_arn(arn).rsplit_once(':').unwrap_or((arn, ""));
                return (family.to_owned(), revision.to_owned());
            }
            Target::Registered(_) => &self.wanted.definition,
            Target::New(definition) => definition,
        };
        let last = self.observed.newest().map_or(0, Registered::revision);
        (definition.family().to_owned(), (last + 1).to_string())
    }

    fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(running) = self.observed.running.as_ref().map(Definition::of) {
            let alone = self.wanted.definition.containers().count() == 1;
            for Unknown { container, what, step } in &self.wanted.unknown {
                let image = running.image(container).filter(|_| what == "image").map(short_image);
                let what = if alone { what.clone() } else { format!("{container} {what}") };
                changes.push(Change::new(what, image, format!("(known after {step})")));
            }
            changes.extend(Canonical::of(&running).changes_to(self.form, self.sealer));
        }
        if let Some(Way::Update(update)) = self.way {
            if let Some(desired) = update.desired {
                let now = self.observed.service.desired_count;
                changes.push(Change::new("desired", now.to_string(), desired.to_string()));
            }
            if update.force {
                changes.push(Change::new("tasks", None, "new ones of the same definition".to_owned()));
            }
        }
        changes.extend(self.configuration.changes.iter().cloned());
        changes
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.wanted.warnings.clone();
        self.warn_of_others(&mut warnings);
        self.warn_of_deregistered(&mut warnings);
        match self.way {
            Some(Way::Update(update)) if update.rolls() => {
                self.warn_of_roll(&mut warnings);
                self.warn_of_failures(&mut warnings);
            }
            _ => self.warn_of_registry(&mut warnings),
        }
        warnings
    }

    /// What the file does not name is taken from the definition that runs, whoever made it: that
    /// somebody else did is said, since no difference may show it.
    fn warn_of_others(&self, warnings: &mut Vec<String>) {
        let now = self.observed.service.task_definition.as_str();
        if let Some(released) = self.released.filter(|released| *released != now) {
            let (now, released) = (short_arn(now), short_arn(released));
            let name = &self.deploy.service;
            warnings
                .push(format!("{name} was moved to {now} outside of flow; the last release ran {released}"));
        }
    }

    /// Going back to a revision that was deregistered makes a new one of the same content: whoever
    /// looks for the recorded number afterwards should know.
    fn warn_of_deregistered(&self, warnings: &mut Vec<String>) {
        let again = matches!(self.target, Target::New(_)) && self.deploy.goal.is_some();
        if let Some(from) = self.wanted.from.as_ref().filter(|from| again && !from.is_active()) {
            let (from, (family, revision)) = (short_arn(from.arn()), self.next());
            warnings.push(format!("{from} was deregistered: it is registered again as {family}:{revision}"));
        }
    }

    fn warn_of_roll(&self, warnings: &mut Vec<String>) {
        let service = &self.observed.service;
        let name = &self.deploy.service;
        let desired = self.deploy.desired.unwrap_or(service.desired_count);
        let Configuration { breaker, min_healthy, max_percent, .. } = self.configuration;
        if !breaker {
            warnings.push(format!(
                "the circuit breaker of {name} is off: ECS starts failing tasks again and again; \
                 circuit-breaker #true makes it roll back"
            ));
        }
        if desired == 0 {
            warnings
                .push(format!("desired is 0: nothing of {name} will run, and the new tasks are not tried"));
        }
        if self.configuration.is_stuck(desired) {
            warnings.push(format!(
                "with min-healthy {min_healthy}% and max-percent {max_percent}% \
                 ECS can neither stop an old task of {name} nor start a new one"
            ));
        }
        if let Some((arn, words)) = self.placeholder.filter(|_| service.running_count == 0) {
            let arn = short_arn(arn);
            warnings.push(format!("nothing of {name} runs now: a failure goes back to {arn}, {words}"));
        }
    }

    fn warn_of_failures(&self, warnings: &mut Vec<String>) {
        let service = &self.observed.service;
        let again = |one: &&Deployment| one.has_failed() && self.target.is(&one.task_definition);
        let failed = service.deployments.iter().find(again);
        let failed = failed.or_else(|| service.primary().filter(|primary| primary.has_failed()));
        if let Some(failed) = failed {
            let definition = short_arn(&failed.task_definition);
            let why = match failed.rollout_state_reason.trim_end_matches('.') {
                "" => "ECS does not say why",
                why => why,
            };
            warnings.push(format!("the last deployment of {definition} failed: {why}"));
        }
    }

    /// The same bytes from elsewhere are no change; whoever moves to another registry should know.
    fn warn_of_registry(&self, warnings: &mut Vec<String>) {
        let Some(running) = self.observed.running.as_ref().map(Definition::of) else { return };
        for container in self.wanted.definition.container_names() {
            let (old, new) = (running.image(&container), self.wanted.definition.image(&container));
            if let (Some(old), Some(new)) = (old, new)
                && image_form(old) == image_form(new)
                && repository(old) != repository(new)
            {
                warnings.push(format!(
                    "{container} keeps pulling its image from {}: the one in {} has the same digest",
                    repository(old),
                    repository(new)
                ));
            }
        }
    }
}

fn update_summary(now: i64, update: &Update) -> String {
    let then = update.desired.unwrap_or(now);
    match update {
        _ if update.rolls() && then == 0 => "change the definition of 0 tasks".to_owned(),
        _ if update.rolls() && now == 0 => format!("start {}", count_tasks(then)),
        _ if update.rolls() => format!("roll {}", count_tasks(then)),
        Update { desired: Some(then), .. } => format!("scale {now} → {}", count_tasks(*then)),
        _ => "change how it is deployed".to_owned(),
    }
}

/// `1 task`, `2 tasks`.
pub(super) fn count_tasks(number: i64) -> String {
    count(usize::try_from(number).unwrap_or_default(), "task")
}

fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        // A colon before a slash is a port.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}
