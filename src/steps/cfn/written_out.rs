//! A template as JSON, for those who read it with a program: short forms such
//! as `!Ref` are written out, and values have the types that YAML gives them.

use serde_json::{Map, Value as Json, json};

use super::lint::{Node, Value, read};

/// The template; its text where it cannot be read.
pub(super) fn written_out(template: &str) -> Json {
    read(template).map_or_else(|_| json!(template), |node| json(&node))
}

fn json(node: &Node) -> Json {
    let value = match &node.value {
        Value::Text { text, plain: true } if node.tag.is_none() => scalar(text),
        Value::Text { text, .. } => json!(text),
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(pairs) => {
            Json::Object(pairs.iter().map(|(name, value)| (name.clone(), json(value))).collect())
        }
        // CloudFormation knows none.
        Value::Alias => Json::Null,
    };
    match node.tag.as_deref() {
        None => value,
        Some(tag @ ("Ref" | "Condition")) => call(tag.to_owned(), value),
        Some("GetAtt") => {
            let parts =
                value.as_str().and_then(|text| text.split_once('.')).map(|(id, name)| json!([id, name]));
            call("Fn::GetAtt".to_owned(), parts.unwrap_or(value))
        }
        Some(tag) => call(format!("Fn::{tag}"), value),
    }
}

fn call(name: String, argument: Json) -> Json {
    Json::Object(Map::from_iter([(name, argument)]))
}

/// A word without quotes. What would be written otherwise as a number stays text: account ids begin
/// with zeros.
fn scalar(text: &str) -> Json {
    match text {
        "" | "~" | "null" => return Json::Null,
        "true" => return json!(true),
        "false" => return json!(false),
        _ => {}
    }
    let whole =
        text.parse::<i64>().ok().filter(|number| number.to_string() == text).map(|number| json!(number));
    let broken =
        || text.parse::<f64>().ok().filter(|number| number.to_string() == text).map(|number| json!(number));
    whole.or_else(broken).unwrap_or_else(|| json!(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_are_written_out_and_json_stays_as_it_is() {
        let yaml = "Resources:\n  A:\n    Type: AWS::S3::Bucket\n    Properties:\n      Name: !Sub '${B}-x'\n      \
                    Of: !GetAtt B.Arn.Part\n      Is: !Ref B\n      List: [1, 1.5, true, '7', 012, ~]\n      \
                    When: !If [C, !Ref D, no]\n";
        let wanted = json!({ "Resources": { "A": { "Type": "AWS::S3::Bucket", "Properties": {
            "Name": { "Fn::Sub": "${B}-x" },
            "Of": { "Fn::GetAtt": ["B", "Arn.Part"] },
            "Is": { "Ref": "B" },
            "List": [1, 1.5, true, "7", "012", null],
            "When": { "Fn::If": ["C", { "Ref": "D" }, "no"] },
        } } } });
        assert_eq!(written_out(yaml), wanted);
        assert_eq!(written_out(&wanted.to_string()), wanted);
        assert_eq!(written_out("Resources: ["), json!("Resources: ["));
    }
}
