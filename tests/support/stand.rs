//! What stands in the sandbox after runs of the shop, and how often each thing was done there.
//!
//! Counted at the resources, not at flow: revisions of task definitions,
//! versions of objects (the bucket keeps them all), invalidations, rows of the
//! migrations' history. What was done twice shows here whoever asked for it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::shop::{SERVICES, Shop};

/// The bucket of the site.
const BUCKET: &str = "shop-sandbox-site";

/// What answers, and how often each thing was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stand {
    /// What each service answers as its version.
    pub versions: BTreeMap<String, String>,
    /// How many revisions each service's family has.
    pub revisions: BTreeMap<String, usize>,
    /// Each object of the site: its bytes and its `cache-control`.
    pub site: BTreeMap<String, (String, String)>,
    /// How many versions each key of the site ever had; delete markers count.
    pub writes: BTreeMap<String, usize>,
    /// How many invalidations the distribution saw.
    pub invalidations: usize,
    /// The applied migrations, and how many tables there are.
    pub migrations: Vec<String>,
    /// How many images each repository has.
    pub images: BTreeMap<String, usize>,
}

impl Stand {
    /// As it is now.
    pub(crate) fn of(shop: &Shop) -> Self {
        let sandbox = &shop.sandbox;
        let mut stand = Self::default();
        for service in SERVICES {
            let answer = shop.ask(service);
            stand.versions.insert(service.to_owned(), answer["version"].as_str().unwrap().to_owned());
            let family = format!("shop-sandbox-{service}");
            let revisions = sandbox.count(
                "AmazonEC2ContainerServiceV20141113.ListTaskDefinitions",
                json!({ "familyPrefix": family }),
                "taskDefinitionArns",
            );
            stand.revisions.insert(service.to_owned(), revisions);
            let images = sandbox.count(
                "AmazonEC2ContainerRegistry_V20150921.DescribeImages",
                json!({ "repositoryName": format!("shop-{service}") }),
                "imageDetails",
            );
            stand.images.insert(service.to_owned(), images);
        }
        let listed = sandbox.rest("GET", &format!("/{BUCKET}?list-type=2"), &[], b"");
        for key in listed.elements("Key") {
            let object = sandbox.rest("GET", &format!("/{BUCKET}/{key}"), &[], b"");
            stand.site.insert(key, (object.text(), object.header("cache-control").to_owned()));
        }
        // A listing ends after a thousand versions: one for each key reaches further.
        let versions = sandbox.rest("GET", &format!("/{BUCKET}?versions"), &[], b"");
        for key in versions.elements("Key").into_iter().collect::<BTreeSet<_>>() {
            let versions = sandbox.rest("GET", &format!("/{BUCKET}?versions&prefix={key}"), &[], b"");
            let count = versions.elements("Key").iter().filter(|found| **found == key).count();
            stand.writes.insert(key, count);
        }
        stand.invalidations = invalidation_ids(shop).1.len();
        stand.migrations =
            sandbox.rows("select version || ' ' || description from _sqlx_migrations order by version");
        stand.migrations.extend(
            sandbox
                .rows("select 'table ' || tablename from pg_tables where schemaname = 'public' order by 1"),
        );
        stand
    }
}

/// The paths of every invalidation of the distribution.
pub(crate) fn invalidations(shop: &Shop) -> Vec<Vec<String>> {
    let (base, ids) = invalidation_ids(shop);
    let paths = |id: &String| {
        let mut paths = shop.sandbox.rest("GET", &format!("{base}/{id}"), &[], b"").elements("Path");
        paths.sort();
        paths
    };
    ids.iter().map(paths).collect()
}

/// Where the invalidations of the distribution are asked for, and their ids.
fn invalidation_ids(shop: &Shop) -> (String, Vec<String>) {
    let all = shop.sandbox.rest("GET", "/2020-05-31/distribution", &[], b"");
    let distribution = all.elements("Id").into_iter().next().unwrap();
    let base = format!("/2020-05-31/distribution/{distribution}/invalidation");
    let listed = shop.sandbox.rest("GET", &format!("{base}?MaxItems=10000"), &[], b"");
    assert_eq!(listed.elements("IsTruncated"), ["false"]);
    let ids = listed.elements("Id");
    (base, ids)
}
