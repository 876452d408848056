//! Things that others deployed, really there.

use aws_sdk_ssm::types::ParameterType;

use super::KIND;
use crate::model::change::Action;
use crate::model::value::{Outputs, Value};
use crate::steps::sandbox::{Bench, Settings};
use crate::steps::{Failure, FailureClass};

struct Base(Bench);

impl Base {
    fn new(name: &str) -> Option<Self> {
        Some(Self(Bench::new(name)?))
    }

    async fn read(&self, settings: Settings) -> Result<Outputs, Failure> {
        let proposal = self.0.plan(&KIND, &settings.ready(), &self.0.context(None)).await?;
        assert_eq!(proposal.action, Action::UpToDate, "a lookup changes nothing");
        assert!(proposal.effect.is_none());
        Ok(proposal.outputs)
    }

    async fn refused(&self, settings: Settings) -> Failure {
        let failure = self.read(settings).await.expect_err("it is not there");
        assert_eq!(failure.class, FailureClass::Missing, "a step in front may make it");
        failure
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_and_outputs_of_a_stack_are_known_in_the_plan() {
    let Some(base) = Base::new("base") else { return };
    let name = base.0.unique.as_str();
    let template = format!(
        "Resources:\n  G:\n    Type: AWS::Logs::LogGroup\n    Properties:\n      LogGroupName: {name}\nOutputs:\n  \
         Group:\n    Value: !Ref G\n    Export:\n      Name: {name}-group\n  Fixed:\n    Value: seven\n"
    );
    let aws = base.0.aws().await;
    aws.cloudformation.create_stack().stack_name(name).template_body(template).send().await.expect("a stack");
    let seen = || async {
        let said = aws.cloudformation.describe_stacks().stack_name(name).send().await.expect("the stack");
        said.stacks()[0].stack_status().map(|status| status.as_str().to_owned())
    };
    while seen().await.as_deref() != Some("CREATE_COMPLETE") {
        tokio::task::yield_now().await;
    }

    let export = format!("{name}-group");
    let outputs = base.read(Settings::default().one("export", export.as_str())).await.expect("an export");
    assert_eq!(outputs, Outputs::from([("value".to_owned(), Value::text(name))]));
    let outputs = base.read(Settings::default().one("stack", name)).await.expect("a stack");
    assert_eq!(outputs.keys().collect::<Vec<_>>(), ["Fixed", "Group"]);
    let one = Settings::default().one("stack", name).many("output", &["Fixed"]);
    assert_eq!(
        base.read(one).await.expect("one"),
        Outputs::from([("Fixed".to_owned(), Value::text("seven"))])
    );

    let wrong = base.refused(Settings::default().one("export", format!("{name}-grup").as_str())).await;
    assert_eq!(wrong.record.reason, format!("no stack in sandbox (us-east-1) exports {name}-grup"));
    assert_eq!(wrong.record.help, Some(format!("did you mean {name}-group?")));
    let wrong = base.refused(Settings::default().one("stack", format!("{name}x").as_str())).await;
    assert_eq!(wrong.record.help, Some(format!("did you mean {name}?")));
    let wrong = base.refused(Settings::default().one("stack", name).many("output", &["Grup"])).await;
    assert_eq!(wrong.record.help.as_deref(), Some("did you mean Group?"));
    aws.cloudformation.delete_stack().stack_name(name).send().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_is_read_and_a_secure_one_is_a_secret() {
    let Some(base) = Base::new("parameter") else { return };
    let name = |last: &str| format!("/{}/{last}", base.0.unique);
    for (last, kind, value) in [
        ("url", ParameterType::String, "http://db.internal"),
        ("zones", ParameterType::StringList, "a,b"),
        ("password", ParameterType::SecureString, "hunter22hunter22"),
        ("pin", ParameterType::SecureString, "123"),
    ] {
        let call = base.0.aws().await.ssm.put_parameter().name(name(last)).value(value).r#type(kind);
        call.send().await.expect("written");
    }
    let of = |last: &str| Settings::default().one("parameter", name(last).as_str());
    assert_eq!(base.read(of("url")).await.expect("text")["value"], Value::text("http://db.internal"));
    assert_eq!(base.read(of("zones")).await.expect("a list")["value"], Value::texts(["a", "b"]));

    let cx = base.0.context(None);
    let plan = base.0.plan(&KIND, &of("password").ready(), &cx).await.expect("a secret");
    assert!(plan.outputs["value"].is_secret());
    let shown = format!("{} {} {:?}", plan.summary, plan.baseline, plan.outputs);
    assert!(!shown.contains("hunter22"), "{shown}");
    assert!(!cx.world.masker.mask("it is hunter22hunter22").contains("hunter22"), "the masker knows it");

    let short = base.read(of("pin")).await.expect_err("nobody could hide it");
    assert_eq!(short.class, FailureClass::Refused);
    let wrong = base.refused(of("pasword")).await;
    assert_eq!(wrong.record.reason, format!("there is no parameter {} in sandbox", name("pasword")));
    assert_eq!(wrong.record.help, Some(format!("did you mean {}?", name("password"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_of_a_terraform_state_are_read_by_terraform() {
    let Some(base) = Base::new("terraform") else { return };
    if std::process::Command::new("terraform").arg("version").output().is_err() {
        eprintln!("skipped: needs terraform");
        return;
    }
    base.0.write(
        "infra/main.tf",
        "output \"url\" {\n  value = \"http://x\"\n}\noutput \"password\" {\n  value     = \"hunter22\"\n  sensitive = true\n}\n",
    );
    let nothing = base.refused(Settings::default().one("terraform", "infra")).await;
    assert_eq!(nothing.record.reason, "terraform in infra has no outputs");
    for arguments in [&["init", "-input=false"][..], &["apply", "-auto-approve", "-input=false"]] {
        let done = std::process::Command::new("terraform")
            .args(arguments)
            .current_dir(base.0.path("infra"))
            .output()
            .expect("terraform");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let outputs = base.read(Settings::default().one("terraform", "infra")).await.expect("outputs");
    assert_eq!(outputs["url"], Value::text("http://x"));
    assert!(outputs["password"].is_secret());
    let wrong = Settings::default().one("terraform", "infra").many("output", &["urll"]);
    assert_eq!(base.refused(wrong).await.record.help.as_deref(), Some("did you mean url?"));
}
