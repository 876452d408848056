//! The settings of `s3-copy`, read once.

use globset::GlobMatcher;

use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::names::EnvName;
use crate::model::settings::{Head, Ready, Setting, Shape, Unready};
use crate::steps::s3_sync::back;
use crate::steps::s3_sync::headers::glob;
use crate::steps::s3_sync::target::Target;
use crate::steps::{Attributes, Back, Kind, Step};

/// The kind.
pub(in crate::steps) static KIND: Kind = Kind {
    spec: KindSpec {
        name: "s3-copy",
        about: "Copies objects from one bucket to another, inside S3, between accounts too.",
        settings: &[
            Setting::new(
                "from",
                Shape::Node {
                    head: Head::Text("`s3://BUCKET` or `s3://BUCKET/PREFIX`"),
                    many: false,
                    fields: &[Setting::new(
                        "environment",
                        Shape::Text,
                        "The environment in whose account the bucket is read; the step's own without.",
                    )
                    .environment()],
                },
                "Where the objects are.",
            )
            .required(),
            Setting::new("to", Shape::Text, "Where they go: `s3://BUCKET` or `s3://BUCKET/PREFIX`.")
                .required()
                .target(),
            Setting::new("include", Shape::Texts, "Globs relative to `from`: only these; all without."),
            Setting::new("exclude", Shape::Texts, "Globs relative to `from`: not these."),
            Setting::new("reason", Shape::Text, "Why; stands in the plan, the journal and the release."),
        ],
        rules: &[],
        outputs: OutputNames::Fixed(&["changed-paths", "copied", "objects", "bytes"]),
        nature: Nature::Deploying,
        aws: true,
        repeatable: true,
    },
    make,
    back: Back::To(back::back),
};

/// What a step is asked to do.
#[derive(Debug)]
pub(super) struct S3Copy {
    /// Where the objects are.
    pub from: Target,
    /// In whose account they are read; the step's own without.
    pub from_environment: Option<EnvName>,
    /// Where they go.
    pub to: Target,
    /// Empty: all.
    pub include: Vec<GlobMatcher>,
    /// Not these.
    pub exclude: Vec<GlobMatcher>,
    /// For people.
    pub reason: Option<String>,
}

fn make(ready: &Ready, _: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let invalid = |setting: &'static str| move |why: String| Unready::Invalid { setting, why };
    let node = ready.node("from").ok_or_else(|| invalid("from")("it is not given".to_owned()))?;
    let from = Target::parse(&node.name("from")?).map_err(invalid("from"))?;
    let from_environment = node.settings.opt_text("environment")?.map(EnvName::new);
    let to = Target::parse(&ready.text("to")?).map_err(invalid("to"))?;
    if from_environment.is_none() && from.bucket == to.bucket {
        let inside = from.prefix.starts_with(&to.prefix) || to.prefix.starts_with(&from.prefix);
        if inside {
            return Err(invalid("to")(format!("{to} and {from} lie in one another")));
        }
    }
    let globs = |setting: &'static str| -> Result<Vec<GlobMatcher>, Unready> {
        ready.texts(setting)?.iter().map(|text| glob(text).map_err(invalid(setting))).collect()
    };
    Ok(Box::new(S3Copy {
        from,
        from_environment,
        to,
        include: globs("include")?,
        exclude: globs("exclude")?,
        reason: ready.opt_text("reason")?.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::Value;
    use crate::steps::sandbox::Settings;

    #[test]
    fn a_place_is_not_copied_into_itself() {
        for (from, to, fine) in [
            ("s3://dev/a", "s3://prod/a", true),
            ("s3://dev/a", "s3://dev/b", true),
            ("s3://dev/a", "s3://dev/ab", true),
            ("s3://dev/a", "s3://dev/a", false),
            ("s3://dev/a", "s3://dev/a/b", false),
            ("s3://dev", "s3://dev/b", false),
            ("https://dev", "s3://dev/b", false),
        ] {
            let ready = Settings::default()
                .nodes("from", vec![(Value::text(from), Settings::default())])
                .one("to", to)
                .ready();
            assert_eq!(make(&ready, &Attributes::default()).is_ok(), fine, "{from} {to}");
        }
    }
}
