//! Statements that break the code which still runs while services roll, and
//! again after a rollback: only the next release may carry them.

use super::statements::{Statement, Token};
use crate::model::secret::Secret;

/// What a statement would do to code that still runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Where, in bytes of the file.
    pub at: usize,
    /// `drops column note`
    pub what: String,
}

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Indexes can be made `CONCURRENTLY`.
    Postgres,
    /// They cannot.
    Other,
}

impl Dialect {
    /// The dialect of the database behind a URL; `PostgreSQL`'s without one.
    pub(super) fn of(url: Option<&Secret>) -> Self {
        let other = |url: &str| ["mysql", "mariadb", "sqlite"].iter().any(|scheme| url.starts_with(scheme));
        if url.is_some_and(|url| other(url.expose())) { Self::Other } else { Self::Postgres }
    }
}

/// Findings of a file, in order. What happens to tables that the same file makes harms nobody.
pub(super) fn lint(statements: &[Statement], dialect: Dialect) -> Vec<Finding> {
    let made: Vec<String> = statements.iter().filter_map(created_table).collect();
    statements.iter().flat_map(|statement| look(statement, &made, dialect)).collect()
}

fn words(statement: &Statement) -> Vec<&str> {
    statement.tokens.iter().map(|token| token.text.as_str()).collect()
}

/// The table that a statement makes.
fn created_table(statement: &Statement) -> Option<String> {
    let words = words(statement);
    let at = words.iter().position(|word| *word == "TABLE")?;
    (words.first() == Some(&"CREATE") && at <= 3)
        .then(|| name(statement.tokens.get(at + 1..).unwrap_or_default()))
        .flatten()
}

/// A name, `IF (NOT) EXISTS` and `ONLY` left out, with its schema.
fn name(tokens: &[Token]) -> Option<String> {
    let mut rest = tokens.iter().skip_while(|token| {
        matches!(token.text.as_str(), "IF" | "NOT" | "EXISTS" | "ONLY" | "CONCURRENTLY" | "COLUMN")
    });
    let mut name = rest.next()?.text.clone();
    while rest.next().is_some_and(|token| token.text == ".") {
        name = format!("{name}.{}", rest.next()?.text);
    }
    Some(name.to_lowercase())
}

fn look(statement: &Statement, made: &[String], dialect: Dialect) -> Vec<Finding> {
    let words = words(statement);
    let found = |what: String| {
        let at = statement.range.start;
        vec![Finding { at, what }]
    };
    let named = |from: usize| name(statement.tokens.get(from..).unwrap_or_default()).unwrap_or_default();
    match words.as_slice() {
        [
            "DROP",
            kind @ ("TABLE" | "VIEW" | "TYPE" | "FUNCTION" | "SCHEMA" | "SEQUENCE" | "DATABASE"),
            ..,
        ] => found(format!("drops {} {}", kind.to_lowercase(), named(2))),
        ["DROP", "MATERIALIZED", "VIEW", ..] => found(format!("drops view {}", named(3))),
        ["TRUNCATE", ..] => found("empties a table".to_owned()),
        ["RENAME", "TABLE", ..] => found(format!("renames table {}", named(2))),
        ["CREATE", "INDEX", rest @ ..] | ["CREATE", "UNIQUE", "INDEX", rest @ ..]
            if dialect == Dialect::Postgres && rest.first() != Some(&"CONCURRENTLY") =>
        {
            let on = words.iter().position(|word| *word == "ON").map(|at| named(at + 1)).unwrap_or_default();
            if made.contains(&on) {
                Vec::new()
            } else {
                found(format!("makes an index without CONCURRENTLY, which stops writes to {on} meanwhile"))
            }
        }
        ["ALTER", "TABLE", ..] => {
            let table = named(2);
            if made.contains(&table) { Vec::new() } else { alter(statement, &table) }
        }
        ["ALTER", _, ..] if words.contains(&"RENAME") => found("renames something".to_owned()),
        _ => Vec::new(),
    }
}

/// The actions of `ALTER TABLE`, which commas outside brackets part.
fn alter(statement: &Statement, table: &str) -> Vec<Finding> {
    let mut actions: Vec<Vec<&Token>> = vec![Vec::new()];
    let mut depth = 0_usize;
    for token in &statement.tokens {
        match token.text.as_str() {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        match actions.last_mut() {
            Some(action) if token.text != "," || depth > 0 => action.push(token),
            _ => actions.push(Vec::new()),
        }
    }
    if let Some(first) = actions.first_mut() {
        let begins = ["ADD", "DROP", "ALTER", "RENAME", "MODIFY", "CHANGE", "SET", "VALIDATE"];
        let start = first.iter().skip(2).position(|token| begins.contains(&token.text.as_str()));
        first.drain(..start.map_or(first.len(), |at| at + 2));
    }
    actions.iter().filter_map(|action| judge(action, table)).collect()
}

fn judge(action: &[&Token], table: &str) -> Option<Finding> {
    let words: Vec<&str> = action.iter().map(|token| token.text.as_str()).collect();
    let at = action.first()?.at;
    let has = |sequence: &[&str]| words.windows(sequence.len()).any(|window| window == sequence);
    let column = || {
        let owned: Vec<Token> = action.iter().skip(1).map(|token| (*token).clone()).collect();
        name(&owned).unwrap_or_default()
    };
    let what = match words.as_slice() {
        ["DROP", "CONSTRAINT" | "INDEX" | "FOREIGN" | "PRIMARY" | "KEY", ..]
        | ["RENAME", "CONSTRAINT" | "INDEX" | "KEY", ..] => return None,
        ["DROP", ..] => format!("drops column {} of {table}", column()),
        ["RENAME", "TO", ..] => format!("renames table {table}"),
        ["RENAME", ..] => format!("renames column {} of {table}", column()),
        ["MODIFY" | "CHANGE", ..] => format!("changes column {} of {table}", column()),
        ["ALTER", ..] if words.contains(&"TYPE") => {
            format!("changes the type of column {} of {table}", column())
        }
        ["ALTER", ..] if has(&["SET", "NOT", "NULL"]) => {
            format!(
                "makes column {} of {table} NOT NULL, which code that leaves it out cannot write",
                column()
            )
        }
        ["ADD", "CONSTRAINT" | "CHECK" | "UNIQUE" | "PRIMARY" | "FOREIGN" | "INDEX" | "KEY", ..] => {
            if has(&["NOT", "VALID"]) || has(&["USING", "INDEX"]) {
                return None;
            }
            format!("adds a constraint to {table}, which is checked on every row while writes wait")
        }
        ["ADD", ..]
            if has(&["NOT", "NULL"])
                && !words
                    .iter()
                    .any(|word| matches!(*word, "DEFAULT" | "GENERATED" | "SERIAL" | "BIGSERIAL")) =>
        {
            format!("adds column {} of {table} NOT NULL without a default", column())
        }
        _ => return None,
    };
    Some(Finding { at, what })
}

#[cfg(test)]
mod tests {
    use super::super::statements::split;
    use super::*;

    #[test]
    fn what_breaks_running_code_is_found() {
        for (sql, wanted) in [
            ("create table a (id int primary key, b text not null);", vec![]),
            ("alter table a add column b text;", vec![]),
            ("alter table a add column b text not null default '';", vec![]),
            ("alter table a add b text not null", vec!["adds column b of a NOT NULL without a default"]),
            ("alter table only public.a drop column if exists b", vec!["drops column b of public.a"]),
            ("alter table a drop constraint c", vec![]),
            ("drop table if exists x.y", vec!["drops table x.y"]),
            ("drop index concurrently i", vec![]),
            ("alter table a rename b to c", vec!["renames column b of a"]),
            ("alter table a rename to b", vec!["renames table a"]),
            (
                "alter table a alter column b type bigint using b::bigint, add c int",
                vec!["changes the type of column b of a"],
            ),
            ("alter table a add c numeric(10, 2), drop d", vec!["drops column d of a"]),
            (
                "create index i on a (b)",
                vec!["makes an index without CONCURRENTLY, which stops writes to a meanwhile"],
            ),
            ("create index concurrently i on a (b)", vec![]),
            ("create table a (b int); create index i on a (b); alter table a add c int not null", vec![]),
            ("alter type mood add value 'x'", vec![]),
            ("select 'drop table a'; -- drop table a", vec![]),
            ("alter table a add constraint c check (b > 0) not valid", vec![]),
        ] {
            let found: Vec<String> =
                lint(&split(sql), Dialect::Postgres).into_iter().map(|finding| finding.what).collect();
            assert_eq!(found, wanted, "{sql}");
        }
    }
}
