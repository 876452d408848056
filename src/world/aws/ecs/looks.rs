//! One `DescribeServices` for all who ask at the same moment.
//!
//! The steps of a run look at their services together: when the plan is made,
//! and again right before their effects. Whoever asks waits for its turn; who
//! has it asks for itself and, in the same request, for up to nine others of its
//! cluster that wait. Nobody gets the answer to a request that was sent before
//! it asked, so each look is as fresh as one of its own.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{Found, SERVICES_PER_CALL, Service, last_part};
use crate::world::aws::{AwsError, AwsErrorClass};

/// A service; `None` when the cluster has none of that name.
type Look = Result<Option<Service>, AwsError>;

/// Of one account and region.
#[derive(Debug, Default)]
pub struct ServiceLooks {
    /// Who asks right now.
    turn: tokio::sync::Mutex<()>,
    waiting: Mutex<Vec<Waiting>>,
}

/// Somebody who is asked for by whoever has the turn next.
#[derive(Debug)]
struct Waiting {
    cluster: String,
    service: String,
    /// Dropped without an answer: ask alone.
    answer: oneshot::Sender<Look>,
}

impl ServiceLooks {
    /// Looks at a service; `ask` describes services of the cluster by name, at most ten.
    pub(super) async fn look<F>(&self, cluster: &str, service: &str, ask: impl Fn(Vec<String>) -> F) -> Look
    where
        F: Future<Output = Result<Found, AwsError>>,
    {
        let (answer, mut told) = oneshot::channel();
        let mine = Waiting { cluster: cluster.to_owned(), service: service.to_owned(), answer };
        self.waiting().push(mine);
        let turn = tokio::select! {
            biased;
            told = &mut told => return match told {
                Ok(look) => look,
                Err(_) => alone(service, ask).await,
            },
            turn = self.turn.lock() => turn,
        };
        let (names, others) = self.batch(cluster, service);
        let is_shared = names.len() > 1;
        let look = match ask(names).await {
            Ok(found) => {
                for other in others {
                    // Somebody who was stopped meanwhile no longer wants it.
                    let _ = other.answer.send(Ok(named(&found, &other.service)));
                }
                Ok(named(&found, service))
            }
            // One name that is wrong, or that the caller may not ask for, spoils the answer for all.
            Err(error) if is_shared && is_about_a_name(&error) => {
                drop(others);
                drop(turn);
                return alone(service, ask).await;
            }
            Err(error) => {
                for other in others {
                    let _ = other.answer.send(Err(error.clone()));
                }
                Err(error)
            }
        };
        drop(turn);
        look
    }

    /// The names to ask for, that service first, and who else waits for them.
    fn batch(&self, cluster: &str, service: &str) -> (Vec<String>, Vec<Waiting>) {
        let mut names = vec![service.to_owned()];
        let (mut taken, mut rest) = (Vec::new(), Vec::new());
        let mut waiting = self.waiting();
        for one in waiting.drain(..).filter(|one| !one.answer.is_closed()) {
            let listed = names.contains(&one.service);
            if one.cluster != cluster || (!listed && names.len() == SERVICES_PER_CALL) {
                rest.push(one);
                continue;
            }
            if !listed {
                names.push(one.service.clone());
            }
            taken.push(one);
        }
        *waiting = rest;
        (names, taken)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn alone<F>(service: &str, ask: impl Fn(Vec<String>) -> F) -> Look
where
    F: Future<Output = Result<Found, AwsError>>,
{
    Ok(named(&ask(vec![service.to_owned()]).await?, service))
}

fn named(found: &Found, service: &str) -> Option<Service> {
    found.services.iter().find(|one| one.service_name == last_part(service)).cloned()
}

/// Whether the same request without one of its names might have been answered.
fn is_about_a_name(error: &AwsError) -> bool {
    matches!(error.class, AwsErrorClass::Denied | AwsErrorClass::NotFound | AwsErrorClass::Refused)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    /// An ECS that answers only when it is allowed to, and has every service but `none`.
    struct Cluster {
        looks: ServiceLooks,
        asked: Mutex<Vec<Vec<String>>>,
        answers: Semaphore,
        refuses: Option<(&'static str, AwsErrorClass)>,
    }

    impl Cluster {
        fn new(refuses: Option<(&'static str, AwsErrorClass)>) -> Arc<Self> {
            let (looks, asked, answers) = (ServiceLooks::default(), Mutex::default(), Semaphore::new(0));
            Arc::new(Self { looks, asked, answers, refuses })
        }

        fn look(self: &Arc<Self>, cluster: &'static str, service: String) -> tokio::task::JoinHandle<Look> {
            let this = Arc::clone(self);
            tokio::spawn(
                async move { this.looks.look(cluster, &service, |names| this.describe(names)).await },
            )
        }

        async fn describe(&self, names: Vec<String>) -> Result<Found, AwsError> {
            self.asked.lock().unwrap().push(names.clone());
            self.answers.acquire().await.unwrap().forget();
            if let Some((_, class)) = self.refuses.filter(|(name, _)| names.iter().any(|one| one == name)) {
                let (service, operation) = ("ECS", "DescribeServices");
                let message = "no".to_owned();
                return Err(AwsError { service, operation, class, code: None, message, request_id: None });
            }
            let there = names.into_iter().filter(|name| name != "none");
            let services = there.map(|service_name| Service { service_name, ..Service::default() });
            Ok(Found { services: services.collect(), missed: Vec::new() })
        }

        fn requests(&self) -> Vec<usize> {
            self.asked.lock().unwrap().iter().map(Vec::len).collect()
        }

        /// Until that many wait behind the one that asks.
        async fn wait_for(&self, requests: usize, waiting: usize) {
            while self.asked.lock().unwrap().len() < requests || self.looks.waiting().len() < waiting {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn those_who_ask_meanwhile_are_answered_by_the_next_request_ten_at_a_time() {
        let ecs = Cluster::new(None);
        let first = ecs.look("shop", "first".to_owned());
        ecs.wait_for(1, 0).await;
        let mut others: Vec<_> =
            (0..11).map(|n| (format!("s{n}"), ecs.look("shop", format!("s{n}")))).collect();
        others.push(("s0".to_owned(), ecs.look("shop", "s0".to_owned())));
        let none = ecs.look("shop", "none".to_owned());
        let elsewhere = ecs.look("other", "first".to_owned());
        ecs.wait_for(1, 14).await;
        ecs.answers.add_permits(100);

        assert_eq!(first.await.unwrap().unwrap().unwrap().service_name, "first");
        for (name, look) in others {
            assert_eq!(look.await.unwrap().unwrap().unwrap().service_name, name);
        }
        assert!(none.await.unwrap().unwrap().is_none());
        assert_eq!(elsewhere.await.unwrap().unwrap().unwrap().service_name, "first");
        let mut requests = ecs.requests();
        requests.sort_unstable();
        assert_eq!(requests, [1, 1, 2, 10], "the first, the other cluster's, and twelve names");
    }

    #[tokio::test]
    async fn nobody_is_answered_by_a_request_that_was_sent_before_it_asked() {
        let ecs = Cluster::new(None);
        let first = ecs.look("shop", "api".to_owned());
        ecs.wait_for(1, 0).await;
        let second = ecs.look("shop", "api".to_owned());
        ecs.wait_for(1, 1).await;
        ecs.answers.add_permits(1);
        first.await.unwrap().unwrap();
        ecs.wait_for(2, 0).await;
        assert!(!second.is_finished(), "it waits for a request of its own");
        ecs.answers.add_permits(1);
        second.await.unwrap().unwrap();
        assert_eq!(ecs.requests(), [1, 1]);
    }

    #[tokio::test]
    async fn a_name_that_is_refused_spoils_nobody_elses_look() {
        for (class, others) in
            [(AwsErrorClass::Denied, true), (AwsErrorClass::Refused, true), (AwsErrorClass::Throttled, false)]
        {
            let ecs = Cluster::new(Some(("theirs", class)));
            let first = ecs.look("shop", "first".to_owned());
            ecs.wait_for(1, 0).await;
            let looks: Vec<_> = ["theirs", "api", "web"].map(|name| ecs.look("shop", name.to_owned())).into();
            ecs.wait_for(1, 3).await;
            ecs.answers.add_permits(100);
            first.await.unwrap().unwrap();
            let mut answered = Vec::new();
            for look in looks {
                answered.push(look.await.unwrap().is_ok());
            }
            assert_eq!(answered, [false, others, others], "{class:?}");
        }
    }

    #[tokio::test]
    async fn whoever_stops_asking_leaves_the_others_their_answer() {
        let ecs = Cluster::new(None);
        let first = ecs.look("shop", "first".to_owned());
        ecs.wait_for(1, 0).await;
        let looks: Vec<_> = ["a", "b", "c"].map(|name| ecs.look("shop", name.to_owned())).into();
        ecs.wait_for(1, 3).await;
        // The one that waits, and the one that asks.
        looks[1].abort();
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        ecs.answers.add_permits(100);
        for (number, look) in looks.into_iter().enumerate() {
            assert_eq!(look.await.is_ok(), number != 1);
        }
        let asked: BTreeSet<String> = ecs.asked.lock().unwrap().iter().flatten().cloned().collect();
        assert_eq!(asked.into_iter().collect::<Vec<_>>(), ["a", "c", "first"]);
    }
}
