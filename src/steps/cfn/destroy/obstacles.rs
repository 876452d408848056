//! What CloudFormation would refuse in the middle, found while planning: stacks
//! that keep themselves, and exports that other stacks still take.

use crate::steps::cfn::exports::importers;
use crate::steps::cfn::stack::Stack;
use crate::steps::{Context, Failure, FailureClass};

/// Refuses stacks with termination protection, and names each: it was switched on by somebody who
/// meant it.
pub(super) fn refuse_kept(stacks: &[(&str, &Stack)]) -> Result<(), Failure> {
    let kept: Vec<&str> =
        stacks.iter().filter(|(_, stack)| stack.keeps_itself).map(|(name, _)| *name).collect();
    let Some(first) = kept.first() else { return Ok(()) };
    let what = match kept.len() {
        1 => format!("the stack {first} has termination protection"),
        _ => format!("the stacks {} have termination protection", kept.join(", ")),
    };
    Err(Failure::of(FailureClass::Refused, what).help(format!(
        "if it may go: aws cloudformation update-termination-protection --no-enable-termination-protection --stack-name {first}"
    )))
}

/// Why the stack cannot go as long as others take its exports; `gone` are stacks that go before it.
pub(super) async fn held(
    cx: &Context,
    name: &str,
    stack: &Stack,
    gone: &[&str],
) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    for export in &stack.exports {
        let others = importers(cx, export).await?;
        let others: Vec<&str> = others
            .iter()
            .map(String::as_str)
            .filter(|other| *other != name && !gone.contains(other))
            .collect();
        if !others.is_empty() {
            lines.push(format!("{export} of {name} is imported by {}", others.join(", ")));
        }
    }
    Ok(lines)
}

/// The refusal for what [`held`] found; `None` where that is nothing.
pub(super) fn refusal(lines: Vec<String>) -> Option<Failure> {
    if lines.is_empty() {
        return None;
    }
    let what = if lines.len() == 1 { "an export that is" } else { "exports that are" };
    Some(
        Failure::of(FailureClass::Refused, format!("this would delete {what} still in use"))
            .details(lines)
            .help("delete the stacks that import it first, in the same flow or before"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(keeps_itself: bool) -> Stack {
        Stack { keeps_itself, ..Stack::for_tests("CREATE_COMPLETE") }
    }

    #[test]
    fn a_stack_that_keeps_itself_is_named_with_the_command_that_ends_that() {
        let (kept, free) = (stack(true), stack(false));
        assert!(refuse_kept(&[("a", &free)]).is_ok());
        let failure = refuse_kept(&[("a", &free), ("b", &kept), ("c", &kept)]).expect_err("refused");
        assert_eq!(failure.class, FailureClass::Refused);
        assert_eq!(failure.record.reason, "the stacks b, c have termination protection");
        assert!(failure.record.help.is_some_and(|help| help.ends_with("--stack-name b")));
    }

    #[test]
    fn exports_in_use_are_named_with_those_who_use_them() {
        assert!(refusal(Vec::new()).is_none());
        let failure = refusal(vec!["Users of base is imported by shop".to_owned()]).expect("refused");
        assert_eq!(failure.record.reason, "this would delete an export that is still in use");
        assert_eq!(failure.record.details, ["Users of base is imported by shop"]);
    }
}
