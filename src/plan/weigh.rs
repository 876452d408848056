//! Finds what a step counts by: its [`Basis`].
//!
//! For a step that hangs on files which are still to be made, everything here
//! comes out the same before and after they are: what is made is left out of
//! its inputs (it counts where it is made), and the world is asked in the same
//! way whether or not the step can be planned.

use std::cell::LazyCell;
use std::collections::BTreeMap;

use crate::model::kind::Nature;
use crate::model::names::StepId;
use crate::model::settings::Shape;
use crate::model::template::Reference;
use crate::model::value::Field;
use crate::steps::{self, Attributes, Context, Failure, FailureClass, Step};
use crate::world::parallel::aside;
use crate::world::walk::Matcher;

use super::basis::{Basis, PlanBasis, Symbolic, Unmade, definition, handed};
use super::fronts::{Fronts, reads};
use super::graph::{Goal, Node, NodeId};
use super::observe::Observer;
use super::prepare::Prepared;
use super::propose::{Look, NoProposal, attributes};
use super::scope::{Known, StepScope, StepTable};
use super::tools;

type Rows = BTreeMap<String, String>;

/// What came of looking at a step.
pub(super) enum Seen<'a> {
    /// It was planned. Takes the digests of its inputs out of its key: there may be very many.
    Planned(&'a mut Look),
    /// It will not run.
    Skipped,
    /// It cannot be planned before this step.
    After(&'a StepId),
    /// The world could not be asked, or it runs only at the end.
    Unseen,
}

/// A step that is made when somebody asks for it: most are weighed without.
type MadeOnce<'a> = LazyCell<Option<Box<dyn Step>>, Box<dyn FnOnce() -> Option<Box<dyn Step>> + 'a>>;

impl Observer<'_> {
    /// What a step counts by.
    pub(super) async fn basis(
        &self,
        id: NodeId,
        cx: &Context,
        mut seen: Seen<'_>,
    ) -> Result<Basis, NoProposal> {
        let (p, node) = (self.p, self.p.graph.node(id));
        let scope = StepScope { values: &p.values, each: &node.each, steps: &self.table };
        let selected = |step: &StepId| p.graph.find_id(step).is_some_and(|id| p.selection.contains(id));
        let symbolic = Symbolic { scope: &scope, selected: &selected };
        let mut basis =
            Basis { definition: definition(node, &symbolic, &p.world.host, &p.sealer)?, ..Basis::default() };
        let recorded = matches!(node.goal, Some(Goal::Recorded(_)));
        let is_gate = node.step.kind.nature == Nature::Gate;
        basis.decided = !(self.fronts.made[id.0] && !recorded || node.finally || is_gate);
        if recorded {
            match seen {
                Seen::Planned(look) => basis.baseline = look.proposal.baseline.clone(),
                Seen::After(step) => basis.after = Some(step.clone()),
                Seen::Skipped | Seen::Unseen => {}
            }
            return Ok(basis);
        }
        if node.finally || is_gate {
            return Ok(basis);
        }
        let stands = |step: &StepId| {
            let id = p.graph.find_id(step).filter(|id| p.selection.contains(*id) && !self.fronts.made[id.0]);
            id.is_some() && matches!(self.table.known(step), Some(Known::Outputs { .. }))
        };
        basis.handed = handed(node, &scope, &stands, &p.sealer);
        basis.tree = node.step.kind.nature == Nature::Program && node.step.common.inputs.is_none();
        // Such a plan is there to be read, not to be held against another.
        if !p.world.host.trusts_the_checkout() {
            return Ok(basis);
        }
        let made = self.fronts.made[id.0];
        if matches!(seen, Seen::Skipped | Seen::Unseen) && !made {
            return Ok(basis);
        }
        basis.after = match seen {
            // Files that are still to be made are no reason: by the next look they may be there.
            _ if made => self.running_creator(id).cloned(),
            Seen::After(step) => Some(step.clone()),
            _ => None,
        };
        basis.tools = self.tools(node, &scope, cx, &seen).await?;
        let step: MadeOnce = LazyCell::new(Box::new(|| self.make(id, node)));
        self.world(&mut basis, made, &step, cx, &seen).await?;
        basis.inputs = self.inputs(id, &step, cx, &mut seen).await?;
        Ok(basis)
    }

    /// The step as far as it is known whatever is made already; `None` when that is not enough.
    fn make(&self, id: NodeId, node: &Node) -> Option<Box<dyn Step>> {
        let fronts = &self.fronts;
        let unmade = |step: &StepId| self.p.graph.find_id(step).is_some_and(|id| fronts.made[id.0]);
        let table = Unmade { table: &self.table, unmade: &unmade };
        let scope = StepScope { values: &self.p.values, each: &self.p.graph.node(id).each, steps: &table };
        let settings = node.step.settings.resolve(&scope).ok()?;
        let attributes = match attributes(&node.step.common, &scope) {
            Ok(Field::Known(attributes)) => attributes,
            _ => Attributes::default(),
        };
        let kind = steps::kind(node.step.kind.name)?;
        (kind.make)(&settings, &attributes).ok()
    }

    /// The facts of the world.
    async fn world(
        &self,
        basis: &mut Basis,
        made: bool,
        step: &MadeOnce<'_>,
        cx: &Context,
        seen: &Seen<'_>,
    ) -> Result<(), Failure> {
        let after = basis.after.take();
        match seen {
            Seen::Planned(look) if !made || (!look.proposal.baseline.is_null() && step.is_some()) => {
                basis.baseline = look.proposal.baseline.clone();
                return Ok(());
            }
            _ => {}
        }
        match step.as_deref() {
            None => basis.after = after,
            Some(step) => match self.cancel.unless_stopped(step.observe(cx)).await? {
                Ok(facts) => basis.baseline = facts,
                // What does not exist yet, or cannot be asked without what is to be made, is
                // looked at again right before the effect.
                Err(failure)
                    if matches!(
                        failure.class,
                        FailureClass::Missing
                            | FailureClass::NotYet(_)
                            | FailureClass::Passing
                            | FailureClass::Locked
                    ) =>
                {
                    basis.after = after;
                }
                Err(failure) => return Err(failure),
            },
        }
        Ok(())
    }

    async fn tools(
        &self,
        node: &Node,
        scope: &StepScope<'_>,
        cx: &Context,
        seen: &Seen<'_>,
    ) -> Result<Rows, NoProposal> {
        if let Seen::Planned(Look { key: Some(key), .. }) = seen {
            return Ok(key.key.tools.clone());
        }
        if node.step.common.tools.is_empty() {
            return Ok(Rows::new());
        }
        let Field::Known(attributes) = attributes(&node.step.common, scope)? else { return Ok(Rows::new()) };
        let settings = node.step.settings.resolve(scope)?;
        let dir = settings.opt_text("dir").map_err(Failure::from)?;
        Ok(tools::versions(&attributes.tools, dir.as_deref(), cx).await?)
    }

    /// Digests of the local files that it reads, without what steps in front of it leave behind.
    async fn inputs(
        &self,
        id: NodeId,
        step: &MadeOnce<'_>,
        cx: &Context,
        seen: &mut Seen<'_>,
    ) -> Result<Rows, Failure> {
        let left = self.fronts.left_by_now(id);
        let certain = !self.fronts.loose[id.0] && self.fronts.creators[id.0].is_empty();
        let own = match seen {
            // Its key was made from the same files.
            Seen::Planned(Look { key: Some(key), .. }) if is_read_as_written(self.p.graph.node(id)) => {
                Some(std::mem::take(&mut key.key.files))
            }
            Seen::Planned(look) if certain && !look.proposal.inputs.is_empty() => {
                Some(look.proposal.inputs.clone())
            }
            _ => match step.as_deref() {
                Some(step) => step.inputs(cx).await?,
                None => None,
            },
        };
        let wrong = |error: String| Failure::new(error);
        if let Some(mut own) = own {
            if !own.is_empty() && !left.is_empty() {
                let made = Matcher::new(&left, &[]).map_err(|error| wrong(error.to_string()))?;
                own.retain(|path, _| !made.matches(std::path::Path::new(path)));
            }
            return Ok(own);
        }
        let node = self.p.graph.node(id);
        let unmade = |step: &StepId| self.p.graph.find_id(step).is_some_and(|id| self.fronts.made[id.0]);
        let table = Unmade { table: &self.table, unmade: &unmade };
        let (include, mut exclude) =
            reads(node, &StepScope { values: &self.p.values, each: &node.each, steps: &table });
        if include.is_empty() {
            return Ok(Rows::new());
        }
        exclude.extend(left);
        let matcher = Matcher::new(&include, &exclude).map_err(|error| wrong(error.to_string()))?;
        let files = self.p.world.files.clone();
        aside(move || matcher.digests(&files))
            .await
            .map_err(|error| wrong(error.to_string()))?
            .map_err(|error| wrong(error.to_string()))
    }
}

/// Whether its inputs are all that it reads, and the same whatever steps in front of it made.
fn is_read_as_written(node: &Node) -> bool {
    let inputs = node.step.common.inputs.iter();
    let mut globs = inputs.flat_map(|inputs| inputs.globs.iter().chain(&inputs.exclude));
    let mut settings = node.step.kind.settings.iter();
    globs.all(|glob| glob.references().iter().all(|it| !matches!(it.value, Reference::Step(_))))
        && !settings.any(|setting| matches!(setting.shape, Shape::Path { reads: true }))
}

/// What all steps count by.
pub(super) async fn common(p: &Prepared, fronts: &Fronts, any_file: bool) -> Result<PlanBasis, Failure> {
    let mut basis = PlanBasis::default();
    let clouds = p.others.iter().chain(&*p.elsewhere).map(|(name, cloud)| (format!("{name} "), cloud));
    for (whose, cloud) in clouds.chain([(String::new(), &p.cloud)]) {
        let target = cloud.target();
        let mut say = |name: &str, value: &Option<String>| {
            if let Some(value) = value {
                basis.settings.insert(format!("{whose}{name}"), value.clone());
            }
        };
        if !whose.is_empty() {
            say("account", &target.account);
            say("region", &target.region);
        }
        say("profile", &target.profile);
        say("role", &target.role);
        say("endpoint", &target.endpoint);
        say("registry", &target.registry);
        say("protected", &target.protected.then(|| "yes".to_owned()));
    }
    let deploys_from = [("branch", &p.environment.branches), ("tag", &p.environment.tags)];
    for (name, globs) in deploys_from.iter().filter(|(_, globs)| !globs.is_empty()) {
        basis.settings.insert((*name).to_owned(), globs.join(", "));
    }
    basis.settings.insert("on-failure".to_owned(), format!("{:?}", p.flow.on_failure).to_lowercase());
    for (pool, size) in &p.flow.pools {
        basis.settings.insert(format!("pool {pool}"), size.to_string());
    }
    for (name, secret) in &p.values.secrets {
        // One that cannot be read fails every step that needs it.
        let text = secret.as_ref().map_or_else(String::clone, |secret| secret.expose().to_owned());
        basis.secrets.insert(name.clone(), p.sealer.digest(&format!("secret {name}\n{text}")));
    }
    if any_file {
        basis.tree = tree(p, fronts).await?;
    }
    Ok(basis)
}

/// What every tracked file holds, but flow files, which count by what they say, and what steps make.
async fn tree(p: &Prepared, fronts: &Fronts) -> Result<Rows, Failure> {
    let git = p.world.git.clone();
    let tree = tokio::task::spawn_blocking(move || git.tree())
        .await
        .map_err(|error| Failure::new(error.to_string()))?
        .map_err(|said| Failure::new(format!("git cannot tell which files are tracked: {said}")))?;
    let made: Vec<String> = fronts.leaves.iter().flatten().cloned().collect();
    let left_out = ["flows".to_owned(), ".flow".to_owned()].into_iter().chain(made);
    let left_out =
        Matcher::new(&left_out.collect::<Vec<_>>(), &[]).map_err(|e| Failure::new(e.to_string()))?;
    Ok(tree.into_iter().filter(|(path, _)| !left_out.matches(std::path::Path::new(path))).collect())
}
