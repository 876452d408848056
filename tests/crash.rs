//! A run that dies anywhere goes on as if it had not.
//!
//! Each scenario is run once without a crash to count its points: before and
//! after every write to the journal and the store, every call to AWS, to the
//! registry, to the engine and to the database. Then it is run and killed at a
//! point, gone on with `flow resume`, and what stands is compared with what the
//! run without a crash left. How often things were done is counted at the
//! resources. Which points are tried: `support::crash`.

use std::time::Instant;

use crate::support::crash::{self, Went, sample};
use crate::support::shop::Shop;
use crate::support::stand::Stand;

/// How often one run may be resumed: it dies once, so twice would already be one too many.
const RESUMES: usize = 2;

impl Shop {
    /// Runs `flow` until it dies at the n-th point; false when it ended well before that.
    #[track_caller]
    fn dies_at(&self, point: usize, arguments: &[&str]) -> bool {
        match self.project.dies_at(point, arguments) {
            Went::Died => true,
            Went::Ended(ran) => {
                ran.exits(0);
                false
            }
        }
    }

    /// Runs `flow` to its end and counts the points it passes.
    #[track_caller]
    fn counts(&self, arguments: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("points");
        self.project.lists(&list, arguments).exits(0);
        crash::read(&list)
    }

    /// Goes on with the newest run; where none had begun, does what was asked once more.
    #[track_caller]
    fn goes_on(&self, arguments: &[&str], what: &str) {
        let newest = self.project.newest_run();
        if newest["outcome"] == "interrupted" {
            let run = newest["id"].as_str().unwrap();
            for _ in 0..RESUMES {
                let ran = self.project.run(&["resume", run]);
                if ran.code == Some(0) {
                    return;
                }
                println!("{what}: resume ended with {:?}\n{}", ran.code, ran.err);
            }
            panic!("{what}: the run could not be resumed");
        }
        self.project.run(arguments).exits(0);
    }
}

/// Says how far the enumeration got.
fn tell(scenario: &str, points: &[String], tried: usize, died: usize, began: Instant) {
    let mut kinds: Vec<&String> = points.iter().collect();
    kinds.sort();
    kinds.dedup();
    println!(
        "{scenario}: {} points of {} kinds; {tried} runs, of which {died} died and went on; {:.0?}",
        points.len(),
        kinds.len(),
        began.elapsed()
    );
}

const DEPLOY: [&str; 4] = ["run", "deploy", "--env", "sandbox"];
const BACK: [&str; 6] = ["rollback", "deploy", "--env", "sandbox", "--to", "1"];

#[test]
fn a_first_deployment_that_dies_anywhere_goes_on_to_the_same_end() {
    let began = Instant::now();
    let mut shop = Shop::new();
    let points = shop.counts(&DEPLOY);
    let expected = Stand::of(&shop);
    let (mut tried, mut died) = (0, 0);
    for point in sample(points.len()) {
        shop = shop.again();
        tried += 1;
        if shop.dies_at(point, &DEPLOY) {
            died += 1;
            shop.goes_on(&DEPLOY, &format!("cold, point {point}, {}", points[point - 1]));
        }
        let stand = Stand::of(&shop);
        assert_eq!(stand, expected, "killed at point {point}, {}", points[point - 1]);
        is_settled(&shop, point, &points);
    }
    tell("cold deployment", &points, tried, died, began);
    assert!(died > 0, "no run died: nothing was tried");
}

/// Nothing is left to do, and the last release is a good one.
#[track_caller]
fn is_settled(shop: &Shop, point: usize, points: &[String]) {
    let name = points.get(point - 1).map_or("", String::as_str);
    assert_eq!(shop.plan(&[]).changing(), [""; 0], "killed at point {point}, {name}");
    let releases = shop.project.run(&["releases", "--env", "sandbox", "--json"]).exits(0).json();
    assert_eq!(releases["releases"][0]["failed"], false, "killed at point {point}, {name}: {releases:#}");
}

/// What one change does, and nothing twice: one revision, one image, one write of the page, one
/// invalidation, one migration.
#[track_caller]
fn did_once(before: &Stand, after: &Stand, number: usize, what: &str) {
    assert_eq!(after.versions["api"], format!("2.0.{number}"), "{what}");
    assert_eq!(after.versions["worker"], before.versions["worker"], "{what}");
    let mut revisions = before.revisions.clone();
    *revisions.get_mut("api").unwrap() += 1;
    assert_eq!(after.revisions, revisions, "{what}");
    let mut images = before.images.clone();
    *images.get_mut("api").unwrap() += 1;
    assert_eq!(after.images, images, "{what}");
    let mut writes = before.writes.clone();
    *writes.get_mut("index.html").unwrap() += 1;
    assert_eq!(after.writes, writes, "{what}");
    assert!(after.site["index.html"].0.contains(&format!("<!-- build {number} -->")), "{what}");
    assert_eq!(after.invalidations, before.invalidations + 1, "{what}");
    let mut migrations = before.migrations.clone();
    migrations.push(format!("{} note", 100 + number));
    migrations.push(format!("table note_{number}"));
    migrations.sort();
    let mut now = after.migrations.clone();
    now.sort();
    assert_eq!(now, migrations, "{what}");
}

#[test]
fn a_change_that_dies_anywhere_goes_on_to_the_same_end() {
    let began = Instant::now();
    let shop = Shop::deployed();
    let mut before = Stand::of(&shop);
    shop.change(0);
    let points = shop.counts(&DEPLOY);
    let mut after = Stand::of(&shop);
    did_once(&before, &after, 0, "without a crash");
    let (mut tried, mut died) = (0, 0);
    for (at, point) in sample(points.len()).into_iter().enumerate() {
        let what = format!("change, point {point}, {}", points[point - 1]);
        before = after;
        shop.change(at + 1);
        shop.proxy.forget();
        tried += 1;
        if shop.dies_at(point, &DEPLOY) {
            died += 1;
            shop.goes_on(&DEPLOY, &what);
        }
        after = Stand::of(&shop);
        did_once(&before, &after, at + 1, &what);
        assert_eq!(shop.proxy.count("ecs:UpdateService"), 1, "{what}");
        is_settled(&shop, point, &points);
    }
    tell("change", &points, tried, died, began);
    assert!(died > 0, "no run died: nothing was tried");
}

#[test]
fn a_rollback_that_dies_anywhere_goes_on_to_the_same_end() {
    let began = Instant::now();
    let (shop, first, points) = went_back();
    let (mut tried, mut died) = (0, 0);
    for (at, point) in sample(points.len()).into_iter().enumerate() {
        let what = format!("rollback, point {point}, {}", points[point - 1]);
        shop.change(at + 1);
        shop.run(&[]).exits(0);
        let before = Stand::of(&shop);
        shop.proxy.forget();
        tried += 1;
        if shop.dies_at(point, &BACK) {
            died += 1;
            shop.goes_on(&BACK, &what);
        }
        let after = Stand::of(&shop);
        is_back(&first, &after, &what);
        assert_eq!(after.revisions, before.revisions, "{what}: going back registers nothing");
        assert_eq!(after.images, before.images, "{what}");
        assert_eq!(after.migrations, before.migrations, "{what}: migrations stay");
        assert_eq!(after.writes["index.html"], before.writes["index.html"] + 1, "{what}");
        assert_eq!(after.invalidations, before.invalidations + 1, "{what}");
        assert_eq!(shop.proxy.count("ecs:UpdateService"), 1, "{what}");
    }
    tell("rollback", &points, tried, died, began);
    assert!(died > 0, "no run died: nothing was tried");
}

#[test]
fn a_rollback_that_dies_once_its_release_is_recorded_goes_on_from_what_it_began_from() {
    let (shop, first, points) = went_back();
    // The release is the last that is created; what a rollback writes is the same each time.
    let created = points.iter().rposition(|point| point == "store.create.after").unwrap();
    let written = points.iter().enumerate().skip(created).filter(|(_, name)| !name.starts_with("aws."));
    // A write that dies half-way leaves a temporary file, which is no release.
    let is_release = |name: &&String| !name.contains("/.tmp");
    let releases = || shop.project.files(".flow/store/releases").keys().filter(is_release).count();
    let died = written.take(4).any(|(point, name)| {
        let nth = points[..=point].iter().filter(|earlier| *earlier == name).count();
        let what = format!("the {nth}. {name}");
        shop.change(point);
        shop.run(&[]).exits(0);
        let before = releases();
        let died = matches!(shop.project.dies_at_the(nth, name, &BACK), Went::Died);
        let recorded = died && releases() > before && shop.project.newest_run()["outcome"] == "interrupted";
        if died {
            shop.goes_on(&BACK, &what);
        }
        is_back(&first, &Stand::of(&shop), &what);
        assert_eq!(releases(), before + 1, "{what}: recorded once");
        recorded
    });
    assert!(died, "no run died between its release and its end: {points:#?}");
}

/// A shop that was changed and went back to its first release, how that stands, and the points that
/// the rollback passed.
#[track_caller]
fn went_back() -> (Shop, Stand, Vec<String>) {
    let shop = Shop::deployed();
    let first = Stand::of(&shop);
    shop.change(0);
    shop.run(&[]).exits(0);
    let points = shop.counts(&BACK);
    is_back(&first, &Stand::of(&shop), "without a crash");
    (shop, first, points)
}

/// Services and site are the first release's again, byte for byte.
#[track_caller]
fn is_back(first: &Stand, now: &Stand, what: &str) {
    assert_eq!(now.versions, first.versions, "{what}");
    assert_eq!(now.site, first.site, "{what}");
}
