//! The CDK: `cdk-bootstrap` and `cdk-deploy`, through its own CLI.
//!
//! The CLI synthesises and publishes, since only it knows how; what CloudFormation
//! is asked to do, flow reads, compares and starts itself. One synth serves plan
//! and effect, and every step with the same app and context: see [`assembly`].

mod assembly;
pub mod bootstrap;
pub mod deploy;
mod ownership;
mod synth;
mod toolkit;

use crate::steps::infra::{Common, Tool, ToolSpec, Workplace};
use crate::steps::{Context, Failure};
use crate::world::process::StopSignal;

/// The CLI. Since it has numbers of its own they begin with 2.1000.
static CDK: ToolSpec = ToolSpec {
    name: "cdk",
    ask: &["--version"],
    needs: ">=2.100",
    get: "install it with npm install --global aws-cdk, or name it with program \"npx\" \"cdk\"",
    stop: StopSignal::Int,
};

/// The CLI, ready to be started in the project's folder.
async fn tool(common: &Common, cx: &Context) -> Result<Tool, Failure> {
    // It remembers which account keys belong to: two environments may share theirs.
    let home =
        cx.world.files.root().join(".flow/cache/cdk/home").join(cx.cloud.target().environment.as_str());
    let on = || "1".to_owned();
    let variables = [
        ("CDK_HOME", home.display().to_string()),
        ("CDK_DISABLE_VERSION_CHECK", on()),
        ("CDK_DISABLE_CLI_TELEMETRY", "true".to_owned()),
        ("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", on()),
        ("JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION", on()),
        ("AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED", "true".to_owned()),
        ("PYTHONDONTWRITEBYTECODE", on()),
    ];
    Tool::find(&CDK, common, &Workplace::here(cx), &variables, cx).await
}
