//! Parameters of Systems Manager: where an environment's record lies, and what
//! other pipelines left for this one.

use aws_sdk_ssm::types::{ParameterStringFilter, ParameterTier, ParameterType};

use super::{AwsError, AwsErrorClass, Cloud};

/// A parameter as it is.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Decrypted.
    pub value: String,
    /// How it is kept.
    pub kept: Kept,
    /// Counted from 1 by Systems Manager.
    pub version: i64,
}

/// How Systems Manager keeps a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the open.
    Text,
    /// In the open, separated by commas.
    List,
    /// Encrypted.
    Secret,
}

/// More names than this help nobody who mistyped one.
const NAMES: usize = 200;

impl Cloud {
    /// The value of a parameter; `None` when there is none.
    pub async fn parameter(&self, name: &str) -> Result<Option<String>, AwsError> {
        Ok(self.whole_parameter(name).await?.map(|parameter| parameter.value))
    }

    /// A parameter; `None` when there is none. One that is encrypted stays so where the checkout is not
    /// trusted.
    pub async fn whole_parameter(&self, name: &str) -> Result<Option<Parameter>, AwsError> {
        let asked = self.reads().await.ssm.get_parameter().name(name);
        let said = asked.with_decryption(self.host.trusts_the_checkout()).send().await;
        let found = match said {
            Ok(said) => said.parameter,
            Err(error) => match AwsError::new("SSM", "GetParameter", &error) {
                error if error.class == AwsErrorClass::NotFound => return Ok(None),
                error => return Err(error),
            },
        };
        Ok(found.and_then(|found| {
            let kept = match found.r#type {
                Some(ParameterType::SecureString) => Kept::Secret,
                Some(ParameterType::StringList) => Kept::List,
                _ => Kept::Text,
            };
            Some(Parameter { value: found.value?, kept, version: found.version })
        }))
    }

    /// The names of parameters whose name begins so, as many as help somebody who mistyped one.
    pub async fn parameter_names(&self, beginning: &str) -> Result<Vec<String>, AwsError> {
        let invalid = |error: aws_smithy_types::error::operation::BuildError| AwsError {
            service: "SSM",
            operation: "DescribeParameters",
            class: AwsErrorClass::NotSent,
            code: None,
            message: error.to_string(),
            request_id: None,
        };
        let filter = ParameterStringFilter::builder().key("Name").option("BeginsWith").values(beginning);
        let filter = filter.build().map_err(invalid)?;
        let mut names = Vec::new();
        let mut token = None;
        loop {
            let request = self.reads().await.ssm.describe_parameters().parameter_filters(filter.clone());
            let page = request.max_results(50).set_next_token(token.take()).send().await;
            let page = page.map_err(|error| AwsError::new("SSM", "DescribeParameters", &error))?;
            names.extend(page.parameters().iter().filter_map(|one| one.name()).map(str::to_owned));
            token = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() || names.len() >= NAMES {
                return Ok(names);
            }
        }
    }

    /// Writes a parameter, whether or not there is one. The same value again changes nothing, so
    /// whoever gets no answer may do it once more.
    pub async fn put_parameter(&self, name: &str, value: &str, about: &str) -> Result<(), AwsError> {
        let said = self
            .writes()
            .await
            .ssm
            .put_parameter()
            .name(name)
            .value(value)
            .description(about)
            .r#type(ParameterType::String)
            // More than 4 kB becomes an advanced one by itself.
            .tier(ParameterTier::IntelligentTiering)
            .overwrite(true)
            .send()
            .await;
        said.map(drop).map_err(|error| AwsError::new("SSM", "PutParameter", &error))
    }
}
