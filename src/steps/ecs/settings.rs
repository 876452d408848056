//! Settings that several ECS kinds read alike.

use crate::model::settings::Unready;
use crate::model::value::{Field, Value};

/// Text that everybody who may look at the task definition can read.
pub fn open_text(setting: &'static str, name: &str, field: &Field<Value>) -> Result<Field<String>, Unready> {
    match field {
        Field::After(step) => Ok(Field::After(step.clone())),
        Field::Known(value) => value.as_text().map(Field::Known).ok_or_else(|| Unready::Invalid {
            setting,
            why: format!(
                "{name} is a secret, and ECS shows a container's variables to everybody who may look; \
                 write secret \"{name}\" from=\"ARN\""
            ),
        }),
    }
}

/// A number that is not too small.
pub fn at_least(setting: &'static str, least: i64, number: Option<i64>) -> Result<Option<i64>, Unready> {
    match number {
        Some(number) if number < least => {
            Err(Unready::Invalid { setting, why: format!("{number} is less than {least}") })
        }
        _ => Ok(number),
    }
}
