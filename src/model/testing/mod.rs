//! A table of kinds, and files to check, for the tests of the language.

use crate::model::decode::decode;
use crate::model::kind::{KindSpec, Nature, OutputNames, Rule};
use crate::model::project::Project;
use crate::model::settings::{Head, Setting, Shape};
use crate::syntax::parse::parse;
use crate::syntax::problem::Problems;
use crate::syntax::source::{Source, Sources};

/// The example of the contract.
pub const PROJECT: &str = include_str!("project.kdl");
/// The flow of the contract, with `cfn-deploy` as infrastructure.
pub const DEPLOY: &str = include_str!("deploy.kdl");

const fn new(name: &'static str, shape: Shape) -> Setting {
    Setting::new(name, shape, "as the manual says")
}

const fn kind(name: &'static str, nature: Nature, settings: &'static [Setting]) -> KindSpec {
    KindSpec {
        name,
        about: "",
        settings,
        rules: &[],
        outputs: OutputNames::Open,
        nature,
        aws: false,
        repeatable: true,
    }
}

static RUN: KindSpec = KindSpec {
    rules: &[Rule::OneOf(&["command", "script"]), Rule::Needs("shell", "script")],
    repeatable: false,
    ..kind(
        "run",
        Nature::Program,
        &[
            new("command", Shape::Texts),
            new("script", Shape::Script),
            new("shell", Shape::Choice(&["sh", "bash"])),
            new("dir", Shape::Path { reads: false }),
            new("stdin", Shape::Text).secret(),
            new("resume", Shape::Choice(&["rerun"])),
        ],
    )
};

static APPROVE: KindSpec = KindSpec {
    outputs: OutputNames::Fixed(&[]),
    ..kind(
        "approve",
        Nature::Gate,
        &[
            new("for", Shape::Text),
            new("from", Shape::Text),
            new("count", Shape::Int),
            new("expires", Shape::Duration),
            new("four-eyes", Shape::Bool),
        ],
    )
};

static DOCKER_BUILD: KindSpec = KindSpec {
    outputs: OutputNames::Fixed(&["uri", "digest", "tag", "hash"]),
    ..kind(
        "docker-build",
        Nature::Deploying,
        &[
            new("context", Shape::Path { reads: true }).required(),
            new("dockerfile", Shape::Path { reads: true }),
            new("target", Shape::Text),
            new("arg", Shape::Map),
            new("secret", Shape::Map).secret(),
            new("platform", Shape::Texts),
            new("repository", Shape::Text).required(),
            new("tag", Shape::Texts),
            new("scan", Shape::Choice(&["critical", "high"])),
        ],
    )
};

static ECS_DEPLOY: KindSpec = kind(
    "ecs-deploy",
    Nature::Deploying,
    &[
        new("cluster", Shape::Text).required().target(),
        new("service", Shape::Text).required().target(),
        new(
            "container",
            Shape::Node {
                head: Head::Text("name"),
                many: true,
                fields: &[
                    new("image", Shape::Text).required(),
                    new("env", Shape::Map),
                    new("command", Shape::Texts),
                    new("cpu", Shape::Int),
                ],
            },
        ),
        new("desired", Shape::Int),
        new("wait", Shape::Bool),
    ],
);

static MIGRATE: KindSpec = KindSpec {
    repeatable: false,
    ..kind(
        "migrate",
        Nature::Deploying,
        &[
            new("dir", Shape::Path { reads: true }).required(),
            new("url", Shape::Text).secret(),
            new("tool", Shape::Choice(&["sqlx", "command"])),
        ],
    )
};

static HTTP_CHECK: KindSpec = kind(
    "http-check",
    Nature::Check,
    &[
        new("url", Shape::Text).required(),
        new("header", Shape::Map).secret(),
        new("expect", Shape::Texts),
        new("within", Shape::Duration),
        new("stable", Shape::Int),
    ],
);

static CFN_DEPLOY: KindSpec = kind(
    "cfn-deploy",
    Nature::Infrastructure,
    &[
        new("stack", Shape::Text).required(),
        new("template", Shape::Path { reads: true }).required(),
        new("parameter", Shape::Map).secret(),
    ],
);

static S3_SYNC: KindSpec = KindSpec {
    outputs: OutputNames::Fixed(&["changed-paths", "uploaded", "deleted", "bytes"]),
    ..kind(
        "s3-sync",
        Nature::Deploying,
        &[
            new("from", Shape::Path { reads: true }).required(),
            new("to", Shape::Text).required(),
            new(
                "rule",
                Shape::Node {
                    head: Head::Text("pattern"),
                    many: true,
                    fields: &[new("cache-control", Shape::Text), new("content-type", Shape::Text)],
                },
            ),
            new(
                "delete",
                Shape::Node {
                    head: Head::Bool,
                    many: false,
                    fields: &[new("keep-releases", Shape::Int), new("max-share", Shape::Text)],
                },
            ),
        ],
    )
};

static INVALIDATE: KindSpec = kind(
    "cloudfront-invalidate",
    Nature::Deploying,
    &[new("distribution", Shape::Text).required(), new("paths", Shape::Texts)],
);

static NOTIFY: KindSpec = kind(
    "notify",
    Nature::Check,
    &[new("webhook", Shape::Text).required().secret(), new("text", Shape::Text), new("field", Shape::Map)],
);

static WAIT: KindSpec = KindSpec {
    rules: &[Rule::OneOf(&["for", "until"])],
    ..kind(
        "wait",
        Nature::Check,
        &[
            new("for", Shape::Duration),
            new(
                "until",
                Shape::Node {
                    head: Head::None,
                    many: false,
                    fields: &[new("command", Shape::Texts).required()],
                },
            ),
        ],
    )
};

static ROLLBACK: KindSpec = KindSpec {
    outputs: OutputNames::Fixed(&[]),
    repeatable: false,
    ..kind(
        crate::model::kind::ROLLBACK,
        Nature::Deploying,
        &[new("flow", Shape::Text).required(), new("only", Shape::Texts), new("to", Shape::Text)],
    )
};

/// The kinds that the examples use, and a few more.
pub static KINDS: [&KindSpec; 12] = [
    &RUN,
    &APPROVE,
    &DOCKER_BUILD,
    &ECS_DEPLOY,
    &MIGRATE,
    &HTTP_CHECK,
    &CFN_DEPLOY,
    &S3_SYNC,
    &INVALIDATE,
    &NOTIFY,
    &WAIT,
    &ROLLBACK,
];

/// Reads files: their paths and texts.
#[must_use]
pub fn load(files: &[(&str, &str)]) -> (Sources, Project, Problems) {
    load_with(files, &KINDS)
}

/// The same with other kinds.
#[must_use]
pub fn load_with(files: &[(&str, &str)], kinds: &[&'static KindSpec]) -> (Sources, Project, Problems) {
    let mut sources = Sources::default();
    let mut trees = Vec::new();
    let mut problems = Problems::default();
    for (path, text) in files {
        let id = sources.add(Source { path: (*path).to_owned(), text: (*text).to_owned() });
        let (nodes, found) = parse(text.as_bytes(), id);
        problems.extend(found);
        trees.push((id, nodes));
    }
    let (project, found) = decode(&trees, kinds);
    problems.extend(found);
    problems.sort();
    (sources, project, problems)
}
