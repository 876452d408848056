//! What a flow file says of a deploy, read once.

use std::time::Duration;

use super::state::State;
use crate::model::settings::{GivenNode, Ready, Unready};
use crate::model::value::{Field, Value};
use crate::steps::Attributes;
use crate::steps::ecs::definition::ContainerEdit;
use crate::steps::ecs::patience::limit;
use crate::steps::ecs::settings::{at_least, open_text};

/// An `ecs-deploy` step.
#[derive(Clone, Debug)]
pub(super) struct Deploy {
    pub(super) cluster: String,
    pub(super) service: String,
    pub(super) containers: Vec<ContainerEdit>,
    pub(super) base: Base,
    pub(super) desired: Option<i64>,
    pub(super) force: bool,
    pub(super) circuit_breaker: Option<bool>,
    pub(super) min_healthy: Option<i64>,
    pub(super) max_percent: Option<i64>,
    pub(super) wait: bool,
    /// How long everything may take.
    pub(super) limit: Duration,
    /// In a rollback, what was recorded; nothing else is asked for then.
    pub(super) goal: Option<Goal>,
}

/// From where to where a rollback goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Goal {
    /// What was recorded last; absent when nothing was.
    pub(super) now: Option<State>,
    /// The state to return to.
    pub(super) to: State,
}

/// Where the wanted definition starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// What the service runs.
    Running,
    /// `family:N` or an ARN.
    Revision(String),
    /// A JSON file, relative to the project root.
    File(String),
}

impl Deploy {
    pub(super) fn read(ready: &Ready, attributes: &Attributes) -> Result<Self, Unready> {
        Ok(Self {
            cluster: ready.text("cluster")?,
            service: ready.text("service")?,
            containers: ready.nodes("container").iter().map(container).collect::<Result<_, _>>()?,
            base: ready.opt_text("task-definition")?.map_or(Base::Running, Base::of),
            desired: at_least("desired", 0, ready.int("desired")?)?,
            force: ready.flag("force")?,
            circuit_breaker: ready.opt_flag("circuit-breaker")?,
            min_healthy: at_least("min-healthy", 0, ready.int("min-healthy")?)?,
            max_percent: at_least("max-percent", 1, ready.int("max-percent")?)?,
            wait: ready.opt_flag("wait")?.unwrap_or(true),
            limit: limit(attributes.timeout),
            goal: None,
        })
    }

    /// The way back to a recorded state.
    pub(super) fn back(goal: Goal) -> Self {
        let Goal { now, to } = &goal;
        let scaled = to.scaled || now.as_ref().is_some_and(|now| now.scaled);
        Self {
            cluster: to.cluster.clone(),
            service: to.service.clone(),
            containers: Vec::new(),
            base: Base::Revision(to.task_definition.clone()),
            desired: scaled.then_some(to.desired),
            force: false,
            circuit_breaker: None,
            min_healthy: None,
            max_percent: None,
            wait: true,
            limit: limit(None),
            goal: Some(goal),
        }
    }
}

impl Base {
    fn of(text: String) -> Self {
        let numbered = text.rsplit_once(':').is_some_and(|(_, revision)| {
            !revision.is_empty() && revision.bytes().all(|b| b.is_ascii_digit())
        });
        if numbered { Self::Revision(text) } else { Self::File(text) }
    }
}

fn container(node: &GivenNode<Field<Value>>) -> Result<ContainerEdit, Unready> {
    let settings = &node.settings;
    let mut edit = ContainerEdit { name: node.name("container")?, ..ContainerEdit::default() };
    edit.image = settings.field("image").map(image).transpose()?;
    edit.command = settings.texts("command")?;
    edit.cpu = at_least("cpu", 0, settings.int("cpu")?)?;
    edit.memory = at_least("memory", 4, settings.int("memory")?)?;
    for (name, value) in settings.map("env") {
        edit.env.push((name.clone(), open_text("env", name, value)?));
    }
    for secret in settings.nodes("secret") {
        let name = secret.name("secret")?;
        let from = secret
            .settings
            .field("from")
            .ok_or_else(|| Unready::Invalid { setting: "secret", why: format!("{name} has no from") })?;
        edit.secrets.push((name.clone(), open_text("secret", &name, from)?));
    }
    if let Some((name, _)) =
        edit.secrets.iter().find(|(name, _)| edit.env.iter().any(|(other, _)| other == name))
    {
        return Err(Unready::Invalid {
            setting: "secret",
            why: format!("{name} is in env, too; a variable is one or the other"),
        });
    }
    Ok(edit)
}

/// Only digests: a tag may name other bytes when ECS starts the next task.
fn image(field: &Field<Value>) -> Result<Field<String>, Unready> {
    let image = open_text("image", "image", field)?;
    if let Field::Known(text) = &image
        && !text.rsplit_once("@sha256:").is_some_and(|(name, hex)| !name.is_empty() && hex.len() == 64)
    {
        return Err(Unready::Invalid {
            setting: "image",
            why: format!(
                "\"{text}\" is not pinned: a tag may move between two tasks; \
                 write the uri of a docker-build step, or REPOSITORY@sha256:DIGEST"
            ),
        });
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::StepId;
    use crate::model::secret::Secret;
    use crate::steps::ecs::sandbox::Written;

    fn read(container: Written) -> Result<Deploy, Unready> {
        let step = Written::default().with("cluster", "c").with("service", "s");
        Deploy::read(&step.node("container", "api", container).ready(), &Attributes::default())
    }

    fn refused(container: Written) -> String {
        read(container).unwrap_err().to_string()
    }

    #[test]
    fn what_everybody_could_read_or_could_move_is_refused() {
        let secret = |head: &str, from: &str| {
            Written::default().node("secret", head, Written::default().with("from", from))
        };
        let hidden = Written::default().map("env", &[("URL", Value::Secret(Secret::new("postgres://")))]);
        let words = refused(hidden);
        assert!(words.starts_with("env: URL is a secret"), "{words}");
        assert!(words.ends_with("write secret \"URL\" from=\"ARN\""), "{words}");
        for image in ["shop", "shop:v1", "shop@sha256:12", "@sha256:", "127.0.0.1:4566/shop:v1"] {
            let words = refused(Written::default().with("image", image));
            assert!(words.contains("is not pinned"), "{image}: {words}");
        }
        assert_eq!(
            refused(secret("K", "arn").env(&[("K", "1")])),
            "secret: K is in env, too; a variable is one or the other"
        );
        assert_eq!(refused(Written::default().with("memory", 0)), "memory: 0 is less than 4");

        let image = format!("127.0.0.1:4566/shop:v1@sha256:{}", "a".repeat(64));
        let deploy = read(secret("K", "arn:k").with("image", image.as_str())).unwrap();
        assert_eq!(deploy.containers[0].image, Some(Field::Known(image)));
        assert_eq!(deploy.containers[0].secrets, [("K".to_owned(), Field::Known("arn:k".to_owned()))]);
        let later = Field::After(StepId::parse("image[api]"));
        let deploy = read(Written::default().field("image", later)).unwrap();
        assert!(matches!(deploy.containers[0].image, Some(Field::After(_))));
    }

    #[test]
    fn a_base_is_a_revision_or_a_file() {
        let table = [
            ("shop:41", Base::Revision("shop:41".to_owned())),
            (
                "arn:aws:ecs:r:1:task-definition/shop:41",
                Base::Revision("arn:aws:ecs:r:1:task-definition/shop:41".to_owned()),
            ),
            ("ecs/task.json", Base::File("ecs/task.json".to_owned())),
        ];
        for (text, base) in table {
            assert_eq!(Base::of(text.to_owned()), base);
        }
    }
}
