//! Names as a template writes them, with all that CloudFormation would fill in
//! where that is known: parts joined, the account, the region, defaults.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::steps::cdk::assembly::AppStack;
use crate::steps::cfn::named::naming;

/// A resource that its template names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub kind: String,
    pub name: String,
}

/// A template, and what may be filled in.
pub(super) struct Literals<'a> {
    template: &'a Json,
    known: BTreeMap<&'a str, String>,
}

impl<'a> Literals<'a> {
    pub(super) fn new(stack: &'a AppStack, account: &str, region: &str) -> Self {
        Self::of(&stack.template, &stack.name, account, region)
    }

    fn of(template: &'a Json, stack: &str, account: &str, region: &str) -> Self {
        let partition = match region {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        let mut known = BTreeMap::from([
            ("AWS::Partition", partition.to_owned()),
            ("AWS::AccountId", account.to_owned()),
            ("AWS::Region", region.to_owned()),
            ("AWS::StackName", stack.to_owned()),
            ("AWS::URLSuffix", "amazonaws.com".to_owned()),
        ]);
        for (name, parameter) in template["Parameters"].as_object().into_iter().flatten() {
            let plain = !parameter["Type"].as_str().is_some_and(|kind| kind.starts_with("AWS::SSM::"));
            if let (true, Some(default)) = (plain, parameter["Default"].as_str()) {
                known.insert(name, default.to_owned());
            }
        }
        Self { template, known }
    }

    /// The resources that it names.
    pub(super) fn named(&self) -> Vec<Named> {
        let resources = self.template["Resources"].as_object().into_iter().flatten();
        let named = resources.filter_map(|(_, resource)| {
            // One that a condition may leave out is not judged.
            if resource.get("Condition").is_some() {
                return None;
            }
            let kind = resource["Type"].as_str()?;
            let name = self.literal(resource["Properties"].get(naming(kind)?)?)?;
            Some(Named { kind: kind.to_owned(), name })
        });
        named.collect()
    }

    /// The buckets that it refers to by ARN.
    pub(super) fn buckets(&self) -> BTreeSet<String> {
        let mut texts = Vec::new();
        self.texts(&self.template["Resources"], &mut texts);
        let bucket = |text: &String| {
            let mut parts = text.splitn(6, ':');
            let (arn, _, service) = (parts.next()?, parts.next()?, parts.next()?);
            let (region, account) = (parts.next()?, parts.next()?);
            let name = parts.next()?.split('/').next()?;
            let is_bucket = arn == "arn" && service == "s3" && region.is_empty() && account.is_empty();
            let is_one = !name.is_empty() && !name.contains(['*', '?', '$']);
            (is_bucket && is_one && !is_toolkits(name)).then(|| name.to_owned())
        };
        texts.iter().filter_map(bucket).collect()
    }

    /// The exports that it takes.
    pub(super) fn imports(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        self.imports_in(self.template, &mut all);
        all
    }

    fn imports_in(&self, value: &Json, all: &mut BTreeSet<String>) {
        match value {
            Json::Array(items) => items.iter().for_each(|item| self.imports_in(item, all)),
            Json::Object(fields) => {
                for (key, value) in fields {
                    if key == "Fn::ImportValue" {
                        all.extend(self.literal(value));
                    } else {
                        self.imports_in(value, all);
                    }
                }
            }
            _ => {}
        }
    }

    /// The exports that it makes.
    pub(super) fn exports(&self) -> Vec<String> {
        let outputs = self.template["Outputs"].as_object().into_iter().flatten();
        outputs.filter_map(|(_, output)| self.literal(output.get("Export")?.get("Name")?)).collect()
    }

    /// Every text in a value that can be told in full.
    fn texts(&self, value: &Json, all: &mut Vec<String>) {
        if let Some(text) = self.literal(value) {
            all.push(text);
            return;
        }
        match value {
            Json::Array(items) => items.iter().for_each(|item| self.texts(item, all)),
            Json::Object(fields) => fields.values().for_each(|value| self.texts(value, all)),
            _ => {}
        }
    }

    /// A value, if nothing of it is known only while it is deployed.
    fn literal(&self, value: &Json) -> Option<String> {
        match value {
            Json::String(text) => Some(text.clone()),
            Json::Number(number) => Some(number.to_string()),
            Json::Object(fields) if fields.len() == 1 => {
                let (function, argument) = fields.iter().next()?;
                match function.as_str() {
                    "Ref" => self.known.get(argument.as_str()?).cloned(),
                    "Fn::Join" => {
                        let parts = argument.get(1)?.as_array()?;
                        let parts: Option<Vec<String>> =
                            parts.iter().map(|part| self.literal(part)).collect();
                        Some(parts?.join(argument.get(0)?.as_str()?))
                    }
                    "Fn::Sub" => self.filled_in(argument.as_str()?),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn filled_in(&self, text: &str) -> Option<String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("${") {
            let (name, after) = behind.split_once('}')?;
            filled.push_str(before);
            match name.strip_prefix('!') {
                Some(plain) => filled.push_str(&format!("${{{plain}}}")),
                None => filled.push_str(self.known.get(name)?),
            }
            rest = after;
        }
        filled.push_str(rest);
        Some(filled)
    }
}

/// The toolkit's own buckets are its business.
fn is_toolkits(bucket: &str) -> bool {
    bucket.starts_with("cdk-") && bucket.contains("-assets-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = r#"{
      "Parameters": {"Name": {"Type": "String", "Default": "models"},
        "BootstrapVersion": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/x"}},
      "Resources": {
        "A": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "uploads"}},
        "B": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": {"Fn::Sub": "${Name}-${AWS::AccountId}"}}},
        "C": {"Type": "AWS::S3::Bucket"},
        "D": {"Type": "AWS::S3::Bucket", "Condition": "Never", "Properties": {"BucketName": "perhaps"}},
        "E": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": {"Ref": "BootstrapVersion"}}},
        "Policy": {"Type": "AWS::IAM::Policy", "Properties": {"Resource": [
          {"Fn::Join": ["", ["arn:", {"Ref": "AWS::Partition"}, ":s3:::other/*"]]},
          {"Fn::Join": ["", ["arn:aws:s3:::", {"Fn::GetAtt": ["A", "Arn"]}]]},
          "arn:aws:s3:::logs-*", "arn:aws:s3:::cdk-hnb659fds-assets-1-eu-west-1/x",
          {"Fn::ImportValue": {"Fn::Sub": "${AWS::StackName}-Key"}}]}}},
      "Outputs": {"X": {"Value": "x", "Export": {"Name": "shop-X"}}}}"#;

    #[test]
    fn what_a_template_names_and_takes() {
        let template: Json = serde_json::from_str(TEMPLATE).expect("JSON");
        let literals = Literals::of(&template, "ml", "123456789012", "eu-west-1");
        let named: Vec<String> = literals.named().into_iter().map(|named| named.name).collect();
        assert_eq!(named, ["uploads", "models-123456789012"]);
        assert_eq!(literals.buckets().into_iter().collect::<Vec<_>>(), ["other"]);
        assert_eq!(literals.imports().into_iter().collect::<Vec<_>>(), ["ml-Key"]);
        assert_eq!(literals.exports(), ["shop-X"]);
    }
}
