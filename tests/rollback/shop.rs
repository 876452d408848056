//! The sample shop goes back: services, site, invalidation; migrations stay and are named.

use serde_json::json;

use super::fails_at_the_end;
use crate::support::shop::Shop;
use crate::support::stand::{Stand, invalidations};

/// Deploy A, deploy B (a service, the site's page and an expand migration), back to A.
#[test]
fn the_shop_goes_back_to_what_it_was() {
    let shop = Shop::deployed();
    let a = Stand::of(&shop);
    let definitions = shop.task_definitions();
    shop.change(1);
    shop.run(&[]).exits(0).says("release 2\n");
    let b = Stand::of(&shop);
    assert_ne!((&a.versions, &a.site), (&b.versions, &b.site));

    shop.back(&["--check"]).exits(0).prints("rollback-ready: release 1");
    let plan = shop.back(&["--dry-run"]).exits(0).prints("back to release 1");
    println!("{}", plan.out);
    assert_eq!(Stand::of(&shop), b, "neither changes anything");

    let ran = shop.back(&["--to", "1", "--incident", "1m"]).exits(0).says("back to release 1");
    println!("{}", ran.err);
    assert!(ran.err.contains("healthy again 1m"), "{}", ran.err);
    let back = Stand::of(&shop);
    assert_eq!((&back.versions, &back.site), (&a.versions, &a.site));
    assert_eq!(shop.task_definitions(), definitions, "the recorded revisions, no new ones");
    assert_eq!((&back.revisions, &back.images), (&b.revisions, &b.images), "nothing is registered or built");
    assert_eq!(back.migrations, b.migrations, "an expand migration stays");
    assert!(plan.out.contains("0101_note") || plan.out.contains("note"), "and is named: {}", plan.out);
    assert_eq!(back.invalidations, b.invalidations + 1);
    assert!(invalidations(&shop).iter().any(|paths| *paths == ["/", "/index.html"]));

    // And forward again: what was left is still there.
    shop.run(&[]).exits(0);
    assert_eq!(Stand::of(&shop).versions, b.versions);
}

#[test]
fn what_a_rollback_of_the_shop_would_miss_is_found_beforehand() {
    let shop = Shop::deployed();
    let old = shop.task_definition("api");
    let described = shop.sandbox.ecs("DescribeTaskDefinition", &json!({ "taskDefinition": old }));
    let image = described["taskDefinition"]["containerDefinitions"][0]["image"].as_str().unwrap().to_owned();
    shop.change(1);
    shop.run(&[]).exits(0);
    shop.back(&["--check"]).exits(0);

    // The definition can be registered again as long as it is only inactive.
    shop.sandbox.ecs("DeregisterTaskDefinition", &json!({ "taskDefinition": old }));
    shop.back(&["--check"]).exits(0);

    let digest = image.split_once('@').unwrap().1;
    shop.sandbox.json(
        "AmazonEC2ContainerRegistry_V20150921.BatchDeleteImage",
        &json!({ "repositoryName": "shop-api", "imageIds": [{ "imageDigest": digest }] }),
    );
    let ran = shop.back(&["--check"]).exits(5).prints("not rollback-ready");
    println!("{}", ran.out);
    assert!(ran.out.contains("service[api]") && ran.out.contains(&digest[7..19]), "{}", ran.out);
    shop.back(&[]).exits(1);

    // The page's older version is gone.
    let listed = shop.sandbox.rest("GET", "/shop-sandbox-site?versions&prefix=index.html", &[], b"");
    let oldest = listed.elements("VersionId").pop().unwrap();
    shop.sandbox.rest("DELETE", &format!("/shop-sandbox-site/index.html?versionId={oldest}"), &[], b"");
    let ran = shop.back(&["--check"]).exits(5);
    println!("{}", ran.out);
    assert!(ran.out.contains("site") && ran.out.contains("index.html"), "{}", ran.out);

    // A contract migration in between.
    shop.project.write(
        "tests/fixtures/shop/backend/migrations/0900_drop.sql",
        "-- flow: contract\nalter table item drop column name;\n",
    );
    shop.commit("contract");
    shop.run(&["--only", "schema"]).exits(0);
    let ran = shop.back(&["--check", "--to", "1"]).exits(5);
    println!("{}", ran.out);
    assert!(ran.out.contains("schema") && ran.out.contains("0900_drop"), "{}", ran.out);
}

#[test]
fn nothing_goes_back_past_a_contract_migration() {
    let shop = Shop::deployed();
    shop.change(1);
    shop.project.write(
        "tests/fixtures/shop/backend/migrations/0900_drop.sql",
        "-- flow: contract\nalter table item drop column name;\n",
    );
    fails_at_the_end(&shop);
    let ran = shop
        .run(&[])
        .exits(8)
        .says("not all of it was undone")
        .says("0900_drop.sql")
        .says("Because of it these stay too")
        .says("There is no way back to release 1: 0900_drop.sql is a contract migration");
    assert!(!ran.err.contains("flow rollback"), "what would be refused is not offered:\n{}", ran.err);
    assert_eq!(shop.ask("api")["version"], "2.0.1", "the code that was made for the new schema");
    shop.back(&["--check", "--to", "1"]).exits(5).prints("0900_drop.sql");
}

#[test]
fn a_failed_deploy_of_the_shop_ends_where_it_began() {
    let shop = Shop::deployed();
    let before = Stand::of(&shop);
    let definitions = shop.task_definitions();
    shop.change(1);
    fails_at_the_end(&shop);
    let ran = shop.run(&[]).exits(9).says("its changes were taken back");
    println!("{}", ran.err);
    let after = Stand::of(&shop);
    assert_eq!((&after.versions, &after.site), (&before.versions, &before.site));
    assert_eq!(shop.task_definitions(), definitions);
    assert_eq!(after.invalidations, before.invalidations + 2, "one for the page, one for the way back");
    assert!(ran.err.contains("schema: "), "{}", ran.err);
}

/// That a deregistered revision has to be registered again is said. (The sandbox keeps deleted ones:
/// what is said of those is a matter of the kind's own tests.)
#[test]
fn a_task_definition_that_somebody_deregistered_is_named_beforehand() {
    let shop = Shop::deployed();
    let first = Stand::of(&shop);
    let old = shop.task_definition("api");
    shop.change(1);
    shop.run(&[]).exits(0);
    let ready = shop.back(&["--check"]).exits(0);
    assert!(!ready.out.contains("registered"), "{}", ready.out);

    shop.sandbox.ecs("DeregisterTaskDefinition", &json!({ "taskDefinition": old }));
    let note = "shop-sandbox-api:2 was deregistered: it is registered again as shop-sandbox-api:4";
    shop.back(&["--check"]).exits(0).prints("rollback-ready").prints(&format!("service[api]  {note}"));
    shop.back(&["--dry-run"]).exits(0).prints("warning: shop-sandbox-api:2 was deregistered");
    shop.back(&[]).exits(0);
    assert_eq!(Stand::of(&shop).versions, first.versions);
    assert!(shop.task_definition("api").ends_with("shop-sandbox-api:4"), "as it was said");
}
