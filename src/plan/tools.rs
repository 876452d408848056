//! Which version of a program a step would use.

use std::collections::BTreeMap;
use std::path::Path;

use crate::steps::{Context, Failure};
use crate::world::World;
use crate::world::process::{Ending, Program, base_env, capture};

/// More than this of what a program says about itself is not its version.
const LONGEST: usize = 16 * 1024;

/// The version of each tool: what its command says, else the digest of the program found in `PATH`.
pub async fn versions(
    tools: &[(String, Option<Vec<String>>)],
    dir: Option<&str>,
    cx: &Context,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut versions = BTreeMap::new();
    for (tool, command) in tools {
        let version = match command {
            Some(argv) => ask(tool, argv, dir, cx).await?,
            None => find(tool, &cx.world)?,
        };
        versions.insert(tool.clone(), version);
    }
    Ok(versions)
}

async fn ask(tool: &str, argv: &[String], dir: Option<&str>, cx: &Context) -> Result<String, Failure> {
    let folder = cx.world.files.locate(dir.unwrap_or("."))?;
    let program = Program::new(argv, folder, base_env(&cx.world.host), &cx.world.host);
    let said = capture(&program, &cx.cancel, LONGEST).await?;
    if said.ending != Ending::Exited(0) {
        return Err(Failure::new(format!("{tool} does not tell its version: {}", argv.join(" ")))
            .details(said.stderr));
    }
    let out = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    // Some programs (java) tell their version on standard error.
    let version = if out.is_empty() { said.stderr.join("\n") } else { out };
    if version.is_empty() {
        return Err(Failure::new(format!(
            "{tool} does not tell its version: {} prints nothing",
            argv.join(" ")
        )));
    }
    Ok(version)
}

fn find(tool: &str, world: &World) -> Result<String, Failure> {
    let path = world.host.var("PATH").unwrap_or_default();
    for folder in path.split(':').filter(|folder| !folder.is_empty()) {
        let candidate = Path::new(folder).join(tool);
        if world.files.metadata(&candidate)?.is_some() {
            return Ok(world.files.digests().of(&candidate)?.to_string());
        }
    }
    Err(Failure::new(format!("there is no program {tool} in PATH")))
}
