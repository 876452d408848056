//! What has to be done to a service, decided from what was observed. Nothing is asked here.

use serde_json::{Map, Value};

use super::settings::Deploy;
use crate::model::change::Change;
use crate::world::aws::ecs::{Deployment, Service};

/// Whether a service runs what it should.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Steadiness {
    /// It does.
    Steady,
    /// It is on the way there, or lost tasks that ECS replaces.
    Moving(Deployment),
    /// The last deployment failed, and nothing came in its place.
    Failed(Deployment),
}

impl Steadiness {
    /// Of the deployment in force. Other deployments that failed stay listed for a while and mean nothing.
    pub(super) fn of(service: &Service) -> Option<Self> {
        let primary = service.primary()?;
        let enough = primary.running_count >= primary.desired_count && primary.pending_count == 0;
        Some(match primary.rollout_state.as_deref() {
            Some("FAILED") => Self::Failed(primary.clone()),
            Some("COMPLETED") if enough => Self::Steady,
            // Behind a Classic load balancer ECS does not say.
            None if enough && service.deployments.len() == 1 => Self::Steady,
            _ => Self::Moving(primary.clone()),
        })
    }
}

/// What the deployment settings of a step change in a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Configuration {
    /// The whole new configuration; `None` when it stays.
    pub(super) wanted: Option<Value>,
    /// The differences.
    pub(super) changes: Vec<Change>,
    /// Whether the circuit breaker is on afterwards.
    pub(super) breaker: bool,
    /// Percent.
    pub(super) min_healthy: i64,
    /// Percent.
    pub(super) max_percent: i64,
}

impl Configuration {
    /// ECS replaces the configuration as a whole, so it starts from what is there.
    pub(super) fn of(service: &Service, deploy: &Deploy) -> Self {
        let before = &service.deployment_configuration;
        let mut members = match before {
            Value::Object(members) => members.clone(),
            _ => Map::new(),
        };
        let mut differs = false;
        if let Some(recorded) = deploy.goal.as_ref().map(|goal| &goal.to.configuration)
            && let Value::Object(wanted) = recorded
            && !holds(before, recorded)
        {
            members.extend(wanted.clone());
            differs = true;
        }
        if let Some(asked) = deploy.circuit_breaker
            && breaker(before) != (asked, asked)
        {
            let there = members.get("deploymentCircuitBreaker").and_then(Value::as_object);
            let mut switches = there.cloned().unwrap_or_default();
            switches.insert("enable".to_owned(), asked.into());
            switches.insert("rollback".to_owned(), asked.into());
            members.insert("deploymentCircuitBreaker".to_owned(), switches.into());
            differs = true;
        }
        for (share, asked) in [(MIN_HEALTHY, deploy.min_healthy), (MAX_PERCENT, deploy.max_percent)] {
            if let Some(asked) = asked.filter(|asked| *asked != share.of(before)) {
                members.insert(share.member.to_owned(), asked.into());
                differs = true;
            }
        }
        let after = Value::Object(members);
        let mut changes: Vec<Change> = told(before)
            .into_iter()
            .zip(told(&after))
            .filter(|(from, to)| from != to)
            .map(|((what, from), (_, to))| Change::new(what, from, to))
            .collect();
        if differs && changes.is_empty() {
            changes.push(Change::new("deployment settings", None, "as they were".to_owned()));
        }
        Self {
            changes,
            breaker: breaker(&after).0,
            min_healthy: MIN_HEALTHY.of(&after),
            max_percent: MAX_PERCENT.of(&after),
            wanted: differs.then_some(after),
        }
    }

    /// Whether ECS may neither stop an old task nor start a new one.
    pub(super) fn is_stuck(&self, desired: i64) -> bool {
        let keep = (desired * self.min_healthy + 99) / 100;
        let most = desired * self.max_percent / 100;
        desired > 0 && keep >= desired && most <= desired
    }
}

/// A share of the desired number of tasks.
#[derive(Clone, Copy)]
struct Share {
    setting: &'static str,
    member: &'static str,
    usual: i64,
}

const MIN_HEALTHY: Share = Share { setting: "min-healthy", member: "minimumHealthyPercent", usual: 100 };
const MAX_PERCENT: Share = Share { setting: "max-percent", member: "maximumPercent", usual: 200 };

impl Share {
    fn of(self, configuration: &Value) -> i64 {
        configuration.get(self.member).and_then(Value::as_i64).unwrap_or(self.usual)
    }
}

/// Whether the circuit breaker is on, and whether it rolls back.
fn breaker(configuration: &Value) -> (bool, bool) {
    let breaker = configuration.get("deploymentCircuitBreaker");
    let on = |name: &str| breaker.and_then(|one| one.get(name)).and_then(Value::as_bool).unwrap_or(false);
    (on("enable"), on("rollback"))
}

/// The settings of a service that decide how it is deployed, as a flow file calls them.
pub(super) fn told(configuration: &Value) -> [(&'static str, String); 3] {
    let word = match breaker(configuration) {
        (true, true) => "on",
        (true, false) => "on, without rollback",
        (false, _) => "off",
    };
    let percent = |share: Share| (share.setting, format!("{}%", share.of(configuration)));
    [("circuit-breaker", word.to_owned()), percent(MIN_HEALTHY), percent(MAX_PERCENT)]
}

/// What an effect does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Way {
    /// The deployment that is under way is the wanted one.
    Await(Deployment),
    /// `UpdateService`.
    Update(Update),
}

/// What `UpdateService` is sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Update {
    /// The service moves to another definition.
    pub(super) moves: bool,
    /// Start new tasks although the definition stays.
    pub(super) force: bool,
    /// The number of tasks, only when it was asked for and differs.
    pub(super) desired: Option<i64>,
    /// The whole configuration.
    pub(super) configuration: Option<Value>,
}

impl Update {
    /// Whether tasks are replaced.
    pub(super) fn rolls(&self) -> bool {
        self.moves || self.force
    }

    /// Whether the settings of a service show it; says nothing about deployments.
    pub(super) fn is_done(&self, service: &Service) -> bool {
        self.desired.is_none_or(|desired| desired == service.desired_count)
            && self
                .configuration
                .as_ref()
                .is_none_or(|wanted| holds(&service.deployment_configuration, wanted))
    }
}

/// Whether all that is wanted is there; ECS may have filled in more.
fn holds(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| there.get(name).is_some_and(|there| holds(there, wanted)))
        }
        _ => there == wanted,
    }
}

/// Decides; `None` when all is as wanted. `moves`: the service is to run another definition than it does.
pub(super) fn decide(
    service: &Service,
    deploy: &Deploy,
    moves: bool,
    configuration: &Configuration,
) -> Option<Way> {
    let desired = deploy.desired.filter(|desired| *desired != service.desired_count);
    let steadiness = Steadiness::of(service);
    let failed = matches!(steadiness, Some(Steadiness::Failed(_)));
    let update = Update {
        moves,
        force: !moves && (deploy.force || failed),
        desired,
        configuration: configuration.wanted.clone(),
    };
    if update != Update::default() {
        return Some(Way::Update(update));
    }
    match steadiness {
        Some(Steadiness::Moving(deployment)) if deploy.wait => Some(Way::Await(deployment)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::steps::Attributes;
    use crate::steps::ecs::sandbox::Written;

    fn service(state: &str, running: i64, desired: i64) -> Service {
        serde_json::from_value(json!({
            "desiredCount": desired,
            "deploymentConfiguration": {
                "maximumPercent": 200, "minimumHealthyPercent": 100, "strategy": "ROLLING",
                "deploymentCircuitBreaker": { "enable": true, "rollback": true, "resetOnHealthyTask": true },
            },
            "deployments": [
                { "id": "a", "status": "PRIMARY", "rolloutState": state, "runningCount": running, "desiredCount": desired },
                { "id": "b", "status": "ACTIVE", "rolloutState": "FAILED" },
            ],
        }))
        .unwrap()
    }

    fn deploy(settings: Written) -> Deploy {
        let settings = settings.with("cluster", "c").with("service", "s");
        Deploy::read(&settings.ready(), &Attributes::default()).unwrap()
    }

    fn way(service: &Service, settings: Written, moves: bool) -> Option<Way> {
        let deploy = deploy(settings);
        decide(service, &deploy, moves, &Configuration::of(service, &deploy))
    }

    #[test]
    fn nothing_is_sent_that_was_not_asked_for() {
        let nothing = Update::default();
        let plain = Written::default;
        let steady = service("COMPLETED", 2, 2);
        assert_eq!(way(&steady, plain(), false), None);
        assert_eq!(way(&steady, plain().with("desired", 2), false), None, "the number is right");
        let update = |update| Some(Way::Update(update));
        assert_eq!(way(&steady, plain(), true), update(Update { moves: true, ..nothing.clone() }));
        let forced = update(Update { force: true, ..nothing.clone() });
        assert_eq!(way(&steady, plain().with("force", true), false), forced);
        let scaled = update(Update { desired: Some(3), ..nothing.clone() });
        assert_eq!(way(&steady, plain().with("desired", 3), false), scaled);
        assert_eq!(way(&service("FAILED", 0, 2), plain(), false), forced, "the last deployment failed");
        let moving = service("IN_PROGRESS", 1, 2);
        assert!(matches!(way(&moving, plain(), false), Some(Way::Await(_))));
        assert_eq!(way(&moving, plain().with("wait", false), false), None);
        assert!(
            matches!(way(&service("COMPLETED", 1, 2), plain(), false), Some(Way::Await(_))),
            "a task is missing"
        );
        assert_eq!(way(&service("COMPLETED", 0, 0), plain(), false), None);
        let started = update(Update { desired: Some(2), ..nothing });
        assert_eq!(way(&service("COMPLETED", 0, 0), plain().with("desired", 2), false), started);
    }

    #[test]
    fn a_configuration_keeps_what_was_not_asked_for() {
        let service = service("COMPLETED", 2, 2);
        let changed = Configuration::of(&service, &deploy(Written::default().with("circuit-breaker", false)));
        assert_eq!(
            changed.wanted.unwrap(),
            json!({
                "maximumPercent": 200, "minimumHealthyPercent": 100, "strategy": "ROLLING",
                "deploymentCircuitBreaker": { "enable": false, "rollback": false, "resetOnHealthyTask": true },
            })
        );
        assert!(!changed.breaker);
        let same = Configuration::of(&service, &deploy(Written::default().with("min-healthy", 100)));
        assert_eq!((same.wanted, same.changes.len(), same.breaker), (None, 0, true));
        let stuck = Configuration::of(&service, &deploy(Written::default().with("max-percent", 100)));
        assert!(stuck.is_stuck(2) && !stuck.is_stuck(0));
        assert!(!same_with(&service, 50).is_stuck(2));
    }

    fn same_with(service: &Service, min_healthy: i64) -> Configuration {
        let settings = Written::default().with("max-percent", 100).with("min-healthy", min_healthy);
        Configuration::of(service, &deploy(settings))
    }
}
