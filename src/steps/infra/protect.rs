//! Resources that hold what cannot be made again: never replaced or deleted
//! unless the flow says so.

use super::preview::{Op, ResourceChange};
use crate::steps::{Failure, FailureClass};

/// Ends the protection of what holds data.
const NONE: &str = "none";

/// What stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::steps) struct Protect {
    named: Vec<String>,
    /// What holds data stays without being named.
    data: bool,
}

impl Protect {
    /// As the setting says: types and names; `none` ends the protection of what holds data.
    pub(in crate::steps) fn new(texts: Vec<String>) -> Self {
        let data = !texts.iter().any(|text| text == NONE);
        Self { named: texts.into_iter().filter(|text| text != NONE).collect(), data }
    }

    /// The setting that says it.
    pub(in crate::steps) fn texts(&self) -> Vec<String> {
        let none = (!self.data).then(|| NONE.to_owned());
        none.into_iter().chain(self.named.iter().cloned()).collect()
    }

    /// Whether a resource may not go.
    fn covers(&self, change: &ResourceChange) -> bool {
        (self.data && holds_data(&change.kind))
            || self
                .named
                .iter()
                .any(|named| *named == change.kind || *named == change.id || is_last_part(&change.id, named))
    }

    /// Refuses a preview that would take away what stays; names each.
    pub(super) fn guard(&self, changes: &[ResourceChange]) -> Result<(), Failure> {
        let lost: Vec<String> = changes
            .iter()
            .filter(|change| matches!(change.op, Op::Replace | Op::Delete) && self.covers(change))
            .map(|change| change.shown().to_string())
            .collect();
        if lost.is_empty() {
            return Ok(());
        }
        let what = if lost.len() == 1 { "a protected resource" } else { "protected resources" };
        Err(Failure::of(FailureClass::Refused, format!("this would replace or delete {what}"))
            .details(lost)
            .help("keep it as it is, or write protect \"none\" where its data may go"))
    }
}

/// `orders` of `aws_db_instance.orders` and `urn:…::Database::orders`.
fn is_last_part(id: &str, name: &str) -> bool {
    id.strip_suffix(name).is_some_and(|before| before.ends_with(['.', ':', '/']))
}

/// Whether resources of a type hold what cannot be made again: databases, tables, buckets, file
/// systems and user pools, as every system of types calls them. Judged by the words of its name, so
/// that `aws_db_instance`, `AWS::RDS::DBInstance` and `aws:rds/instance:Instance` are the same.
fn holds_data(kind: &str) -> bool {
    let words = words(kind);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ends = |tail: &[&str]| words.ends_with(tail);
    let has = |word: &str| words.contains(&word);
    let any = |all: &[&str]| all.iter().any(|word| has(word));
    match words.last() {
        Some(&("bucket" | "database" | "filesystem" | "userpool")) => true,
        Some(&"system") => ends(&["file", "system"]),
        Some(&"pool") => ends(&["user", "pool"]),
        Some(&"table") => any(&["dynamodb", "timestream", "cassandra", "keyspaces", "bigquery", "bigtable"]),
        Some(&"instance") => {
            !ends(&["cluster", "instance"]) && any(&["db", "rds", "docdb", "neptune", "database", "sql"])
        }
        Some(&"cluster") => any(&["db", "rds", "docdb", "neptune", "redshift", "aurora"]),
        Some(&"domain") => any(&["opensearch", "opensearchservice", "elasticsearch"]),
        Some(&"server") => any(&["postgresql", "mysql", "mssql"]),
        _ => false,
    }
}

/// The words of a type's name, in small letters; a version at the end (`BucketV2`) is none.
fn words(kind: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let (mut word, mut before) = (String::new(), ' ');
    let chars: Vec<char> = kind.chars().collect();
    for (place, &c) in chars.iter().enumerate() {
        let next_is_small = chars.get(place + 1).is_some_and(char::is_ascii_lowercase);
        // `DBInstance` is two words, and `userPool` too.
        let begins = c.is_ascii_uppercase()
            && (before.is_ascii_lowercase() || (before.is_ascii_uppercase() && next_is_small));
        if (begins || !c.is_ascii_alphanumeric()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_ascii_alphanumeric() {
            word.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    let is_version = |word: &String| {
        word.strip_prefix('v')
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    while words.last().is_some_and(is_version) {
        words.pop();
    }
    // `DynamoDB`, `OpenSearch` and `DocDB` are one word each.
    let mut joined: Vec<String> = Vec::new();
    for word in words {
        match joined.last_mut() {
            Some(last) if is_one(last, &word) => last.push_str(&word),
            _ => joined.push(word),
        }
    }
    joined
}

fn is_one(first: &str, second: &str) -> bool {
    matches!(
        (first, second),
        ("dynamo" | "doc", "db")
            | ("open" | "elastic", "search")
            | ("opensearch", "service")
            | ("big", "query" | "table")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_data_is_known_in_every_system_of_types() {
        for kind in [
            "aws_db_instance",
            "aws_rds_cluster",
            "aws_dynamodb_table",
            "aws_s3_bucket",
            "aws_efs_file_system",
            "aws_fsx_lustre_file_system",
            "aws_cognito_user_pool",
            "aws_docdb_cluster",
            "aws_opensearch_domain",
            "aws_redshift_cluster",
            "google_sql_database_instance",
            "azurerm_postgresql_flexible_server",
            "AWS::RDS::DBInstance",
            "AWS::RDS::DBCluster",
            "AWS::RDS::GlobalCluster",
            "AWS::DynamoDB::Table",
            "AWS::DynamoDB::GlobalTable",
            "AWS::S3::Bucket",
            "AWS::EFS::FileSystem",
            "AWS::Cognito::UserPool",
            "AWS::DocDB::DBCluster",
            "AWS::Neptune::DBCluster",
            "AWS::OpenSearchService::Domain",
            "aws:rds/instance:Instance",
            "aws:rds/cluster:Cluster",
            "aws:dynamodb/table:Table",
            "aws:s3/bucket:Bucket",
            "aws:s3/bucketV2:BucketV2",
            "aws:efs/fileSystem:FileSystem",
            "aws:cognito/userPool:UserPool",
            "aws-native:rds:DbInstance",
            "sandbox:index:Database",
        ] {
            assert!(holds_data(kind), "{kind} {:?}", words(kind));
        }
    }

    #[test]
    fn what_only_belongs_to_it_is_free() {
        for kind in [
            "aws_s3_bucket_policy",
            "aws_route_table",
            "aws_rds_cluster_instance",
            "aws_ecs_cluster",
            "aws_instance",
            "aws_cognito_user_pool_client",
            "AWS::S3::BucketPolicy",
            "AWS::EC2::RouteTable",
            "AWS::Cognito::UserPoolClient",
            "AWS::RDS::DBSubnetGroup",
            "AWS::ECS::Cluster",
            "aws:s3/bucketPolicy:BucketPolicy",
            "aws:ec2/instance:Instance",
            "aws:ecs/cluster:Cluster",
            "aws_acm_certificate",
            "terraform_data",
            "",
        ] {
            assert!(!holds_data(kind), "{kind} {:?}", words(kind));
        }
    }

    fn change(id: &str, kind: &str, op: Op) -> ResourceChange {
        ResourceChange { op, ..ResourceChange::new(id, kind, op) }
    }

    #[test]
    fn what_is_protected_is_refused_by_name() {
        let data = Protect::new(Vec::new());
        let taken = [
            change("aws_db_instance.orders", "aws_db_instance", Op::Replace),
            change("aws_s3_bucket.logs", "aws_s3_bucket", Op::Update),
            change("null_resource.x", "null_resource", Op::Delete),
        ];
        let failure = data.guard(&taken).unwrap_err();
        assert_eq!(failure.class, FailureClass::Refused);
        assert_eq!(failure.record.reason, "this would replace or delete a protected resource");
        assert_eq!(failure.record.details, ["aws_db_instance.orders  there → replaced"]);

        assert!(Protect::new(vec!["none".to_owned()]).guard(&taken).is_ok());
        for named in ["null_resource", "null_resource.x", "x"] {
            let protect = Protect::new(vec!["none".to_owned(), named.to_owned()]);
            let failure = protect.guard(&taken).unwrap_err();
            assert_eq!(failure.record.details, ["null_resource.x  there → none"], "{named}");
            assert_eq!(protect.texts(), ["none", named]);
        }
    }
}
