//! One poll for all services that are waited for.
//!
//! Whoever needs a fresher look than the last one asks for itself and, in the
//! same request, for up to nine others of its cluster that are waited for.
//! The others then find what they need without asking. So a run of forty
//! services costs four requests a round, and there is no task to look after.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Ecs, SERVICES_PER_CALL, Service};
use crate::world::aws::{AwsError, AwsErrorClass};
use crate::world::clock::{Clock, Moment};

/// Of one account and region.
#[derive(Debug, Default)]
pub struct ServicePoller {
    /// Who asks right now; the others wait and look at what it brings.
    turn: tokio::sync::Mutex<()>,
    followed: Mutex<BTreeMap<Key, Followed>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    cluster: String,
    service: String,
}

#[derive(Debug, Default)]
struct Followed {
    /// How many wait for it.
    followers: usize,
    seen: Option<(Moment, Look)>,
}

/// A service at one moment; `None` when the cluster has none of that name.
type Look = Option<Arc<Service>>;

/// While this lives, the service is part of every poll of its cluster.
#[derive(Debug)]
pub struct Following<'a> {
    poller: &'a ServicePoller,
    key: Key,
}

impl ServicePoller {
    /// Starts waiting for a service.
    pub fn follow(&self, cluster: &str, service: &str) -> Following<'_> {
        let key = Key { cluster: cluster.to_owned(), service: service.to_owned() };
        self.followed().entry(key.clone()).or_default().followers += 1;
        Following { poller: self, key }
    }

    fn followed(&self) -> MutexGuard<'_, BTreeMap<Key, Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last look, unless it is older than that.
    fn last(&self, key: &Key, max_age: Duration) -> Option<Look> {
        let followed = self.followed();
        let (when, look) = followed.get(key)?.seen.as_ref()?;
        (when.elapsed() < max_age).then(|| look.clone())
    }

    /// The service and those of its cluster whose last look is oldest.
    fn batch(&self, key: &Key) -> Vec<String> {
        let followed = self.followed();
        let mut others: Vec<_> = followed
            .iter()
            .filter(|(other, _)| other.cluster == key.cluster && *other != key)
            .map(|(other, state)| {
                (state.seen.as_ref().map_or(Duration::MAX, |(when, _)| when.elapsed()), &other.service)
            })
            .collect();
        others.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
        let others = others.into_iter().map(|(_, service)| service.clone());
        std::iter::once(key.service.clone()).chain(others).take(SERVICES_PER_CALL).collect()
    }
}

impl Following<'_> {
    /// The service as it was at most `max_age` ago; `None` when there is none of that name.
    pub async fn look(&self, ecs: Ecs<'_>, max_age: Duration) -> Result<Look, AwsError> {
        let _turn = self.poller.turn.lock().await;
        if let Some(look) = self.poller.last(&self.key, max_age) {
            return Ok(look);
        }
        let names = self.poller.batch(&self.key);
        let asked = Clock.moment();
        let found = ecs.services(&self.key.cluster, &names).await?;
        // Anything else than "there is none" says nothing about the service.
        let mine = |missed: &&super::Missed| {
            super::last_part(&missed.arn) == super::last_part(&self.key.service) && missed.reason != "MISSING"
        };
        if let Some(missed) = found.missed.iter().find(mine) {
            return Err(AwsError {
                service: "ECS",
                operation: "DescribeServices",
                class: AwsErrorClass::Unclear,
                code: None,
                message: format!("{}: {} {}", missed.arn, missed.reason, missed.detail),
                request_id: None,
            });
        }
        let mut looks: BTreeMap<String, Arc<Service>> = found
            .services
            .into_iter()
            .map(|service| (service.service_name.clone(), Arc::new(service)))
            .collect();
        let mut followed = self.poller.followed();
        for name in names {
            let look = looks.remove(super::last_part(&name));
            let key = Key { cluster: self.key.cluster.clone(), service: name };
            if let Some(state) = followed.get_mut(&key) {
                state.seen = Some((asked, look));
            }
        }
        Ok(followed.get(&self.key).and_then(|state| state.seen.as_ref()).and_then(|(_, look)| look.clone()))
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        let mut followed = self.poller.followed();
        if let Some(state) = followed.get_mut(&self.key) {
            state.followers = state.followers.saturating_sub(1);
            if state.followers == 0 {
                followed.remove(&self.key);
            }
        }
    }
}
