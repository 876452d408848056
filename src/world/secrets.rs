//! Where secrets come from. Errors name the secret and its source, never a value.

use super::World;
use super::aws::{AwsError, Cloud};
use super::cancel::Cancel;
use super::files::FileError;
use super::process::{Captured, Ending, ProcessError, Program, base_env, capture};
use crate::model::project::{SecretDeclaration, SecretSource};
use crate::model::secret::Secret;

/// A secret that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("secret {name} from {origin}: {fault}")]
pub struct SecretError {
    /// The secret.
    pub name: String,
    /// Its source, as in the flow file.
    pub origin: String,
    /// What went wrong.
    pub fault: SecretFault,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum SecretFault {
    /// The variable is not set, or empty.
    #[error("the variable {0} is not set")]
    NoVariable(String),
    /// No such value in the file.
    #[error("{file} has no {key}")]
    NoKey {
        /// The file, or the secret of the provider.
        file: String,
        /// What was looked for.
        key: String,
    },
    /// There is something, and it is empty.
    #[error("it is empty")]
    Empty,
    /// It holds bytes that are no text.
    #[error("it is not UTF-8")]
    NotText,
    /// A key was asked for, and the value is no JSON object.
    #[error("it is no JSON object, so that it has no {key}")]
    NotJson {
        /// The key.
        key: String,
    },
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// AWS.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// The program could not be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The program failed. What it printed is not shown: it may hold the secret.
    #[error("{program} {how}")]
    Program {
        /// The program.
        program: String,
        /// `exited with 3`
        how: String,
    },
}

/// More than this is no secret.
const LARGEST: usize = 64 * 1024;

/// Programs that fetch a secret ask people or networks; they do not take longer than this.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);

/// Reads one secret and teaches it to the masker.
pub async fn load(
    declaration: &SecretDeclaration,
    world: &World,
    cloud: &Cloud,
    cancel: &Cancel,
) -> Result<Secret, SecretError> {
    let fault = |fault| SecretError {
        name: declaration.name.clone(),
        origin: show_source(&declaration.source),
        fault,
    };
    let text = read(&declaration.source, world, cloud, cancel).await.map_err(fault)?;
    if text.trim().is_empty() {
        return Err(fault(SecretFault::Empty));
    }
    let secret = Secret::new(text);
    world.masker.learn([&secret]);
    Ok(secret)
}

/// A source as a flow file has it.
#[must_use]
pub fn show_source(source: &SecretSource) -> String {
    match source {
        SecretSource::Env(name) => format!("env:{name}"),
        SecretSource::AwsSsm(path) => format!("aws-ssm:{path}"),
        SecretSource::AwsSecretsManager { id, key: None } => format!("aws-secretsmanager:{id}"),
        SecretSource::AwsSecretsManager { id, key: Some(key) } => format!("aws-secretsmanager:{id}#{key}"),
        SecretSource::File(path) => format!("file:{path}"),
        SecretSource::Dotenv { file, key } => format!("dotenv:{file}#{key}"),
        SecretSource::Sops { file, key } => format!("sops:{file}#{key}"),
        // Arguments may hold what should not be shown.
        SecretSource::Command(argv) => format!("command:{}", argv.first().map_or("", String::as_str)),
    }
}

async fn read(
    source: &SecretSource,
    world: &World,
    cloud: &Cloud,
    cancel: &Cancel,
) -> Result<String, SecretFault> {
    match source {
        SecretSource::Env(name) => match world.host.var(name) {
            Some(value) if !value.is_empty() => Ok(value.to_owned()),
            _ => Err(SecretFault::NoVariable(name.clone())),
        },
        SecretSource::AwsSsm(path) => parameter(path, cloud).await,
        SecretSource::AwsSecretsManager { id, key } => stored(id, key.as_deref(), cloud).await,
        SecretSource::File(path) => Ok(without_line_end(file(path, world)?)),
        SecretSource::Dotenv { file: path, key } => dotenv(&file(path, world)?, key)
            .ok_or_else(|| SecretFault::NoKey { file: path.clone(), key: key.clone() }),
        SecretSource::Sops { file, key } => {
            let path = format!("[{}]", key.split('.').map(quoted).collect::<Vec<_>>().join("]["));
            let argv = ["sops", "--decrypt", "--extract", &path, file].map(str::to_owned);
            program(&argv, world, cancel).await
        }
        SecretSource::Command(argv) => program(argv, world, cancel).await,
    }
}

fn quoted(part: &str) -> String {
    if part.parse::<usize>().is_ok() { part.to_owned() } else { serde_json::Value::from(part).to_string() }
}

fn file(path: &str, world: &World) -> Result<String, SecretFault> {
    let bytes = world.files.read(&world.files.locate(path)?)?;
    String::from_utf8(bytes).map_err(|_| SecretFault::NotText)
}

/// Editors end files with a line end that is no part of the secret. Text of several lines (a key)
/// keeps it: some programs refuse keys without.
fn without_line_end(text: String) -> String {
    let trimmed = text.strip_suffix('\n').map(|rest| rest.strip_suffix('\r').unwrap_or(rest));
    match trimmed {
        Some(line) if !line.contains('\n') => line.to_owned(),
        _ => text,
    }
}

async fn parameter(path: &str, cloud: &Cloud) -> Result<String, SecretFault> {
    let said = cloud
        .reads()
        .await
        .ssm
        .get_parameter()
        .name(path)
        .with_decryption(true)
        .send()
        .await
        .map_err(|error| AwsError::new("SSM", "GetParameter", &error))?;
    said.parameter.and_then(|parameter| parameter.value).ok_or(SecretFault::Empty)
}

async fn stored(id: &str, key: Option<&str>, cloud: &Cloud) -> Result<String, SecretFault> {
    let said = cloud
        .reads()
        .await
        .secrets
        .get_secret_value()
        .secret_id(id)
        .send()
        .await
        .map_err(|error| AwsError::new("Secrets Manager", "GetSecretValue", &error))?;
    let text = match (said.secret_string, said.secret_binary) {
        (Some(text), _) => text,
        (None, Some(bytes)) => String::from_utf8(bytes.into_inner()).map_err(|_| SecretFault::NotText)?,
        (None, None) => return Err(SecretFault::Empty),
    };
    let Some(key) = key else { return Ok(text) };
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&text).map_err(|_| SecretFault::NotJson { key: key.to_owned() })?;
    match object.get(key) {
        Some(serde_json::Value::String(value)) => Ok(value.clone()),
        Some(serde_json::Value::Null) | None => {
            Err(SecretFault::NoKey { file: id.to_owned(), key: key.to_owned() })
        }
        Some(other) => Ok(other.to_string()),
    }
}

/// A value of a `.env` file: `KEY=value`, `export KEY="value"`, `KEY='value'`; a comment may follow
/// after a blank. The last one counts.
fn dotenv(text: &str, key: &str) -> Option<String> {
    let mut found = None;
    for line in text.lines() {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let Some((name, value)) = line.split_once('=') else { continue };
        if name.trim_end() == key {
            found = Some(dotenv_value(value.trim()));
        }
    }
    found
}

fn dotenv_value(value: &str) -> String {
    if let Some(rest) = value.strip_prefix('\'') {
        return rest.split('\'').next().unwrap_or_default().to_owned();
    }
    let Some(rest) = value.strip_prefix('"') else {
        return value.split(" #").next().unwrap_or_default().trim_end().to_owned();
    };
    let mut text = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(other) => text.push(other),
                None => {}
            },
            c => text.push(c),
        }
    }
    text
}

async fn program(argv: &[String], world: &World, cancel: &Cancel) -> Result<String, SecretFault> {
    // Programs that fetch secrets need what the person who started flow has: agents, profiles, tokens.
    let mut env = base_env(&world.host);
    let wanted = |name: &str| {
        ["AWS_", "SOPS_", "VAULT_", "OP_", "GOOGLE_", "AZURE_", "GPG_", "SSH_AUTH_SOCK"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    env.extend(world.host.vars().filter(|(name, _)| wanted(name)).map(|(n, v)| (n.to_owned(), v.to_owned())));
    let mut program = Program::new(argv, world.files.root(), env, &world.host).guarded(&world.host);
    program.timeout = Some(PATIENCE);
    let said = capture(&program, cancel, LARGEST).await?;
    let failed =
        |how: String| SecretFault::Program { program: argv.first().cloned().unwrap_or_default(), how };
    match said {
        Captured { truncated: true, .. } => Err(failed("printed more than a secret".to_owned())),
        Captured { ending: Ending::Exited(0), stdout, .. } => {
            String::from_utf8(stdout).map(without_line_end).map_err(|_| SecretFault::NotText)
        }
        Captured { ending: Ending::Exited(code), .. } => Err(failed(format!("exited with {code}"))),
        Captured { ending: Ending::Signalled(signal), .. } => {
            Err(failed(format!("ended by signal {signal}")))
        }
        Captured { ending: Ending::TimedOut(_), .. } => Err(failed("did not end within a minute".to_owned())),
        Captured { ending: Ending::Stopped | Ending::Killed, .. } => {
            Err(failed("was interrupted".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::source::Span;
    use crate::world::aws::Target;
    use crate::world::cancel::Canceller;
    use crate::world::host::Host;
    use crate::world::store::Store;

    async fn fetch(world: &World, source: SecretSource) -> Result<String, String> {
        let declaration = SecretDeclaration { name: "db".to_owned(), source, span: Span::default() };
        let cloud = Cloud::new(Target::for_tests(None), world.host.clone());
        load(&declaration, world, &cloud, &Canceller::new().view())
            .await
            .map(|secret| secret.expose().to_owned())
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn local_sources() {
        let dir = tempfile::tempdir().unwrap();
        let vars = [("PATH", std::env::var("PATH").unwrap()), ("GIVEN", "given".to_owned())];
        let host = Host::with(vars.map(|(name, value)| (name.to_owned(), value)).into());
        let world = World::new(host, dir.path(), Store::folder(dir.path().join("store")));
        let text = |t: &str| t.to_owned();
        std::fs::write(dir.path().join("pw"), "hunter22\n").unwrap();
        std::fs::write(dir.path().join("pem"), "a\nb\n").unwrap();
        std::fs::write(
            dir.path().join("env"),
            "# x\nA=one two # c\nexport B=\"t\\\"w\\no\"\nC='x#y'\nA=last\nE=\n",
        )
        .unwrap();
        let env = |key: &str| SecretSource::Dotenv { file: text("env"), key: text(key) };
        let command = |words: &[&str]| SecretSource::Command(words.iter().map(|w| text(w)).collect());
        for (source, wanted) in [
            (SecretSource::Env(text("GIVEN")), Ok("given")),
            (SecretSource::Env(text("NONE")), Err("secret db from env:NONE: the variable NONE is not set")),
            (SecretSource::File(text("pw")), Ok("hunter22")),
            (SecretSource::File(text("pem")), Ok("a\nb\n")),
            (env("A"), Ok("last")),
            (env("B"), Ok("t\"w\no")),
            (env("C"), Ok("x#y")),
            (env("D"), Err("secret db from dotenv:env#D: env has no D")),
            (env("E"), Err("secret db from dotenv:env#E: it is empty")),
            (command(&["printf", "from-program\\n"]), Ok("from-program")),
            (
                command(&["sh", "-c", "echo half-a-secret; exit 3"]),
                Err("secret db from command:sh: sh exited with 3"),
            ),
        ] {
            let shown = format!("{source:?}");
            assert_eq!(fetch(&world, source).await, wanted.map(text).map_err(text), "{shown}");
        }
        assert_eq!(world.masker.mask("is hunter22"), "is ***");
        let error = fetch(&world, SecretSource::File(text("none"))).await.unwrap_err();
        assert!(error.starts_with("secret db from file:none: cannot read /"), "{error}");
    }

    #[tokio::test]
    async fn secrets_of_aws() {
        let Ok(endpoint) = std::env::var("SANDBOX_ENDPOINT") else {
            println!("skipped: SANDBOX_ENDPOINT is not set (source the sandbox's environment)");
            return;
        };
        let target = Target::for_tests(Some(&endpoint));
        let dir = tempfile::tempdir().unwrap();
        let world = World::new(Host::current(), dir.path(), Store::folder(dir.path().join("store")));
        let cloud = Cloud::new(target, Host::current());
        let name = format!("progdev-{}", std::process::id());
        let parameter = format!("/{name}/password");
        let writes = cloud.writes().await;
        let put = writes.ssm.put_parameter().name(&parameter).value("from-ssm");
        put.r#type(aws_sdk_ssm::types::ParameterType::SecureString).send().await.unwrap();
        let text = r#"{"password":"from-json","port":5432}"#;
        writes.secrets.create_secret().name(&name).secret_string(text).send().await.unwrap();

        let cancel = Canceller::new().view();
        let fetch = async |source: SecretSource| {
            let declaration = SecretDeclaration { name: "db".to_owned(), source, span: Span::default() };
            let secret = load(&declaration, &world, &cloud, &cancel).await;
            secret.map(|secret| secret.expose().to_owned()).map_err(|error| error.to_string())
        };
        let stored = |key: Option<&str>| SecretSource::AwsSecretsManager {
            id: name.clone(),
            key: key.map(str::to_owned),
        };
        assert_eq!(fetch(SecretSource::AwsSsm(parameter.clone())).await.unwrap(), "from-ssm");
        assert_eq!(fetch(stored(None)).await.unwrap(), text);
        assert_eq!(fetch(stored(Some("password"))).await.unwrap(), "from-json");
        assert_eq!(fetch(stored(Some("port"))).await.unwrap(), "5432");
        let error = fetch(stored(Some("none"))).await.unwrap_err();
        assert_eq!(error, format!("secret db from aws-secretsmanager:{name}#none: {name} has no none"));
        let error = fetch(SecretSource::AwsSsm("/no/such".to_owned())).await.unwrap_err();
        assert!(
            error.starts_with("secret db from aws-ssm:/no/such: SSM GetParameter: ParameterNotFound"),
            "{error}"
        );

        writes.ssm.delete_parameter().name(&parameter).send().await.unwrap();
        let gone = writes.secrets.delete_secret().secret_id(&name).force_delete_without_recovery(true);
        gone.send().await.unwrap();
    }
}
