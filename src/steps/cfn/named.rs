//! Types of resources whose physical name a template may give, and where.
//!
//! The rows are from the reference of each type: the property is the name that
//! the provider keeps unique, and another value of it is another resource.

/// Type, property.
const NAMED: &[(&str, &str)] = &[
    ("AWS::Cognito::UserPoolDomain", "Domain"),
    ("AWS::DynamoDB::GlobalTable", "TableName"),
    ("AWS::DynamoDB::Table", "TableName"),
    ("AWS::ECR::Repository", "RepositoryName"),
    ("AWS::ECS::Cluster", "ClusterName"),
    ("AWS::ElastiCache::ReplicationGroup", "ReplicationGroupId"),
    ("AWS::ElasticLoadBalancingV2::LoadBalancer", "Name"),
    ("AWS::Events::EventBus", "Name"),
    ("AWS::IAM::ManagedPolicy", "ManagedPolicyName"),
    ("AWS::IAM::Role", "RoleName"),
    ("AWS::IAM::User", "UserName"),
    ("AWS::KMS::Alias", "AliasName"),
    ("AWS::Kinesis::Stream", "Name"),
    ("AWS::Lambda::Function", "FunctionName"),
    ("AWS::Logs::LogGroup", "LogGroupName"),
    ("AWS::OpenSearchService::Domain", "DomainName"),
    ("AWS::RDS::DBCluster", "DBClusterIdentifier"),
    ("AWS::RDS::DBInstance", "DBInstanceIdentifier"),
    ("AWS::S3::Bucket", "BucketName"),
    ("AWS::SNS::Topic", "TopicName"),
    ("AWS::SQS::Queue", "QueueName"),
    ("AWS::SSM::Parameter", "Name"),
    ("AWS::SageMaker::Endpoint", "EndpointName"),
    ("AWS::SecretsManager::Secret", "Name"),
    ("AWS::StepFunctions::StateMachine", "StateMachineName"),
];

/// The property that names a resource of a type.
pub(in crate::steps) fn naming(kind: &str) -> Option<&'static str> {
    NAMED.iter().find(|(named, _)| *named == kind).map(|(_, property)| *property)
}

/// Whether a physical id is that of the resource with a name: the name itself, or an ARN or address
/// that ends with it. Secrets get six characters more.
pub(in crate::steps) fn is_called(kind: &str, physical: &str, name: &str) -> bool {
    let ends = |physical: &str| {
        physical == name || physical.strip_suffix(name).is_some_and(|before| before.ends_with([':', '/']))
    };
    let secret = || {
        kind == "AWS::SecretsManager::Secret"
            && physical.rsplit_once('-').is_some_and(|(before, random)| random.len() == 6 && ends(before))
    };
    ends(physical) || secret()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_in_every_form_of_a_physical_id() {
        let secret = "AWS::SecretsManager::Secret";
        for (kind, physical, name, same) in [
            ("AWS::S3::Bucket", "uploads", "uploads", true),
            ("AWS::S3::Bucket", "old-uploads", "uploads", false),
            ("AWS::SNS::Topic", "arn:aws:sns:eu-west-1:1:orders", "orders", true),
            ("AWS::SQS::Queue", "https://sqs.eu-west-1.amazonaws.com/1/orders", "orders", true),
            (secret, "arn:aws:secretsmanager:eu-west-1:1:secret:db-a1B2c3", "db", true),
            (secret, "arn:aws:secretsmanager:eu-west-1:1:secret:db", "db", true),
            ("AWS::SSM::Parameter", "/shop/url", "/shop/url", true),
        ] {
            assert_eq!(is_called(kind, physical, name), same, "{kind} {physical}");
        }
    }
}
