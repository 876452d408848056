//! `flow run deploy --env sandbox`: the sample shop, really deployed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::shop::{SERVICES, Shop};
use super::support::stand::invalidations;
use super::support::visitor::Visitor;

/// The files that the front end's build made, as URL paths.
fn made(shop: &Shop) -> Vec<String> {
    let dist = shop.project.path("tests/fixtures/shop/frontend/dist");
    let mut paths = Vec::new();
    for folder in ["", "assets/"] {
        for entry in std::fs::read_dir(dist.join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                paths.push(format!("/{folder}{}", entry.file_name().display()));
            }
        }
    }
    paths.sort();
    paths
}

/// The last path of a task definition's ARN: `shop-sandbox-api:2`.
fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap()
}

/// The image that a task definition names.
fn image(shop: &Shop, definition: &str) -> String {
    let answer = shop.sandbox.ecs("DescribeTaskDefinition", &json!({ "taskDefinition": definition }));
    answer["taskDefinition"]["containerDefinitions"][0]["image"].as_str().unwrap().to_owned()
}

/// Registers what a service runs once more, changed, and makes it run that: somebody by hand.
fn change_by_hand(shop: &Shop, service: &str, change: impl FnOnce(&mut Value)) -> String {
    let now = json!({ "taskDefinition": shop.task_definition(service) });
    let mut definition = shop.sandbox.ecs("DescribeTaskDefinition", &now)["taskDefinition"].take();
    for member in
        ["taskDefinitionArn", "revision", "status", "registeredAt", "registeredBy", "compatibilities"]
    {
        definition.as_object_mut().unwrap().remove(member);
    }
    change(&mut definition);
    let registered = shop.sandbox.ecs("RegisterTaskDefinition", &definition);
    let arn = registered["taskDefinition"]["taskDefinitionArn"].as_str().unwrap().to_owned();
    let name = format!("shop-sandbox-{service}");
    let update = json!({ "cluster": "shop-sandbox", "service": name, "taskDefinition": arn });
    shop.sandbox.ecs("UpdateService", &update);
    arn
}

#[test]
fn a_first_deployment_ends_with_what_runs_now() {
    let shop = Shop::new();
    let began = Instant::now();
    let ran = shop.run(&[]).exits(0);
    println!("cold: {:.1?}", began.elapsed());
    println!("{}", ran.err);

    // The last lines are the answer: addresses, digests and revisions.
    let ending: Vec<&str> = ran.err.lines().rev().take_while(|line| !line.contains('✓')).collect();
    let row = |name: &str| {
        let mut rows = ending.iter().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.find(|words| words.first() == Some(&name)).unwrap_or_else(|| panic!("no {name}:\n{}", ran.err))
    };
    assert_eq!(row("API"), ["API", &format!("{}/_alb/shop-sandbox", shop.sandbox.endpoint)]);
    assert!(row("Site").contains(&"s3://shop-sandbox-site"), "{}", ran.err);
    for service in SERVICES {
        let definition = shop.task_definition(service);
        let image = image(&shop, &definition);
        // Digests are shown by their first twelve digits.
        let digest = &image.split_once('@').unwrap().1[.."sha256:".len() + 12];
        assert_eq!(row(service), [service, short(&definition), digest]);
        assert_eq!(shop.ask(service)["version"], "1.0.0");
        assert_eq!(shop.ask(service)["service"], service);
    }
    assert!(ran.err.contains("release 1\n"), "{}", ran.err);
    assert!(ran.err.lines().all(|line| line.chars().count() <= 80), "{}", ran.err);

    // The site, with its headers.
    for path in made(&shop) {
        let object = shop.sandbox.rest("GET", &format!("/shop-sandbox-site{path}"), &[], b"");
        let (kind, cache) = match path.rsplit('.').next().unwrap() {
            "html" => ("text/html; charset=utf-8", "no-cache"),
            "js" => ("text/javascript; charset=utf-8", "public, max-age=31536000, immutable"),
            "css" => ("text/css; charset=utf-8", "public, max-age=31536000, immutable"),
            "svg" => ("image/svg+xml", ""),
            _ => ("text/plain; charset=utf-8", ""),
        };
        assert_eq!((object.header("content-type"), object.header("cache-control")), (kind, cache), "{path}");
        let file = format!("tests/fixtures/shop/frontend/dist{path}");
        assert_eq!(object.text(), shop.project.read(&file), "{path}");
    }

    // Every path is new to the distribution, and index.html stands for its folder too.
    let mut expected = made(&shop);
    assert_eq!(expected.len(), 5);
    expected.push("/".to_owned());
    expected.sort();
    assert_eq!(invalidations(&shop), [expected]);

    let migrations =
        shop.sandbox.rows("select version || ' ' || description from _sqlx_migrations order by 1");
    assert_eq!(migrations, ["1 catalog", "2 orders"]);
    assert_eq!(shop.sandbox.rows("select name from item order by 1"), ["chair", "lamp"]);
}

#[test]
fn history_tells_what_was_deployed() {
    let shop = Shop::deployed();
    let releases = shop.project.run(&["releases", "--env", "sandbox", "--json"]).exits(0).json();
    assert_eq!(releases["version"], 1);
    assert_eq!(releases["releases"].as_array().unwrap().len(), 2, "{releases:#}");
    assert_eq!(releases["releases"][1]["adopted"], true, "what was there before: {releases:#}");
    assert_eq!(releases["releases"][0]["id"], 1, "{releases:#}");

    let runs = shop.project.run(&["runs", "--json"]).exits(0).json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1, "{runs:#}");
    let run = runs["runs"][0]["id"].as_str().unwrap();
    assert_eq!(releases["releases"][0]["run"], run);

    shop.project.run(&["log", run]).exits(0).prints("image[api]");
    shop.project.run(&["log", run, "service[api]"]).exits(0).prints("shop-sandbox-api:2");
}

#[test]
fn a_second_run_finds_everything_up_to_date_and_changes_nothing() {
    let shop = Shop::deployed();
    let before = (shop.task_definitions(), invalidations(&shop));
    for _ in 0..2 {
        shop.proxy.forget();
        let began = Instant::now();
        let ran = shop.run(&[]).exits(0).says("release 1");
        println!("nothing to do: {:.1?}, {} calls\n{}", began.elapsed(), shop.proxy.calls().len(), ran.err);
        assert_eq!(shop.proxy.effects(), [""; 0]);
        // The counts above see the proxy only because everything goes through it.
        for asked in ["sts:GetCallerIdentity", "ecs:DescribeServices", "ecr:BatchGetImage"] {
            assert!(shop.proxy.count(asked) > 0, "{asked} is not among {:?}", shop.proxy.calls());
        }
    }
    assert_eq!((shop.task_definitions(), invalidations(&shop)), before);
    let plan = shop.plan(&[]);
    assert_eq!(plan.changing(), [""; 0]);
    assert_eq!(plan.0["digest"], shop.plan(&[]).0["digest"], "same world, same digest");
}

#[test]
fn one_changed_line_rolls_one_service_and_no_visitor_notices() {
    let shop = Shop::deployed();
    let [api, catalog, worker] = shop.task_definitions();
    shop.set_version("catalog", "1.1.0");
    let plan = shop.plan(&[]);
    assert_eq!(plan.changing(), ["compile[catalog]", "image[catalog]", "service[catalog]"]);
    assert_eq!(plan.step("service[catalog]")["subject"], "shop-sandbox-catalog:2 → :3");

    shop.proxy.forget();
    let visitor = Visitor::start(&shop.sandbox.service_url("catalog"), Duration::from_millis(50));
    let began = Instant::now();
    let ran = shop.run(&[]).exits(0);
    println!("one change: {:.1?}\n{}", began.elapsed(), ran.err);
    let visits = visitor.stop();
    println!("{} visits, slowest {:.0?}", visits.asked, visits.slowest);

    assert_eq!(visits.failed, [""; 0]);
    assert_eq!(visits.versions, ["1.0.0", "1.1.0"]);
    assert_eq!(shop.ask("catalog")["version"], "1.1.0");
    assert_eq!(shop.ask("api")["version"], "1.0.0");
    let [api_after, catalog_after, worker_after] = shop.task_definitions();
    assert_eq!((&api, &worker), (&api_after, &worker_after));
    assert_eq!(short(&catalog), "shop-sandbox-catalog:2");
    assert_eq!(short(&catalog_after), "shop-sandbox-catalog:3");
    let mut effects = shop.proxy.effects();
    effects.retain(|effect| !effect.contains(" /v2/shop-catalog/"));
    let expected = ["ecr:PutImage", "ecs:RegisterTaskDefinition", "ecs:UpdateService"];
    assert_eq!(effects, expected, "besides the push of one image: its second tag, and the roll");
    assert_eq!(shop.plan(&[]).changing(), [""; 0]);

    // A commit that touches nothing of the shop gives its images a further tag, and nothing rolls.
    shop.commit("catalog 1.1.0");
    let plan = shop.plan(&[]);
    assert_eq!(plan.changing(), [""; 0], "a further tag is upkeep");
    shop.proxy.forget();
    shop.run(&[]).exits(0);
    let effects = shop.proxy.effects();
    assert!(effects.iter().all(|effect| effect == "ecr:PutImage"), "{effects:?}");
    assert_eq!(shop.task_definitions(), [api_after, catalog_after, worker_after]);
    assert_eq!(shop.plan(&[]).changing(), [""; 0]);
}

#[test]
fn without_a_release_a_selection_says_what_to_add() {
    let shop = Shop::new();
    shop.run(&["--only", "frontend"]).exits(2).says("edge needs base, which is not selected").says("--only");
    shop.run(&["--skip", "schema"]).exits(2).says("needs schema, which is not selected");
    shop.run(&["--only", "bakend"]).exits(2).says("did you mean backend?");
    assert_eq!(shop.proxy.effects(), [""; 0]);
}

#[test]
fn a_selection_stands_on_the_last_release() {
    let shop = Shop::deployed();
    let of_services = |names: &[&str]| -> Vec<String> {
        names.iter().flat_map(|name| SERVICES.map(|service| format!("{name}[{service}]"))).collect()
    };

    let mut backend = vec!["go".to_owned()];
    backend.extend(of_services(&["compile", "image"]));
    backend.push("schema".to_owned());
    backend.extend(of_services(&["service", "healthy"]));
    backend.push("summary".to_owned());
    let plan = shop.plan(&["--only", "backend"]);
    assert_eq!(plan.steps(), backend, "all of the group, the gate, and finally");
    assert_eq!(plan.taken_from_release(), [""; 0]);

    let plan = shop.plan(&["--only", "frontend"]);
    assert_eq!(plan.steps(), ["go", "bundle", "site", "edge", "summary"]);
    assert_eq!(plan.taken_from_release(), ["base"], "edge reads the distribution's id");

    let plan = shop.plan(&["--only", "image[api]"]);
    assert_eq!(plan.steps(), ["go", "compile[api]", "image[api]", "summary"], "what makes files is done");

    let plan = shop.plan(&["--only", "service[api],service[worker]"]);
    assert_eq!(plan.steps(), ["go", "service[api]", "service[worker]", "summary"]);
    assert_eq!(plan.taken_from_release(), ["image[api]", "image[worker]", "schema"]);

    let plan = shop.plan(&["--skip", "schema"]);
    assert!(!plan.steps().contains(&"schema".to_owned()));
    assert_eq!(plan.taken_from_release(), ["schema"]);

    // A change of both halves: only the selected one is made.
    shop.set_version("api", "1.2.0");
    shop.edit("tests/fixtures/shop/frontend/src/robots.txt", "Allow: /", "Disallow: /");
    shop.proxy.forget();
    shop.run(&["--only", "frontend"]).exits(0).says("site").says("release 2");
    assert_eq!(shop.proxy.count("s3:PutObject"), 1);
    assert_eq!(shop.proxy.count("ecs:"), 0);
    let robots_alone = vec!["/robots.txt".to_owned()];
    assert!(invalidations(&shop).contains(&robots_alone), "{:?}", invalidations(&shop));
    assert_eq!(shop.ask("api")["version"], "1.0.0");
    assert_eq!(shop.plan(&[]).changing(), ["compile[api]", "image[api]", "service[api]"]);

    // An image alone does not roll its service; the release then has the image, not yet the service.
    shop.run(&["--only", "image[api]"]).exits(0);
    assert_eq!(shop.ask("api")["version"], "1.0.0");
    assert_eq!(shop.plan(&[]).changing(), ["service[api]"]);
    shop.run(&["--only", "service[api]"]).exits(0);
    assert_eq!(shop.ask("api")["version"], "1.2.0");
    assert_eq!(shop.plan(&[]).changing(), [""; 0]);
}

#[test]
fn a_gate_in_front_is_never_lost() {
    let shop = Shop::new();
    // A gate that always stands, in an environment that anybody may answer for.
    shop.edit(
        "flows/deploy.kdl",
        "        when \"env.protected\"\n        count 1\n        from \"group:ops\"\n",
        "",
    );
    let base = ["--only", "base"];
    let plan = shop.plan(&base);
    assert_eq!(plan.steps(), ["go", "base", "summary"]);
    assert_eq!(plan.step("go")["action"], "run");
    let read = shop.proxy.effects();
    assert_eq!(read, [""; 0], "a new stack is planned from its template");

    shop.run(&base).exits(3).says("go");
    assert_eq!(shop.proxy.effects(), [""; 0], "nothing behind the gate was done");
    shop.run(&["--skip", "go"]).exits(2).says("go is a gate and cannot be skipped");
    shop.run(&["--only", "base", "--skip", "go"]).exits(2).says("go is a gate and cannot be skipped");

    // Nobody is asked about what only makes files.
    shop.run(&["--only", "bundle"]).exits(0);
    shop.run(&["--only", "base", "--yes"]).exits(0).says("base");
    assert_eq!(shop.proxy.count("cloudformation:ExecuteChangeSet"), 1);
    shop.proxy.forget();

    // Nobody answers for a protected environment with a flag.
    shop.edit("flows/project.kdl", "region \"us-east-1\"", "region \"us-east-1\"\n    protected #true");
    shop.edit("tests/fixtures/shop/infrastructure/base.yaml", "Default: 14", "Default: 30");
    shop.run(&["--only", "base", "--yes"]).exits(3).says("go");
    shop.run(&["--only", "base", "--skip", "go", "--yes"]).exits(2);
    let executed = shop.proxy.count("cloudformation:ExecuteChangeSet");
    assert_eq!(executed, 0, "a plan of a stack that exists makes a change set and deletes it again");
}

#[test]
fn what_was_changed_by_hand_is_named_and_put_right() {
    let shop = Shop::deployed();
    let [api, ..] = shop.task_definitions();

    let by_hand = b"User-agent: nobody\n";
    shop.sandbox.rest("PUT", "/shop-sandbox-site/robots.txt", &[("Content-Type", "text/plain")], by_hand);
    let plan = shop.plan(&[]);
    assert_eq!(plan.changing(), ["site", "edge"]);
    let changes = plan.step("site")["changes"].as_array().unwrap().clone();
    assert_eq!(changes.len(), 1, "{changes:#?}");
    assert_eq!(changes[0]["what"], "robots.txt");
    shop.proxy.forget();
    shop.run(&[]).exits(0);
    assert_eq!(shop.proxy.count("s3:PutObject"), 1);
    let robots = shop.sandbox.rest("GET", "/shop-sandbox-site/robots.txt", &[], b"");
    assert_eq!(robots.text(), "User-agent: *\nAllow: /\n");
    let robots_alone = vec!["/robots.txt".to_owned()];
    assert!(invalidations(&shop).contains(&robots_alone), "{:?}", invalidations(&shop));

    // Another image in the task definition: a difference, and put right.
    let (own, other) = (image(&shop, &api), image(&shop, &shop.task_definition("worker")));
    let digest = |image: &str| image.split_once('@').unwrap().1[..19].to_owned();
    let arn = change_by_hand(&shop, "api", |definition| {
        definition["containerDefinitions"][0]["image"] = json!(other);
    });
    let plan = shop.plan(&[]);
    assert_eq!(plan.changing(), ["service[api]"]);
    let step = plan.step("service[api]");
    assert_eq!(step["changes"], json!([{ "what": "image", "from": digest(&other), "to": digest(&own) }]));
    assert!(step["warnings"].to_string().contains(short(&arn)), "{step:#}");
    shop.run(&[]).exits(0);
    assert_eq!(image(&shop, &shop.task_definition("api")), own);
    assert_eq!(shop.ask("api")["service"], "api");
    assert_eq!(shop.plan(&[]).changing(), [""; 0]);

    // More memory, which the file leaves to whoever set it: no difference, but not passed over.
    let arn = change_by_hand(&shop, "api", |definition| definition["memory"] = json!("1024"));
    let plan = shop.plan(&[]);
    assert!(plan.step("service[api]")["warnings"].to_string().contains(short(&arn)), "{:#}", plan.0);
}
