//! The terminal: finished lines scroll up and stay, the block at the bottom shows what runs.
//!
//! Events only change what would be shown; frames are drawn on ticks, and at
//! once for what the operator waits for. While a gate asks, the block gives way
//! and nothing is written until there is an answer.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::board::Board;
use super::ending::Ending;
use super::lines::{self, SHOWN};
use super::look::{Look, Mark};
use super::screen::{Screen, Size};
use super::{Out, Subscriber};
use crate::event::Event;
use crate::model::names::StepId;

/// Shortest time between two frames: a thousand steps that end at once are drawn together.
const FRAME_MS: i64 = 50;

/// Rows that the block leaves free.
const FREE: usize = 3;

/// The report on a terminal.
pub struct Console {
    screen: Screen,
    look: Look,
    all: bool,
    board: Board,
    ending: Ending,
    last: Option<StepId>,
    items: VecDeque<Item>,
    asking: Option<StepId>,
    drawn: Option<Timestamp>,
}

/// What is still to be written.
enum Item {
    Line(String),
    Question { step: StepId, lines: Vec<String>, prompt: String },
}

impl Console {
    /// A report to the terminal behind `out`; with `all`, steps that are as wanted get a line too.
    #[must_use]
    pub fn new(out: Out, look: Look, size: Size, all: bool) -> Self {
        Self {
            screen: Screen::new(out, size),
            look,
            all,
            board: Board::default(),
            ending: Ending::default(),
            last: None,
            items: VecDeque::new(),
            asking: None,
            drawn: None,
        }
    }

    fn line(&mut self, line: String) {
        self.last = None;
        self.items.push_back(Item::Line(line));
    }

    fn take_in(&mut self, time: Timestamp, event: &Event) {
        let names = self.board.names();
        match event {
            Event::RunStarted(started) if started.to_run > 0 || self.all => {
                self.line(lines::header(&self.look, started));
            }
            Event::RunResumed { by } => {
                if let Some(started) = &self.board.header {
                    let header = lines::header(&self.look, started);
                    self.line(header);
                }
                self.line(lines::resumed(&self.look, &self.board, by));
            }
            Event::StepReconciled { step, done, by } => {
                for line in lines::reconciled(&self.look, names, step, *done, by) {
                    self.line(line);
                }
            }
            Event::MarkRefused { step, by, why } => {
                for line in lines::mark_refused(&self.look, names, step, by, why) {
                    self.line(line);
                }
            }
            Event::StepSettled { step, action, reason, .. } if self.all => {
                let line = lines::row(&self.look, names, Mark::from(*action), &step.to_string(), reason, "");
                self.line(line);
            }
            Event::GateAsked { step, text, expected } => {
                let (lines, prompt) = lines::question(&self.look, names, step, text, expected);
                self.items.push_back(Item::Question { step: step.clone(), lines, prompt });
            }
            Event::GateAnswered { step, .. } => self.answered(step, false),
            Event::StepRetried { step, attempt, reason, pause_ms } => {
                let line = lines::retried(&self.look, names, step, *attempt, reason, *pause_ms);
                self.line(line);
            }
            Event::StepEnded(ended) => {
                self.answered(&ended.step, true);
                if self.all || lines::matters(ended.outcome) {
                    let lines = lines::ended(&self.look, names, ended, &self.board.planned);
                    self.items.extend(lines.into_iter().map(Item::Line));
                    self.last = Some(ended.step.clone());
                }
            }
            Event::Interrupted { signal, times } => {
                if let Some(step) = self.asking.clone() {
                    self.answered(&step, true);
                }
                self.line(lines::signal(&self.look, signal, *times));
            }
            Event::Warning { text } => {
                self.last = None;
                self.items.extend(lines::warning(&self.look, text).into_iter().map(Item::Line));
            }
            Event::RollbackStarted { reason } => {
                self.last = None;
                self.items.extend(lines::unwinding(&self.look, reason).into_iter().map(Item::Line));
            }
            Event::RunEnded(_) => {
                let lines = self.ending.lines(&self.look, names, time, self.last.as_ref());
                self.items.extend(lines.into_iter().map(Item::Line));
            }
            _ => {}
        }
    }

    /// The question is over. Whoever answers types a line end; `unanswered` ones need one.
    fn answered(&mut self, step: &StepId, unanswered: bool) {
        if self.asking.as_ref() == Some(step) {
            self.asking = None;
            if unanswered {
                self.screen.prompt("\r\n");
            }
        }
    }

    fn draw(&mut self, now: Timestamp) {
        self.drawn = Some(now);
        let (columns, rows) = self.screen.size();
        self.look.columns = columns;
        let mut lines = Vec::new();
        while self.asking.is_none() {
            match self.items.pop_front() {
                Some(Item::Line(line)) => lines.push(line),
                Some(Item::Question { step, lines: question, prompt }) => {
                    lines.extend(question);
                    self.screen.frame(&lines, &[]);
                    self.screen.prompt(&prompt);
                    self.asking = Some(step);
                    return;
                }
                None => {
                    let block = self.block(now, rows);
                    self.screen.frame(&lines, &block);
                    return;
                }
            }
        }
    }

    /// Up to eight steps under way and the counts; nothing before the first and after the last.
    fn block(&self, now: Timestamp, rows: usize) -> Vec<String> {
        if self.board.running.is_empty() {
            return Vec::new();
        }
        let names = self.board.names();
        let most = SHOWN.min(rows.saturating_sub(FREE)).max(1);
        let shown = self.board.running.iter().take(most);
        let mut block: Vec<String> =
            shown.map(|running| lines::running(&self.look, names, running, now)).collect();
        let counts = lines::counts(&self.look, &self.board, most);
        if rows > FREE && !counts.is_empty() {
            block.push(counts);
        }
        block
    }
}

impl Subscriber for Console {
    fn event(&mut self, time: Timestamp, event: &Event) {
        self.board.event(time, event);
        self.ending.event(event);
        self.take_in(time, event);
        let at_once = matches!(
            event,
            Event::RunStarted(_)
                | Event::GateAsked { .. }
                | Event::GateAnswered { .. }
                | Event::Interrupted { .. }
                | Event::RunEnded(_)
        );
        let due = self.drawn.is_none_or(|drawn| time.as_millisecond() - drawn.as_millisecond() >= FRAME_MS);
        if at_once || (due && !self.items.is_empty()) {
            self.draw(time);
        }
    }

    fn recall(&mut self, time: Timestamp, event: &Event) {
        self.board.event(time, event);
        self.ending.event(event);
    }

    fn tick(&mut self, now: Timestamp) {
        self.draw(now);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, Paper, Script, at, begin, done, output, progress};
    use super::super::text;
    use super::*;
    use crate::event::{RunOutcome, StepOutcome};

    const COLUMNS: usize = 80;

    /// What a terminal shows after these bytes, scrolled lines included. Knows what [`Screen`] uses.
    fn terminal(bytes: &str) -> Vec<String> {
        let mut lines: Vec<Vec<char>> = vec![Vec::new()];
        let (mut row, mut column) = (0, 0);
        let mut chars = bytes.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\r' => column = 0,
                '\n' => {
                    row += 1;
                    if row == lines.len() {
                        lines.push(Vec::new());
                    }
                }
                '\u{1b}' => {
                    assert_eq!(chars.next(), Some('['));
                    let mut code = String::new();
                    let end = loop {
                        match chars.next().unwrap() {
                            c if c.is_ascii_alphabetic() => break c,
                            c => code.push(c),
                        }
                    };
                    match end {
                        'A' => row -= code.parse::<usize>().unwrap(),
                        'B' => row += code.parse::<usize>().unwrap(),
                        'C' => column += code.parse::<usize>().unwrap(),
                        'D' => column -= code.parse::<usize>().unwrap(),
                        'K' if code == "2" => lines[row].clear(),
                        'K' => lines[row].truncate(column),
                        'J' => {
                            lines.truncate(row + 1);
                            lines[row].truncate(column);
                        }
                        'm' | 'h' | 'l' => {}
                        other => panic!("unknown sequence {code}{other}"),
                    }
                }
                c => {
                    // A terminal goes on in the next row once one is full and more comes.
                    if column == COLUMNS {
                        (row, column) = (row + 1, 0);
                        lines.resize(lines.len().max(row + 1), Vec::new());
                    }
                    let line = &mut lines[row];
                    line.resize(line.len().max(column + 1), ' ');
                    line[column] = c;
                    column += 1;
                }
            }
        }
        lines.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned()).collect()
    }

    fn console(rows: usize) -> (Console, Paper) {
        let paper = Paper::default();
        let report = Console::new(paper.out(), Look::plain(), Box::new(move || (80, rows)), false);
        (report, paper)
    }

    fn shown(script: &Script) -> String {
        let (mut report, paper) = console(24);
        sample::play(&mut report, script);
        let lines = terminal(&paper.text());
        assert!(lines.iter().all(|line| text::width(line) <= 80), "{lines:#?}");
        lines.join("\n")
    }

    fn until(script: Script, time: i64) -> Script {
        let mut script: Script = script.into_iter().filter(|(at, _)| *at < time).collect();
        script.push((time, progress("none", "")));
        script
    }

    #[test]
    fn finished_lines_stay_and_the_block_shows_what_runs() {
        insta::assert_snapshot!(shown(&until(sample::success(), 73_000)), @r"
        deploy → prod   run k3f9   release 17 is live
          ✓ schema           0042_note.sql                                        0.3s
          ✓ image[api]       pushed sha256:11aa93f0b2c4                          41.2s
          ▸ bundle           transforming 1203 modules                           1m12s
          ▸ service[api]     2 of 2 new running, 1 old draining          31s of ~1m10s
            2 of 7 done, 27 up to date, 3 waiting
        ");
    }

    #[test]
    fn the_block_is_gone_at_the_end() {
        insta::assert_snapshot!(shown(&sample::success()), @r"
        deploy → prod   run k3f9   release 17 is live
          ✓ schema           0042_note.sql                                        0.3s
          ✓ image[api]       pushed sha256:11aa93f0b2c4                          41.2s
          ✓ bundle           npm run build                                       1m13s
          ✓ site             3 uploads, 1 delete                                  2.5s
          ✓ edge             2 paths invalidated                                  4.5s
          ✓ service[api]     ohi-prod-api:41 → :42, 2 of 2 tasks                 1m12s
          ✓ health           200 OK                                               0.5s

          ✓ deploy to prod in 2m14s (last time 2m41s, target 15m met)   release 18

            API    https://api.example.com   2 tasks of ohi-prod-api:42
            Site   https://www.example.com   3 files, 2 paths invalidated

            back to release 17: flow rollback deploy --env prod
        ");
    }

    #[test]
    fn many_steps_take_eight_lines() {
        let names: Vec<String> = (0..40).map(|n| format!("check[{n}]")).collect();
        let planned: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut script: Script = vec![(0, Event::RunStarted(sample::started(&planned)))];
        script.extend(names.iter().take(20).map(|name| (10, begin(name, "true", None))));
        script.extend(names.iter().take(3).map(|name| (1500, done(name, "", 1490))));
        script.push((
            3000,
            output(
                "check[3]",
                "\u{1b}[1mtext\u{1b}[0m that is \tmuch longer than there is room on the line for it",
            ),
        ));
        insta::assert_snapshot!(shown(&until(script, 4000)), @r"
        deploy → prod   run k3f9   release 17 is live
          ✓ check[0]         true                                                 1.5s
          ✓ check[1]         true                                                 1.5s
          ✓ check[2]         true                                                 1.5s
          ▸ check[3]         text that is  much longer than there is room on the…   3s
          ▸ check[4]         true                                                   3s
          ▸ check[5]         true                                                   3s
          ▸ check[6]         true                                                   3s
          ▸ check[7]         true                                                   3s
          ▸ check[8]         true                                                   3s
          ▸ check[9]         true                                                   3s
          ▸ check[10]        true                                                   3s
            3 of 40 done, 9 more running, 27 up to date, 20 waiting
        ");
    }

    #[test]
    fn the_block_gives_way_to_a_question() {
        let question = || Event::GateAsked {
            step: sample::step("go"),
            text: "roll 2 services of prod".to_owned(),
            expected: "prod".to_owned(),
        };
        let mut script: Script = vec![
            (0, Event::RunStarted(sample::started(&["image[api]", "go", "schema"]))),
            (10, begin("image[api]", "build and push", None)),
            (20, begin("go", "waits for an answer", None)),
            (30, question()),
            (5000, done("image[api]", "pushed sha256:11aa93f0b2c4", 4990)),
        ];
        insta::assert_snapshot!(shown(&until(script.clone(), 6000)), @r"
        deploy → prod   run k3f9   release 17 is live
          ‖ go               roll 2 services of prod
            type prod to go on, anything else stops here:
        ");

        let (mut report, paper) = console(24);
        sample::play(&mut report, &script);
        std::io::Write::write_all(&mut paper.clone(), b"prod\r\n").unwrap();
        script = vec![
            (7000, Event::GateAnswered { step: sample::step("go"), approved: true, by: "ada".to_owned() }),
            (7010, done("go", "approved by ada@build-7", 6990)),
            (7020, begin("schema", "1 migration", None)),
            (8100, progress("none", "")),
        ];
        for (time, event) in &script {
            report.event(at(*time), event);
        }
        report.tick(at(8200));
        insta::assert_snapshot!(terminal(&paper.text()).join("\n"), @r"
        deploy → prod   run k3f9   release 17 is live
          ‖ go               roll 2 services of prod
            type prod to go on, anything else stops here: prod
          ✓ image[api]       pushed sha256:11aa93f0b2c4                           5.0s
          ✓ go               approved by ada@build-7                              7.0s
          ▸ schema           1 migration                                            1s
            2 of 3 done, 27 up to date
        ");
    }

    #[test]
    fn an_interrupted_question_ends_its_line() {
        let script: Script = vec![
            (0, Event::RunStarted(sample::started(&["go", "schema"]))),
            (20, begin("go", "waits for an answer", None)),
            (
                30,
                Event::GateAsked {
                    step: sample::step("go"),
                    text: "go?".to_owned(),
                    expected: "yes".to_owned(),
                },
            ),
            (2000, Event::Interrupted { signal: "SIGINT".to_owned(), times: 1 }),
            (2010, sample::trouble("go", StepOutcome::Interrupted, 1990, "interrupted", &[], None)),
            (2020, sample::over(RunOutcome::Interrupted, 2020, None, &[])),
        ];
        insta::assert_snapshot!(shown(&script), @r"
        deploy → prod   run k3f9   release 17 is live
          ‖ go               go?
            type yes to go on, anything else stops here:
          SIGINT: nothing new starts, running steps stop; a second one kills them
          ✗ go               interrupted                                          2.0s

          ✗ deploy to prod was interrupted by SIGINT after 2.0s

            Stopped in the middle: go.
            No other step was done.
            Not started: schema.

            log     flow log k3f9 go
            again   flow run deploy --env prod
        ");
    }

    #[test]
    fn a_low_window_is_never_overdrawn() {
        for rows in 1..12 {
            let (mut report, paper) = console(rows);
            let names: Vec<String> = (0..20).map(|n| format!("check[{n}]")).collect();
            let planned: Vec<&str> = names.iter().map(String::as_str).collect();
            report.event(at(0), &Event::RunStarted(sample::started(&planned)));
            for name in &planned {
                report.event(at(10), &begin(name, "true", None));
            }
            report.tick(at(1000));
            let block = report.block(at(1000), rows).len();
            assert!(block < rows.max(2), "{block} of {rows}");
            assert!(!paper.text().is_empty());
        }
    }

    /// A wide graph of quick steps: one line each, and few frames.
    #[test]
    fn a_thousand_steps_take_few_frames() {
        let (mut report, paper) = console(24);
        let names: Vec<String> = (0..1000).map(|n| format!("check[{n}]")).collect();
        let planned: Vec<&str> = names.iter().map(String::as_str).collect();
        report.event(at(0), &Event::RunStarted(sample::started(&planned)));
        for (name, time) in planned.iter().zip(0..) {
            report.event(at(time), &begin(name, "true", None));
            report.event(at(time), &done(name, "", 1));
        }
        report.event(at(1000), &sample::over(RunOutcome::Succeeded, 1000, None, &[]));
        let text = paper.text();
        assert!(text.matches("[?2026h").count() <= 25, "a frame each 50 ms");
        assert_eq!(text.matches("✓ check[").count(), 1000);
    }

    #[test]
    fn output_draws_nothing_by_itself() {
        let (mut report, paper) = console(24);
        report.event(at(0), &Event::RunStarted(sample::started(&["bundle"])));
        report.event(at(10), &begin("bundle", "npm run build", None));
        report.tick(at(100));
        let before = paper.text().len();
        for n in 0..100_000 {
            report.event(at(200 + n / 100), &output("bundle", "a line"));
        }
        assert_eq!(paper.text().len(), before);
    }
}
