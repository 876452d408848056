//! `flow list`

use super::Done;
use super::session::Session;
use crate::exit::Exit;
use crate::report::out;

/// List the flows and environments of the project
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    let project = session.project()?;
    if args.json {
        let flows: Vec<_> = project
            .flows
            .iter()
            .map(
                |flow| serde_json::json!({ "id": flow.name, "about": flow.about, "steps": flow.steps.len() }),
            )
            .collect();
        let environments: Vec<_> = project
            .environments
            .iter()
            .map(|e| serde_json::json!({ "id": e.name.value, "protected": e.protected }))
            .collect();
        out::json(&serde_json::json!({ "version": 1, "flows": flows, "environments": environments }));
        return Ok(Exit::Success);
    }
    let width = project.flows.iter().map(|flow| flow.name.as_str().chars().count()).max().unwrap_or(0);
    for flow in &project.flows {
        let about = flow.about.as_deref().unwrap_or_default();
        out::data(format!("{:width$}  {about}", flow.name).trim_end());
    }
    let names: Vec<String> = project.environments.iter().map(|e| e.name.value.to_string()).collect();
    out::note(&format!("environments: {}", names.join(", ")));
    Ok(Exit::Success)
}
