//! Where blocks begin and end, and which brace is missing.

use super::super::chars::space;
use super::super::{MAX_DEPTH, MAX_SLASHDASH, Raw};
use super::{Block, Open, Scanner};
use crate::syntax::problem::Problem;

impl Scanner<'_> {
    /// The rest of the file is inside something that never ends: that its blocks are not closed is
    /// no mistake of its own.
    pub(super) fn close_all(&mut self) {
        self.end_node();
        while let Some(block) = self.stack.pop() {
            self.leave(block, self.text.len());
            self.end_node();
        }
    }

    pub(super) fn open(&mut self) {
        let at = self.at;
        if self.stack.len() >= MAX_DEPTH {
            self.refused = true;
            let problem = Problem::at(self.span(at, at + 1), "this file nests too deeply");
            self.problems.0 = vec![problem.label(format!("more than {MAX_DEPTH} blocks inside one another"))];
            return;
        }
        let skipped =
            self.stack.iter().filter(|block| block.node.skipped || block.slashdash.is_some()).count();
        let skips = self.slashdash.is_some() || self.current.as_ref().is_some_and(|open| open.skipped);
        if skipped + usize::from(skips) > MAX_SLASHDASH {
            self.refused = true;
            let problem = Problem::at(self.span(at, at + 1), "\"/-\" nests too deeply");
            self.problems.0 = vec![problem.label(format!("more than {MAX_SLASHDASH} inside one another"))];
            return;
        }
        let closed = self.current.as_ref().is_some_and(|open| open.closed);
        if closed && self.slashdash.is_none() {
            self.problem(at, at + 1, "a node has one block", "this is a second one");
            self.end_node();
        }
        if self.current.is_none() {
            if !closed {
                self.problem(at, at + 1, "a block needs a name before it", "");
            }
            let raw = Raw { name: at..at, header: at..at, bad: true, ..Raw::default() };
            self.current = Some(Open { raw, skipped: true, ..Open::default() });
        }
        let Some(mut node) = self.current.take() else { return };
        self.no_value(&mut node);
        let siblings = std::mem::take(&mut self.nodes);
        let slashdash = self.slashdash.take();
        let indent = if self.fresh { self.indent } else { self.line_indent(at) };
        self.stack.push(Block { node, siblings, open: at, slashdash, indent });
        self.at += 1;
    }

    /// Blanks at the start of the line that `at` stands on.
    pub(super) fn line_indent(&self, at: usize) -> usize {
        self.text[self.line..at].chars().take_while(|c| space(*c)).count()
    }

    pub(super) fn close(&mut self) {
        let at = self.at;
        self.dangling();
        self.end_node();
        if self.by_indent && self.fresh && !self.stack.is_empty() {
            if self.stack.last().is_some_and(|block| block.indent < self.indent) {
                self.surplus(at);
                return;
            }
            while self.stack.last().is_some_and(|block| block.indent > self.indent) {
                self.unclosed(Some(at));
                self.end_node();
            }
        }
        match self.stack.pop() {
            Some(block) => {
                self.at += 1;
                self.leave(block, at + 1);
            }
            None => self.surplus(at),
        }
    }

    pub(super) fn surplus(&mut self, at: usize) {
        self.unbalanced = true;
        self.problem(at, at + 1, "this brace closes nothing", "no { is open here");
        self.at = at + 1;
    }

    /// Ends a block at `end`; its node may still go on.
    pub(super) fn leave(&mut self, block: Block, end: usize) {
        let children = std::mem::replace(&mut self.nodes, block.siblings);
        let mut node = block.node;
        if let Some(start) = block.slashdash {
            self.blank(start..end);
            node.blocks = true;
        } else {
            node.raw.block = Some(block.open..end);
            node.raw.children = children;
            node.closed = true;
        }
        node.last = 0;
        self.current = Some(node);
    }

    /// Ends the innermost block, whose `}` is missing; `before` is where that shows.
    pub(super) fn unclosed(&mut self, before: Option<usize>) {
        self.end_node();
        let Some(block) = self.stack.pop() else { return };
        let open = block.open;
        let end = before.unwrap_or(self.text.len());
        self.leave(block, self.text[..end].trim_end().len().max(open + 1));
        let problem = Problem::at(self.span(open, open + 1), "this block is never closed");
        let problem = problem.label("no } for it");
        let problem = match before {
            Some(at) => problem.also(self.span(at, at + 1), "it should end before this"),
            None => problem.also(self.span(end.saturating_sub(1), end), "the file ends here"),
        };
        if let Some(open) = &mut self.current {
            open.raw.incomplete = true;
        }
        let bad = self.current.as_ref().is_some_and(|open| open.raw.bad);
        self.push(problem);
        if let Some(open) = &mut self.current {
            open.raw.bad = bad;
        }
        self.end_node();
    }
}
