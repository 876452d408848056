//! Why the CLI failed. Every failure has the same exit code, so the text tells.

use serde::Deserialize;
use serde_json::Value as Json;

use super::session::Session;
use crate::steps::{Failure, FailureClass};

/// A line of what the CLI or the program says, as `--json` gives it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Diagnostic {
    pub message: String,
    pub severity: String,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Another apply has the stack, or one that was killed had it; who.
    Locked(Vec<String>),
    /// The program wants something else than the plan.
    Violated(Vec<String>),
    NoStack,
    /// Keys of the configuration that the program requires.
    NoConfig(Vec<String>),
    /// The key to the state's secrets is missing or another one.
    Passphrase,
    NoLogin,
    NoProgram,
    /// A plugin that is not installed.
    NoPlugin(Vec<String>),
    /// The program, or a provider.
    Other(Vec<String>),
}

/// How many lines of an error are shown.
const SHOWN_LINES: usize = 20;

impl Fault {
    /// Reads both outputs; standard output may be a preview's JSON, text, or nothing.
    pub(super) fn of(stdout: &str, stderr: &[String]) -> Self {
        let json = serde_json::from_str::<Json>(stdout).unwrap_or_default();
        let diagnostics: Vec<Diagnostic> =
            serde_json::from_value(json["diagnostics"].clone()).unwrap_or_default();
        let said = diagnostics.iter().filter(|said| said.severity.contains("err"));
        let mut lines: Vec<String> = said.flat_map(|said| lines_of(&said.message)).collect();
        if json.is_null() {
            lines.extend(lines_of(stdout));
        }
        lines.extend(stderr.iter().flat_map(|line| lines_of(line)));
        Self::judge(lines)
    }

    fn judge(lines: Vec<String>) -> Self {
        let says = |text: &str| lines.iter().any(|line| line.contains(text));
        let with = |text: &str| lines.iter().filter(|line| line.contains(text)).cloned().collect::<Vec<_>>();
        if says("the stack is currently locked by") {
            return Self::Locked(with("created by"));
        }
        if says("violates plan") {
            // What follows are values.
            let named =
                |line: String| line.split_once('[').map_or(line.clone(), |(names, _)| names.to_owned());
            return Self::Violated(with("violates plan").into_iter().map(named).collect());
        }
        if says("no stack named") {
            return Self::NoStack;
        }
        // The programs of one language say it, for those of YAML the CLI itself.
        let missing = ["equired configuration", "is missing configuration value"];
        if let Some(said) = missing.into_iter().find(|said| says(said)) {
            return Self::NoConfig(with(said));
        }
        if says("incorrect passphrase") || says("passphrase must be set") || says("PULUMI_CONFIG_PASSPHRASE")
        {
            return Self::Passphrase;
        }
        if says("PULUMI_ACCESS_TOKEN must be set")
            || says("not logged in")
            || says("please run `pulumi login`")
        {
            return Self::NoLogin;
        }
        if says("no Pulumi.yaml project file found") {
            return Self::NoProgram;
        }
        if says("no resource plugin") || says("no language plugin") || says("could not find plugin") {
            return Self::NoPlugin(with("plugin"));
        }
        Self::Other(lines)
    }

    /// In the operator's words.
    pub(super) fn failure(self, session: &Session) -> Failure {
        let stack = session.stack();
        match self {
            Self::Locked(by) => {
                let cancel = session.typed(&["cancel"]);
                Failure::of(FailureClass::Locked, format!("the stack {stack} is locked"))
                    .details(by)
                    .help(format!("wait for it; when the program that has it is gone, type {cancel}"))
            }
            Self::Violated(lines) => {
                Failure::of(FailureClass::Refused, "the program wants something else than its plan")
                    .details(lines)
                    .help(
                        "plan again; where nobody changed anything, the program does not say the same twice",
                    )
            }
            Self::NoStack => Failure::new(format!("there is no stack \"{stack}\""))
                .help("write create-stack #true where it is to be made"),
            Self::NoConfig(lines) => Failure::new("the program requires configuration that is missing")
                .details(lines)
                .help(format!("give it with config {{ KEY VALUE }}, or in Pulumi.{stack}.yaml")),
            Self::Passphrase => Failure::new(
                "the secrets of the stack cannot be read: the passphrase is missing, or another one",
            )
            .help("give the step env PULUMI_CONFIG_PASSPHRASE=\"${secret.…}\""),
            Self::NoLogin => Failure::new("nothing says where the state lies, or who may read it")
                .help("write backend \"s3://…\", or give the step env PULUMI_ACCESS_TOKEN=\"${secret.…}\""),
            Self::NoProgram => Failure::new("there is no Pulumi.yaml")
                .help("write dir \"…\", the folder of the Pulumi program"),
            Self::NoPlugin(lines) => {
                Failure::of(FailureClass::Unusable, "a plugin of Pulumi is not installed")
                    .details(lines)
                    .help("install it with pulumi plugin install, or let prepare do that")
            }
            Self::Other(lines) => {
                let skip = lines.len().saturating_sub(SHOWN_LINES);
                Failure::new(format!("pulumi failed on the stack {stack}"))
                    .details(lines.into_iter().skip(skip))
            }
        }
    }
}

/// The lines of a message, without the marks of colours that the CLI leaves in it.
pub(super) fn lines_of(message: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = message;
    while let Some((before, after)) = rest.split_once("<{%") {
        plain.push_str(before);
        rest = after.split_once("%}>").map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    let lines = plain.lines().map(|line| line.trim_end().to_owned());
    lines.filter(|line| !line.trim().is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_exit_code_and_many_causes() {
        let err = |text: &str| Fault::of("", &[text.to_owned()]);
        assert_eq!(
            Fault::of(
                "",
                &[
                    "error: the stack is currently locked by 1 lock(s). Either wait".to_owned(),
                    "  file:///x.json: created by ada@host (pid 7) at 2026-01-01T00:00:00Z".to_owned(),
                ]
            ),
            Fault::Locked(vec![
                "  file:///x.json: created by ada@host (pid 7) at 2026-01-01T00:00:00Z".to_owned()
            ])
        );
        assert!(matches!(
            err("error: resource urn:x violates plan: properties changed: =value"),
            Fault::Violated(_)
        ));
        assert_eq!(err("error: no stack named 'dve' found"), Fault::NoStack);
        assert!(matches!(err("error: incorrect passphrase"), Fault::Passphrase));
        let digest = json!({ "steps": [], "diagnostics": [
            { "severity": "error", "message": "<{%fg 1%}>Missing required configuration variable 'shop:size'<{%reset%}>\n" },
        ] });
        let config = Fault::of(&digest.to_string(), &[]);
        assert_eq!(
            config,
            Fault::NoConfig(vec!["Missing required configuration variable 'shop:size'".to_owned()])
        );
        assert_eq!(err("error: boom"), Fault::Other(vec!["error: boom".to_owned()]));
    }
}
