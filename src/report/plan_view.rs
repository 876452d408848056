//! A plan as people read it before they say yes.
//!
//! The caller says what stands in it; here is only how it looks. Steps that are
//! as wanted are counted, not listed, unless all are asked for.

use super::look::{Color, Look, Mark};
use super::text;
use crate::model::change::{Action, Change, Reversible};
use crate::model::names::StepId;
use crate::plan::document::{Plan, PlannedStep};

/// Widest column of summaries.
const SUMMARY: usize = 22;

/// Most differences shown of one step.
const CHANGES: usize = 12;

/// What is shown of a plan.
#[derive(Clone, Debug, Default)]
pub struct PlanView<'p> {
    /// The flow.
    pub flow: String,
    /// The environment.
    pub environment: String,
    /// Its account, if it names one.
    pub account: Option<String>,
    /// Its region, if it names one.
    pub region: Option<String>,
    /// Commit of the checkout, shortened here.
    pub commit: Option<String>,
    /// Whether tracked files differ from it.
    pub dirty: bool,
    /// The release that it goes back to.
    pub back_to: Option<u64>,
    /// The release that is live.
    pub live_release: Option<u64>,
    /// The steps, in the order of the file.
    pub groups: Vec<GroupView<'p>>,
    /// What else to know: `Gate go needs an answer.` One sentence each.
    pub notes: Vec<String>,
    /// Digest of the plan, shortened here.
    pub digest: String,
    /// What to type to carry it out: `flow run deploy --env prod`.
    pub next: Vec<String>,
}

impl<'p> PlanView<'p> {
    /// A plan, made now or saved before, and what to type next.
    #[must_use]
    pub fn of(plan: &'p Plan, next: Vec<String>) -> Self {
        let mut groups: Vec<GroupView<'_>> = Vec::new();
        for step in &plan.steps {
            let heading = step.heading.as_ref().map(ToString::to_string).unwrap_or_default();
            match groups.last_mut().filter(|group| group.heading == heading) {
                Some(group) => group.rows.push(RowView::of(step)),
                None => groups.push(GroupView { heading, rows: vec![RowView::of(step)] }),
            }
        }
        let gates = plan.to_run().filter(|step| step.kind == "approve");
        let gates = gates.map(|step| format!("Gate {} {}.", step.id, step.summary));
        Self {
            flow: plan.flow.to_string(),
            environment: plan.environment.name.to_string(),
            account: plan.environment.account.clone(),
            region: plan.environment.region.clone(),
            commit: plan.source.commit.clone(),
            dirty: plan.source.dirty == Some(true),
            back_to: plan.back_to,
            live_release: plan.live,
            groups,
            notes: gates.chain(plan.notes.iter().cloned()).collect(),
            digest: plan.digest.clone(),
            next,
        }
    }
}

/// Steps under one heading.
#[derive(Clone, Debug, Default)]
pub struct GroupView<'p> {
    /// The group's name; empty for steps outside of groups.
    pub heading: String,
    /// Its steps.
    pub rows: Vec<RowView<'p>>,
}

/// A step.
#[derive(Clone, Debug)]
pub struct RowView<'p> {
    /// What would happen.
    pub action: Action,
    /// The step.
    pub id: &'p StepId,
    /// In a few words: `roll 2 tasks`.
    pub summary: &'p str,
    /// What it is about: `shop-api:41 → :42`.
    pub subject: &'p str,
    /// Every difference.
    pub changes: Vec<&'p Change>,
    /// What to know before saying yes.
    pub warnings: &'p [String],
    /// Whether it can be taken back.
    pub reversible: Reversible,
}

impl<'p> RowView<'p> {
    fn of(step: &'p PlannedStep) -> Self {
        // What is known later is said once.
        let changes = step.changes.iter().filter(|change| change.to.as_ref() != Some(&step.summary));
        Self {
            action: step.action,
            id: &step.id,
            summary: &step.summary,
            subject: &step.subject,
            changes: changes.collect(),
            warnings: &step.warnings,
            reversible: step.reversible,
        }
    }

    fn is_listed(&self, all: bool) -> bool {
        all || self.action.will_run() || self.action == Action::Cached || !self.warnings.is_empty()
    }
}

/// The lines of a plan; with `all`, steps that are as wanted are listed too.
#[must_use]
pub fn lines(look: &Look, plan: &PlanView<'_>, all: bool) -> Vec<String> {
    let shown: Vec<(&str, Vec<&RowView<'_>>)> = plan
        .groups
        .iter()
        .map(|group| {
            (group.heading.as_str(), group.rows.iter().filter(|row| row.is_listed(all)).collect::<Vec<_>>())
        })
        .filter(|(_, rows)| !rows.is_empty())
        .collect();
    let columns = Columns::fitting(look, shown.iter().flat_map(|(_, rows)| rows).copied());
    let mut lines = header(look, plan);
    for (at, (heading, rows)) in shown.iter().enumerate() {
        if at == 0 || heading.is_empty() {
            lines.push(String::new());
        }
        if !heading.is_empty() {
            lines.push(look.paint(Color::Bold, &format!("  {}", look.text(heading))));
        }
        for row in rows {
            columns.row(&mut lines, row);
        }
    }
    lines.push(String::new());
    lines.extend(closing(look, plan));
    lines
}

fn header(look: &Look, plan: &PlanView<'_>) -> Vec<String> {
    let mut parts = vec![format!("{} → {}", plan.flow, plan.environment)];
    let place: Vec<&str> = [&plan.account, &plan.region].into_iter().flatten().map(String::as_str).collect();
    if !place.is_empty() {
        parts.push(place.join(" "));
    }
    if let Some(commit) = &plan.commit {
        let changed = if plan.dirty { " and changes" } else { "" };
        parts.push(format!("commit {}{changed}", commit.get(..8).unwrap_or(commit)));
    }
    parts.extend(plan.back_to.map(|id| format!("back to release {id}")));
    parts.push(plan.live_release.map_or("no release yet".to_owned(), |id| format!("release {id} is live")));
    // Account and release must not be lost on a narrow terminal: what does not fit goes to the next
    // line, whole.
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        let part = look.text(&part);
        match lines.last_mut() {
            Some(line) if text::width(line) + 3 + text::width(&part) <= look.right_edge() => {
                line.push_str(&format!("   {part}"));
            }
            _ => lines.push(part),
        }
    }
    lines
}

/// Where things stand in a line.
struct Columns<'a> {
    look: &'a Look,
    names: usize,
    summaries: usize,
}

impl<'a> Columns<'a> {
    fn fitting<'r>(look: &'a Look, rows: impl Iterator<Item = &'r RowView<'r>>) -> Self {
        let (mut names, mut summaries) = (15, 12);
        for row in rows {
            names = names.max(text::width(&row.id.to_string()));
            let summary = text::width(row.summary);
            if !row.subject.is_empty() && summary <= SUMMARY {
                summaries = summaries.max(summary);
            }
        }
        Self { look, names: names.min(look.right_edge() * 2 / 5), summaries }
    }

    fn row(&self, lines: &mut Vec<String>, row: &RowView<'_>) {
        let look = self.look;
        let id = text::cut_middle(&row.id.to_string(), self.names);
        let id = if look.utf8 { id } else { text::ascii(&id.replace('…', "~")) };
        let start = format!("  {} {}  ", look.mark(Mark::from(row.action)), text::pad(&id, self.names));
        let indent = 3 + look.mark_width() + self.names + 2;
        let room = look.right_edge().saturating_sub(indent);
        let summary = text::clean(row.summary);
        let subject = text::clean(row.subject);
        let cell = text::pad(&look.text(&summary), self.summaries);
        let middle = if subject.is_empty() { summary } else { format!("{cell}  {subject}") };
        lines.push(format!("{start}{}", look.cut(&middle, room)).trim_end().to_owned());
        self.changes(lines, row, indent);
        for warning in row.warnings {
            let warning = look.text(&format!("warning: {}", text::clean(warning)));
            for line in text::wrap(&warning, room) {
                lines.push(format!("{}{}", " ".repeat(indent), look.paint(Color::Yellow, &line)));
            }
        }
    }

    fn changes(&self, lines: &mut Vec<String>, row: &RowView<'_>, indent: usize) {
        let look = self.look;
        let spaces = " ".repeat(indent);
        let room = look.right_edge().saturating_sub(indent);
        let shown = if row.changes.len() > CHANGES + 1 { CHANGES } else { row.changes.len() };
        let widest = row.changes.iter().take(shown).map(|change| text::width(&change.what)).max();
        let whats = widest.unwrap_or_default().min(room / 2);
        for change in row.changes.iter().take(shown) {
            let values = values(change);
            let what = text::cut_middle(&text::clean(&change.what), whats.max(8));
            let line = if values.is_empty() {
                text::clean(&change.what)
            } else {
                format!("{}  {}", text::pad(&what, whats), text::clean(&values))
            };
            lines.push(format!("{spaces}{}", look.cut(&line, room)));
        }
        if row.changes.len() > shown {
            lines.push(format!("{spaces}and {} more", row.changes.len() - shown));
        }
    }
}

fn values(change: &Change) -> String {
    match (&change.from, &change.to) {
        (Some(from), Some(to)) => format!("{from} → {to}"),
        (None, Some(to)) => to.clone(),
        (Some(from), None) => format!("{from} → none"),
        (None, None) => String::new(),
    }
}

fn closing(look: &Look, plan: &PlanView<'_>) -> Vec<String> {
    let rows: Vec<&RowView<'_>> = plan.groups.iter().flat_map(|group| &group.rows).collect();
    let mut lines = Vec::new();
    let mut sentences = vec![counts(&rows)];
    if rows.iter().any(|row| row.action.will_run()) {
        sentences.push(losses(&rows));
        sentences.extend(ways_back(&rows));
    }
    lines.extend(wrapped(look, &sentences.join(" ")));
    for note in &plan.notes {
        lines.extend(wrapped(look, note));
    }
    let digest = plan.digest.get(..12).unwrap_or(&plan.digest);
    if !digest.is_empty() || !plan.next.is_empty() {
        lines.push(String::new());
        let plan_digest = if digest.is_empty() { String::new() } else { format!("plan {digest}") };
        let mut parts = vec![plan_digest];
        parts.extend(plan.next.iter().cloned());
        parts.retain(|part| !part.is_empty());
        let one = parts.join("   ");
        if text::width(&one) <= look.right_edge() - 2 {
            lines.push(format!("  {one}"));
        } else {
            lines.extend(parts.into_iter().map(|part| format!("  {part}")));
        }
    }
    lines
}

fn wrapped(look: &Look, text: &str) -> Vec<String> {
    text::wrap(&look.text(text), look.right_edge() - 2).into_iter().map(|line| format!("  {line}")).collect()
}

/// `6 to change, 27 up to date.`
fn counts(rows: &[&RowView<'_>]) -> String {
    let number = |wanted: &dyn Fn(Action) -> bool| rows.iter().filter(|row| wanted(row.action)).count();
    let change = number(&|action| {
        matches!(action, Action::Create | Action::Update | Action::Replace | Action::Delete)
    });
    let parts: Vec<String> = [
        (change, "to change"),
        (number(&|action| action == Action::Run), "to run"),
        (number(&|action| action == Action::Unknown), "not known yet"),
        (number(&|action| action == Action::UpToDate), "up to date"),
        (number(&|action| action == Action::Cached), "cached"),
        (number(&|action| action == Action::Skipped), "skipped"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    if parts.is_empty() { "There are no steps.".to_owned() } else { format!("{}.", parts.join(", ")) }
}

/// `Nothing is replaced.`, or what is.
fn losses(rows: &[&RowView<'_>]) -> String {
    let names = |action| -> Vec<&StepId> {
        rows.iter().filter(|row| row.action == action).map(|row| row.id).collect()
    };
    let (replaced, deleted) = (names(Action::Replace), names(Action::Delete));
    let is = |ids: &[&StepId]| if ids.len() == 1 { "is" } else { "are" };
    match (replaced.is_empty(), deleted.is_empty()) {
        (true, true) => "Nothing is replaced.".to_owned(),
        (false, true) => format!("{} {} replaced.", text::name_list(&replaced, 3), is(&replaced)),
        (true, false) => format!("{} {} deleted.", text::name_list(&deleted, 3), is(&deleted)),
        (false, false) => format!(
            "{} {} replaced, {} {} deleted.",
            text::name_list(&replaced, 3),
            is(&replaced),
            text::name_list(&deleted, 3),
            is(&deleted)
        ),
    }
}

/// `schema cannot be undone, the rest can.`
fn ways_back(rows: &[&RowView<'_>]) -> Option<String> {
    let running: Vec<&&RowView<'_>> = rows.iter().filter(|row| row.action.will_run()).collect();
    let of = |wanted: Reversible| -> Vec<&StepId> {
        running.iter().filter(|row| row.reversible == wanted).map(|row| row.id).collect()
    };
    let forward = text::name_list(&of(Reversible::ForwardOnly), 3);
    let manual = text::name_list(&of(Reversible::Manual), 3);
    let rest =
        |words: &str| if of(Reversible::Auto).is_empty() { String::new() } else { format!(", {words}") };
    match (forward.is_empty(), manual.is_empty()) {
        (true, true) => None,
        (false, true) => Some(format!("{forward} cannot be undone{}.", rest("the rest can"))),
        (true, false) => Some(format!("{manual} can be undone only by hand{}.", rest("the rest by flow"))),
        (false, false) => {
            Some(format!("{forward} cannot be undone, {manual} only by hand{}.", rest("the rest by flow")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A view borrows from its plan; the tests have none.
    fn kept<T>(value: T) -> &'static T {
        Box::leak(Box::new(value))
    }

    fn row(action: Action, id: &str, summary: &'static str, subject: &'static str) -> RowView<'static> {
        RowView {
            action,
            id: kept(StepId::parse(id)),
            summary,
            subject,
            changes: Vec::new(),
            warnings: &[],
            reversible: Reversible::Auto,
        }
    }

    fn change(what: &str, from: Option<&str>, to: Option<&str>) -> &'static Change {
        kept(Change::new(what, from.map(str::to_owned), to.map(str::to_owned)))
    }

    fn example() -> PlanView<'static> {
        let schema = RowView {
            reversible: Reversible::ForwardOnly,
            ..row(Action::Update, "schema", "1 migration", "0042_note.sql  expand")
        };
        let service = RowView {
            changes: vec![
                change("image", Some("sha256:93ab04c1d2e7"), Some("(known after image[api])")),
                change("memory", Some("512"), Some("1024")),
            ],
            warnings: kept([
                "the circuit breaker of ohi-prod-api is off: a broken image would not be rolled back by ECS"
                    .to_owned(),
            ]),
            ..row(Action::Update, "service[api]", "roll 2 tasks", "ohi-prod-api:41 → :42")
        };
        PlanView {
            flow: "deploy".to_owned(),
            environment: "prod".to_owned(),
            account: Some("333333333333".to_owned()),
            region: Some("eu-west-1".to_owned()),
            commit: Some("1a2b3c4d5e6f".to_owned()),
            dirty: false,
            back_to: None,
            live_release: Some(17),
            groups: vec![
                GroupView {
                    heading: "backend".to_owned(),
                    rows: vec![
                        row(
                            Action::Update,
                            "image[api]",
                            "build and push",
                            "14 files under backend/api changed",
                        ),
                        row(Action::UpToDate, "image[web]", "sha256:93ab04c1d2e7 is in the registry", ""),
                        schema,
                        service,
                    ],
                },
                GroupView {
                    heading: "frontend".to_owned(),
                    rows: vec![
                        row(
                            Action::Update,
                            "site",
                            "3 uploads, 1 delete",
                            "index.html, assets/app-91c0.js, and 2 more that do not fit",
                        ),
                        row(Action::Run, "edge", "invalidate 2 paths", ""),
                    ],
                },
            ],
            notes: vec!["Gate go waits for an answer before service[api].".to_owned()],
            digest: "7f3a9c21d0b4aaaa".to_owned(),
            next: vec!["flow run deploy --env prod".to_owned()],
        }
    }

    fn shown(look: &Look, plan: &PlanView<'_>, all: bool) -> String {
        let lines = lines(look, plan, all);
        assert!(lines.iter().all(|line| text::width(line) <= look.columns), "{lines:#?}");
        lines.join("\n")
    }

    #[test]
    fn a_plan() {
        insta::assert_snapshot!(shown(&Look::plain(), &example(), false), @r"
        deploy → prod   333333333333 eu-west-1   commit 1a2b3c4d   release 17 is live

          backend
          ~ image[api]       build and push       14 files under backend/api changed
          ~ schema           1 migration          0042_note.sql  expand
          ~ service[api]     roll 2 tasks         ohi-prod-api:41 → :42
                             image   sha256:93ab04c1d2e7 → (known after image[api])
                             memory  512 → 1024
                             warning: the circuit breaker of ohi-prod-api is off: a
                             broken image would not be rolled back by ECS
          frontend
          ~ site             3 uploads, 1 delete  index.html, assets/app-91c0.js, and…
          ▸ edge             invalidate 2 paths

          4 to change, 1 to run, 1 up to date. Nothing is replaced. schema cannot be
          undone, the rest can.
          Gate go waits for an answer before service[api].

          plan 7f3a9c21d0b4   flow run deploy --env prod
        ");
    }

    #[test]
    fn all_steps_without_utf8() {
        let look = Look { utf8: false, ..Look::plain() };
        insta::assert_snapshot!(shown(&look, &example(), true), @r"
        deploy -> prod   333333333333 eu-west-1   commit 1a2b3c4d   release 17 is live

          backend
          ~    image[api]       build and push       14 files under backend/api cha...
          =    image[web]       sha256:93ab04c1d2e7 is in the registry
          ~    schema           1 migration          0042_note.sql  expand
          ~    service[api]     roll 2 tasks         ohi-prod-api:41 -> :42
                                image   sha256:93ab04c1d2e7 -> (known after image[a...
                                memory  512 -> 1024
                                warning: the circuit breaker of ohi-prod-api is off: a
                                broken image would not be rolled back by ECS
          frontend
          ~    site             3 uploads, 1 delete  index.html, assets/app-91c0.js...
          >    edge             invalidate 2 paths

          4 to change, 1 to run, 1 up to date. Nothing is replaced. schema cannot be
          undone, the rest can.
          Gate go waits for an answer before service[api].

          plan 7f3a9c21d0b4   flow run deploy --env prod
        ");
    }

    #[test]
    fn what_is_lost_and_what_cannot_be_undone_is_named() {
        let mut plan = example();
        plan.live_release = None;
        plan.account = None;
        plan.dirty = true;
        plan.groups = vec![GroupView {
            heading: String::new(),
            rows: vec![
                RowView {
                    changes: (0..20).map(|n| change(&format!("file-{n}.html"), None, None)).collect(),
                    ..row(
                        Action::Create,
                        "a-step-with-a-very-long-name[graphql-gateway,eu-central-1]",
                        "make it",
                        "",
                    )
                },
                row(Action::Replace, "base", "replace 1 resource", "AWS::RDS::DBInstance"),
                row(Action::Delete, "old", "delete a stack that nothing needs any more", "shop-prod-old"),
                RowView { reversible: Reversible::Manual, ..row(Action::Run, "seed", "scripts/seed", "") },
                row(Action::Unknown, "service[api]", "known after base", ""),
                row(Action::Skipped, "notify", "when is false", ""),
            ],
        }];
        insta::assert_snapshot!(shown(&Look::plain(), &plan, false), @r"
        deploy → prod   eu-west-1   commit 1a2b3c4d and changes   no release yet

          + a-step-with-a-v…y,eu-central-1]  make it
                                             file-0.html
                                             file-1.html
                                             file-2.html
                                             file-3.html
                                             file-4.html
                                             file-5.html
                                             file-6.html
                                             file-7.html
                                             file-8.html
                                             file-9.html
                                             file-10.html
                                             file-11.html
                                             and 8 more
          ± base                             replace 1 resource  AWS::RDS::DBInstance
          - old                              delete a stack that nothing needs any mo…
          ▸ seed                             scripts/seed
          ? service[api]                     known after base

          3 to change, 1 to run, 1 not known yet, 1 skipped. base is replaced, old is
          deleted. seed can be undone only by hand, the rest by flow.
          Gate go waits for an answer before service[api].

          plan 7f3a9c21d0b4   flow run deploy --env prod
        ");
    }
}
