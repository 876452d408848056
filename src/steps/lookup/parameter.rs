//! Parameters of Systems Manager.

use super::{Found, VALUE, lacking};
use crate::model::secret::Secret;
use crate::model::value::{Outputs, Value};
use crate::steps::{Context, Failure, FailureClass};
use crate::world::aws::{Kept, Parameter};

/// The value of a parameter.
pub(super) async fn look(cx: &Context, name: &str) -> Result<Found, Failure> {
    let Some(found) = cx.cancel.unless_stopped(cx.cloud.whole_parameter(name)).await?? else {
        // What else there is only helps: who may read one parameter may not be allowed to list them.
        let near = cx.cancel.unless_stopped(cx.cloud.parameter_names(beginning(name))).await?;
        let near = near.unwrap_or_default();
        let known: Vec<&str> = near.iter().map(String::as_str).collect();
        let place = &cx.cloud.target().environment;
        return Err(lacking(&format!("there is no parameter {name} in {place}"), name, &known));
    };
    if matches!(found.kept, Kept::Secret) && !cx.world.host.trusts_the_checkout() {
        let reason = format!("parameter {name} is encrypted and is not read: the checkout is not trusted");
        return Err(Failure::of(FailureClass::Passing, reason));
    }
    let outputs = Outputs::from([(VALUE.to_owned(), value(found))]);
    Ok(Found { what: format!("parameter {name}"), outputs })
}

fn value(found: Parameter) -> Value {
    match found.kept {
        Kept::Secret => Value::Secret(Secret::new(found.value)),
        Kept::List => Value::texts(found.value.split(',')),
        Kept::Text => Value::Text(found.value),
    }
}

/// The part of a name up to the last slash: its neighbours have it too.
fn beginning(name: &str) -> &str {
    name.rfind('/').and_then(|slash| name.get(..=slash)).filter(|part| !part.is_empty()).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_what_its_type_says() {
        let parameter = |kept| Parameter { value: "a,b".to_owned(), kept, version: 1 };
        assert_eq!(value(parameter(Kept::Text)), Value::text("a,b"));
        assert_eq!(value(parameter(Kept::List)), Value::texts(["a", "b"]));
        assert!(value(parameter(Kept::Secret)).is_secret());
        for (name, wanted) in [("/shop/dev/url", "/shop/dev/"), ("/url", "/"), ("url", "/")] {
            assert_eq!(beginning(name), wanted, "{name}");
        }
    }
}
