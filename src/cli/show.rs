//! `flow show FLOW`

use super::Done;
use super::failure::CliError;
use super::session::Session;
use super::workspace::Subject;
use crate::exit::Exit;
use crate::model::flow::Flow;
use crate::model::names::FlowName;
use crate::model::step::Step;
use crate::report::out;

/// Show a flow: its parameters, groups and steps, and what waits for what
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The flow
    flow: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// What it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::Flow(&self.flow)
    }
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    let project = session.project()?;
    let name = FlowName::new(&args.flow);
    let flow = crate::plan::prepare::find_flow(project, &name).map_err(CliError::Prepare)?;
    if args.json {
        out::json(&as_json(flow));
    } else {
        as_text(flow);
    }
    Ok(Exit::Success)
}

fn as_json(flow: &Flow) -> serde_json::Value {
    let steps: Vec<_> = flow
        .steps
        .iter()
        .chain(&flow.finally)
        .map(|step| {
            serde_json::json!({
                "id": step.name.value, "kind": step.kind.name, "groups": step.groups,
                "each": step.common.each.iter().map(|each| &each.var).collect::<Vec<_>>(),
                "waits_for": waits_for(step),
            })
        })
        .collect();
    let params: Vec<_> = flow
        .params
        .iter()
        .map(|p| serde_json::json!({ "id": p.name, "required": p.required, "help": p.help }))
        .collect();
    serde_json::json!({ "version": 1, "flow": flow.name, "about": flow.about, "params": params, "steps": steps })
}

fn as_text(flow: &Flow) {
    let about = flow.about.as_deref().unwrap_or_default();
    out::data(format!("{}  {about}", flow.name).trim_end());
    for param in &flow.params {
        let help = param.help.as_deref().unwrap_or_default();
        let must = if param.required { "  (must be given)" } else { "" };
        out::data(format!("  -p {}=…{must}  {help}", param.name).trim_end());
    }
    let width =
        flow.steps.iter().chain(&flow.finally).map(|step| name(step).chars().count()).max().unwrap_or(0);
    let kinds = flow.steps.iter().chain(&flow.finally).map(|step| step.kind.name.len()).max().unwrap_or(0);
    let mut heading = None;
    for step in &flow.steps {
        if step.groups != heading.clone().unwrap_or_default() || heading.is_none() {
            let groups: Vec<String> = step.groups.iter().map(ToString::to_string).collect();
            out::data(format!("\n  {}", groups.join(" / ")).trim_end_matches(' '));
            heading = Some(step.groups.clone());
        }
        row(step, width, kinds);
    }
    if !flow.finally.is_empty() {
        out::data("\n  finally");
        flow.finally.iter().for_each(|step| row(step, width, kinds));
    }
}

fn row(step: &Step, width: usize, kinds: usize) {
    let after = waits_for(step);
    let after = if after.is_empty() { String::new() } else { format!("after {}", after.join(", ")) };
    out::data(format!("    {:width$}  {:kinds$}  {after}", name(step), step.kind.name).trim_end());
}

fn name(step: &Step) -> String {
    let vars: Vec<&str> = step.common.each.iter().map(|each| each.var.as_str()).collect();
    if vars.is_empty() {
        step.name.value.to_string()
    } else {
        format!("{}[{}]", step.name.value, vars.join(","))
    }
}

fn waits_for(step: &Step) -> Vec<String> {
    let mut names: Vec<String> = step.common.needs.iter().map(|need| need.step.to_string()).collect();
    for template in step.templates() {
        for reference in template.references() {
            if let crate::model::template::Reference::Step(to) = &reference.value {
                names.push(to.name.to_string());
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}
