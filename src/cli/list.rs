//! `flow list`

use serde_json::json;

use super::failure;
use super::session::Session;
use crate::exit::Exit;
use crate::model::project::Project;
use crate::report::out;

/// List flows and environments
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn exec(projects: &[Session], args: &Args) -> Exit {
    let mut all = Vec::new();
    for session in projects {
        match session.project() {
            Ok(project) => all.push(project),
            Err(error) => return failure::report(&error, Some(session)),
        }
    }
    if args.json {
        out::json(&as_json(&all));
        return Exit::Success;
    }
    let names = all.iter().flat_map(|project| &project.flows).map(|flow| flow.name.as_str().chars().count());
    let width = names.max().unwrap_or(0);
    for project in all {
        for flow in &project.flows {
            let about = flow.about.as_deref().unwrap_or_default();
            out::data(format!("{:width$}  {about}", flow.name).trim_end());
        }
        let names: Vec<String> = project.environments.iter().map(|e| e.name.value.to_string()).collect();
        let of = project.address.as_deref().map_or_else(String::new, |address| format!(" of {address}"));
        out::note(&format!("environments{of}: {}", names.join(", ")));
    }
    Exit::Success
}

fn as_json(all: &[&Project]) -> serde_json::Value {
    let flows = all.iter().flat_map(|project| &project.flows);
    let flows: Vec<_> = flows
        .map(|flow| json!({ "id": flow.name, "about": flow.about, "steps": flow.steps.len() }))
        .collect();
    let mut environments = Vec::new();
    for project in all {
        for environment in &project.environments {
            let name = &environment.name.value;
            let id = project
                .address
                .as_ref()
                .map_or_else(|| name.to_string(), |address| format!("{address}/{name}"));
            environments.push(json!({ "id": id, "protected": environment.protected }));
        }
    }
    json!({ "version": 1, "flows": flows, "environments": environments })
}
