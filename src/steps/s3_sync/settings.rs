//! The settings of `s3-sync`, read once.

use globset::GlobMatcher;

use super::back;
use super::compare::{Deletion, Share};
use super::headers::{Rule, glob};
use super::target::Target;
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::settings::{GivenNode, Head, Ready, Setting, Shape, Unready};
use crate::model::value::{Field, Value};
use crate::steps::{Attributes, Back, Kind, Step};

/// The kind.
pub static KIND: Kind = Kind {
    spec: KindSpec {
        name: "s3-sync",
        about: "Makes a bucket hold what a folder holds, by content, in a safe order.",
        settings: &[
            Setting::new("from", Shape::Path { reads: true }, "The folder with the built site.").required(),
            Setting::new("to", Shape::Text, "Where it goes: `s3://BUCKET` or `s3://BUCKET/PREFIX`.")
                .required()
                .target(),
            Setting::new(
                "rule",
                Shape::Node {
                    head: Head::Text("a glob relative to `from`"),
                    many: true,
                    fields: &[
                        Setting::new("cache-control", Shape::Text, "The header of matching files."),
                        Setting::new("content-type", Shape::Text, "Instead of what the file's name tells."),
                        Setting::new(
                            "content-encoding",
                            Shape::Text,
                            "For files that are already compressed.",
                        ),
                    ],
                },
                "Headers of the files a glob matches; of several rules the last one that names a header wins.",
            ),
            Setting::new(
                "delete",
                Shape::Node {
                    head: Head::Bool,
                    many: false,
                    fields: &[
                        Setting::new(
                            "keep-releases",
                            Shape::Int,
                            "An object goes only when so many releases before this one do not have it either.",
                        ),
                        Setting::new(
                            "max-share",
                            Shape::Text,
                            "Refuse to delete more than this share of the objects; \"30%\" unless given, and then \
                             ten objects are never too many.",
                        ),
                    ],
                },
                "Whether objects that the folder does not have are deleted.",
            ),
            Setting::new(
                "exclude",
                Shape::Texts,
                "Globs relative to `from`: neither sent nor, in the bucket, deleted.",
            ),
        ],
        rules: &[],
        outputs: OutputNames::Fixed(&["changed-paths", "uploaded", "deleted", "bytes"]),
        nature: Nature::Deploying,
        aws: true,
        repeatable: true,
    },
    make,
    back: Back::To(back::back),
};

/// What a step is asked to do.
#[derive(Debug)]
pub(super) struct S3Sync {
    /// The folder.
    pub from: String,
    /// Where it goes.
    pub target: Target,
    /// In order of writing.
    pub rules: Vec<Rule>,
    /// Left alone on both sides.
    pub exclude: Vec<GlobMatcher>,
    /// `None`: nothing is deleted.
    pub deletion: Option<Deletion>,
}

fn make(ready: &Ready, _: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let invalid = |setting| move |why| Unready::Invalid { setting, why };
    let from = ready.text("from")?;
    if from.starts_with("s3://") {
        let why = "a bucket cannot be the source yet; give a folder".to_owned();
        return Err(Unready::Invalid { setting: "from", why });
    }
    let exclude = ready.texts("exclude")?;
    Ok(Box::new(S3Sync {
        from,
        target: Target::parse(&ready.text("to")?).map_err(invalid("to"))?,
        rules: ready.nodes("rule").iter().map(rule).collect::<Result<_, _>>()?,
        exclude: exclude
            .iter()
            .map(|pattern| glob(pattern))
            .collect::<Result<_, _>>()
            .map_err(invalid("exclude"))?,
        deletion: ready.node("delete").map(deletion).transpose()?.flatten(),
    }))
}

fn rule(node: &GivenNode<Field<Value>>) -> Result<Rule, Unready> {
    let files = glob(&node.name("rule")?).map_err(|why| Unready::Invalid { setting: "rule", why })?;
    Ok(Rule {
        files,
        content_type: node.settings.opt_text("content-type")?,
        cache_control: node.settings.opt_text("cache-control")?,
        content_encoding: node.settings.opt_text("content-encoding")?,
    })
}

fn deletion(node: &GivenNode<Field<Value>>) -> Result<Option<Deletion>, Unready> {
    let invalid = |setting, why: &str| Unready::Invalid { setting, why: why.to_owned() };
    let keep_releases = usize::try_from(node.settings.int("keep-releases")?.unwrap_or(0))
        .map_err(|_| invalid("keep-releases", "a number from 0 is expected"))?;
    let share = match node.settings.opt_text("max-share")? {
        None => Share::Usual,
        Some(text) => text
            .trim()
            .strip_suffix('%')
            .and_then(|number| number.parse().ok())
            .filter(|percent| *percent <= 100)
            .map(Share::Percent)
            .ok_or_else(|| invalid("max-share", "a share such as \"30%\" is expected"))?,
    };
    Ok(node.is_on("delete")?.then_some(Deletion { keep_releases, share }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::sandbox::Settings;

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let given = |from: &str, to: &str, share: Option<&str>| {
            let fields =
                share.map_or_else(Settings::default, |share| Settings::default().one("max-share", share));
            let settings = Settings::default().one("from", from).one("to", to);
            settings.nodes("delete", vec![(Value::Bool(true), fields)]).ready()
        };
        for (ready, wanted) in [
            (given("dist", "s3://shop", Some("30%")), None),
            (given("dist", "s3://shop", None), None),
            (given("s3://other", "s3://shop", None), Some("from")),
            (given("dist", "shop", None), Some("to")),
            (given("dist", "s3://shop", Some("0.3")), Some("max-share")),
            (given("dist", "s3://shop", Some("130%")), Some("max-share")),
        ] {
            let refused = make(&ready, &Attributes::default()).err().map(|unready| match unready {
                Unready::Invalid { setting, .. } | Unready::After { setting, .. } => setting,
            });
            assert_eq!(refused, wanted);
        }
    }

    #[test]
    fn deletion_is_off_unless_asked_for() {
        let node = |on: bool| GivenNode {
            head: Some(Field::Known(Value::Bool(on))),
            settings: Settings::default().one("keep-releases", 3).ready(),
        };
        assert_eq!(deletion(&node(false)), Ok(None));
        let kept = deletion(&node(true)).expect("read");
        assert_eq!(kept, Some(Deletion { keep_releases: 3, share: Share::Usual }));
    }
}
