//! Steps that wait for one another.

use std::collections::VecDeque;

use super::graph::{Edge, Graph, Why};
use crate::syntax::problem::{Problem, Problems};

/// Circles reported for one flow; the others appear once these are gone.
const MOST: usize = 10;

/// Reports circles. True when there is none.
pub(super) fn check(graph: &Graph, problems: &mut Problems) -> bool {
    let mut alive = vec![true; graph.steps.len()];
    for found in 0..MOST {
        trim(graph, &mut alive);
        let Some(start) = alive.iter().position(|alive| *alive) else { return found == 0 };
        let circle = shortest(graph, &alive, on_circle(graph, &alive, start));
        for step in &circle {
            alive[*step] = false;
        }
        report(graph, &circle, problems);
    }
    false
}

/// Drops every step that waits for nothing that is left: it is on no circle.
fn trim(graph: &Graph, alive: &mut [bool]) {
    let mut waiting: Vec<usize> = vec![0; alive.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); alive.len()];
    for (from, edges) in graph.edges.iter().enumerate().filter(|(from, _)| alive[*from]) {
        for edge in edges.iter().filter(|edge| alive[edge.to]) {
            waiting[from] += 1;
            readers[edge.to].push(from);
        }
    }
    let mut free: Vec<usize> = (0..alive.len()).filter(|step| alive[*step] && waiting[*step] == 0).collect();
    while let Some(step) = free.pop() {
        alive[step] = false;
        for reader in &readers[step] {
            waiting[*reader] -= 1;
            if waiting[*reader] == 0 {
                free.push(*reader);
            }
        }
    }
}

/// A step that is on a circle: every step that is left leads to one.
fn on_circle(graph: &Graph, alive: &[bool], start: usize) -> usize {
    let mut seen = vec![false; alive.len()];
    let mut step = start;
    while !seen[step] {
        seen[step] = true;
        match graph.edges[step].iter().find(|edge| alive[edge.to]) {
            Some(edge) => step = edge.to,
            None => break,
        }
    }
    step
}

/// The shortest way from a step back to itself.
fn shortest(graph: &Graph, alive: &[bool], start: usize) -> Vec<usize> {
    let mut before: Vec<Option<usize>> = vec![None; alive.len()];
    let mut queue = VecDeque::from([start]);
    while let Some(step) = queue.pop_front() {
        for edge in graph.edges[step].iter().filter(|edge| alive[edge.to]) {
            if edge.to == start {
                let mut circle = vec![step];
                let mut at = step;
                while let Some(previous) = before[at].filter(|_| at != start) {
                    circle.push(previous);
                    at = previous;
                }
                circle.reverse();
                return circle;
            }
            if before[edge.to].is_none() {
                before[edge.to] = Some(step);
                queue.push_back(edge.to);
            }
        }
    }
    vec![start]
}

fn report(graph: &Graph, circle: &[usize], problems: &mut Problems) {
    // Told from the step that comes first in the file.
    let first = (0..circle.len()).min_by_key(|i| circle[*i]).unwrap_or(0);
    let ring: Vec<usize> = circle[first..].iter().chain(&circle[..first]).copied().collect();
    let message = match ring.as_slice() {
        [one] => format!("step \"{}\" waits for itself", graph.name(*one)),
        ring => {
            let names: Vec<&str> = ring.iter().chain(ring.first()).map(|step| graph.name(*step)).collect();
            format!("steps wait for one another: {}", names.join(" → "))
        }
    };
    let mut problem: Option<Problem> = None;
    for (i, step) in ring.iter().enumerate() {
        let next = ring[(i + 1) % ring.len()];
        let Some(edge) = graph.edges[*step].iter().find(|edge| edge.to == next) else { continue };
        let text = describe(graph, *step, edge);
        problem = Some(match problem {
            None => Problem::at(edge.span, message.clone()).label(text),
            Some(problem) => problem.also(edge.span, text),
        });
    }
    if let Some(problem) = problem {
        problems.push(problem);
    }
}

fn describe(graph: &Graph, from: usize, edge: &Edge) -> String {
    let (from, to) = (graph.name(from), graph.name(edge.to));
    match edge.why {
        Why::Needs => format!("{from} needs {to}"),
        Why::After => format!("{from} comes after {to}"),
        Why::Reads => format!("{from} reads an output of {to}"),
    }
}
