//! Every call that changes something is answered into the void once: AWS did it, flow never hears
//! of it. The run still ends right, and nothing is done twice.

use std::collections::BTreeMap;

use crate::support::proxy::{Fault, Which};
use crate::support::shop::Shop;
use crate::support::stand::Stand;

/// The calls of one run that change something: name without what differs from run to run, and how
/// many there were.
fn mutating(effects: &[String]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for call in effects {
        *found.entry(family(call)).or_default() += 1;
    }
    found
}

/// `registry:PUT /v2/shop-api/manifests/1a2b` belongs to `registry:PUT /v2/shop-api/manifests/`.
fn family(call: &str) -> String {
    match call.split_once(' ') {
        Some((method, path)) if call.starts_with("registry:") => {
            let known = ["manifests/", "blobs/uploads/"];
            let at = known.iter().find_map(|part| path.find(part).map(|at| at + part.len()));
            format!("{method} {}", &path[..at.unwrap_or(path.len())])
        }
        Some((method, _)) => format!("{method} "),
        None => call.to_owned(),
    }
}

#[test]
fn a_change_survives_the_loss_of_any_one_answer() {
    let shop = Shop::deployed();
    shop.change(0);
    shop.proxy.forget();
    shop.run(&[]).exits(0);
    let calls = mutating(&shop.proxy.effects());
    println!("calls that change something: {calls:?}");
    assert!(calls.len() >= 4, "{calls:?}");

    let mut number = 0;
    for (call, times) in &calls {
        for nth in 1..=*times {
            number += 1;
            let what = format!("the answer to call {nth} of {call} was lost");
            let before = Stand::of(&shop);
            shop.change(number);
            shop.proxy.forget();
            shop.proxy.clear_rules();
            shop.proxy.rule(call, Which::Nth(nth), Fault::LoseAnswer);
            let ran = shop.run(&[]);
            assert_eq!(ran.code, Some(0), "{what}\n{}", ran.err);
            let after = Stand::of(&shop);
            assert_eq!(after.versions["api"], format!("2.0.{number}"), "{what}");
            assert!(after.site["index.html"].0.contains(&format!("<!-- build {number} -->")), "{what}");
            assert_eq!(after.revisions["api"], before.revisions["api"] + 1, "{what}");
            assert_eq!(after.images["api"], before.images["api"] + 1, "{what}");
            assert_eq!(after.writes["index.html"], before.writes["index.html"] + 1, "{what}");
            assert_eq!(after.invalidations, before.invalidations + 1, "{what}");
            assert_eq!(after.migrations.len(), before.migrations.len() + 2, "{what}");
            assert_eq!(shop.proxy.count("ecs:UpdateService"), 1, "{what}");
            shop.proxy.clear_rules();
        }
    }
    println!("{number} answers were lost, one in each run");
    assert_eq!(shop.plan(&[]).changing(), [""; 0]);
}

#[test]
fn a_first_deployment_survives_the_loss_of_each_kind_of_answer() {
    let mut shop = Shop::new();
    shop.run(&[]).exits(0);
    let expected = Stand::of(&shop);
    let calls = mutating(&shop.proxy.effects());
    let only_cold = ["cloudformation:CreateChangeSet", "cloudformation:ExecuteChangeSet"];
    for call in only_cold {
        assert!(calls.contains_key(call), "{calls:?}");
        // On the same sandbox: the site names its address, and so do the names of its files.
        shop = shop.again();
        shop.proxy.rule(call, Which::Nth(1), Fault::LoseAnswer);
        let ran = shop.run(&[]);
        assert_eq!(ran.code, Some(0), "the answer to {call} was lost\n{}", ran.err);
        assert_eq!(Stand::of(&shop), expected, "the answer to {call} was lost");
    }
}
