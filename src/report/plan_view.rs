//! temporary
use super::look::Look;
use crate::plan::document::Plan;
pub fn lines(_: &Look, plan: &Plan, _: Option<u64>, again: &str, _: bool) -> Vec<String> {
    let mut v: Vec<String> = plan
        .steps
        .iter()
        .map(|s| format!("{:?} {} {} {} {:?}", s.action, s.id, s.summary, s.subject, s.changes))
        .collect();
    v.push(again.to_owned());
    v
}
