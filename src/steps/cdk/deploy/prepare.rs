//! The CLI's part of the effect: publish what a stack refers to, and make the
//! change set that flow compares and executes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::steps::cdk::assembly::AppStack;
use crate::steps::cfn::change_set::{ChangeSet, Execution};
use crate::steps::cfn::request::Maker;
use crate::steps::infra::Tool;
use crate::steps::program::{harmless, judge};
use crate::steps::{Context, Failure};
use crate::world::process::Tail;

const SHOWN_LINES: usize = 20;

/// The CLI and the assembly that it deploys.
#[derive(Debug)]
pub(super) struct Cli {
    tool: Tool,
    assembly: PathBuf,
}

impl Cli {
    pub(super) fn new(tool: Tool, assembly: &Path) -> Arc<Self> {
        Arc::new(Self { tool, assembly: assembly.to_owned() })
    }
}

/// Prepares one stack.
#[derive(Debug)]
pub(super) struct Prepare {
    cli: Arc<Cli>,
    path: String,
}

impl Prepare {
    pub(super) fn new(cli: &Arc<Cli>, stack: &AppStack) -> Self {
        Self { cli: Arc::clone(cli), path: stack.path.clone() }
    }
}

#[async_trait]
impl Maker for Prepare {
    async fn make(&self, set: &ChangeSet, cx: &Context) -> Result<Option<ChangeSet>, Failure> {
        let Cli { tool, assembly } = self.cli.as_ref();
        let app = assembly.display().to_string();
        let words = [
            "deploy",
            &self.path,
            "--exclusively",
            "--app",
            &app,
            "--method",
            "prepare-change-set",
            "--change-set-name",
            set.name(),
            "--require-approval",
            "never",
            "--ci",
            "--no-notices",
        ];
        let mut tail = Tail::new(SHOWN_LINES, Some(cx.feed.clone()));
        let ending = tool.run(&words, &mut tail, cx).await?;
        // Published files and a change set that nobody executes change nothing for anybody.
        harmless(judge(ending, tail.into_lines()))
            .map_err(|failure| failure.detail(format!("this was: {}", tool.shown(&words))))?;
        let is_there = set.execution(cx).await? != Execution::Gone;
        Ok(is_there.then(|| set.clone()))
    }
}
