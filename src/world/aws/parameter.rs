//! Parameters of Systems Manager: where an environment's record lies.

use aws_sdk_ssm::types::{ParameterTier, ParameterType};

use super::{AwsError, AwsErrorClass, Cloud};

impl Cloud {
    /// The value of a parameter; `None` when there is none.
    pub async fn parameter(&self, name: &str) -> Result<Option<String>, AwsError> {
        let said = self.reads().await.ssm.get_parameter().name(name).with_decryption(true).send().await;
        match said {
            Ok(said) => Ok(said.parameter.and_then(|parameter| parameter.value)),
            Err(error) => match AwsError::new("SSM", "GetParameter", &error) {
                error if error.class == AwsErrorClass::NotFound => Ok(None),
                error => Err(error),
            },
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
