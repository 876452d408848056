//! A snapshot of flux's database, shared by develop and found by the sandbox account.
//!
//! The flow files are the system's own, with its two account numbers and its two profiles; only what
//! the profiles hold is a stand-in's. That is moto: the sandbox's AWS tells accounts apart too, but
//! cannot share a snapshot.

use crate::support::keys::Person;
use crate::support::moto::{Keys, Moto};
use crate::support::project::{Project, Ran};
use crate::support::proxy::{Fault, Proxy, Which};
use crate::support::sandbox::Sandbox;
use crate::support::system::system;

const DEVELOP: &str = "532595801838";
const SANDBOX: &str = "455510265254";
const ARN: &str = "arn:aws:rds:us-east-1:532595801838:snapshot:proven";

struct Accounts {
    project: Project,
    moto: Moto,
    proxy: Proxy,
    develop: Keys,
    sandbox: Keys,
    approver: Person,
    /// Holds the profiles, outside of the checkout.
    folder: tempfile::TempDir,
}

impl Accounts {
    /// Develop has a database and a snapshot of it that nobody else may see.
    fn new() -> Option<Self> {
        if !super::has("moto_server") {
            return None;
        }
        let moto = Moto::start();
        let proxy = Proxy::start(&moto.address);
        let (develop, sandbox) = (moto.keys(DEVELOP), moto.keys(SANDBOX));
        let database =
            ["rds", "create-db-instance", "--db-instance-identifier", "flux", "--engine", "postgres"];
        let size = ["--db-instance-class", "db.t3.micro", "--allocated-storage", "20"];
        let user = ["--master-username", "flux", "--master-user-password", "correct-horse"];
        moto.aws(&develop, &[&database[..], &size, &user].concat());
        let snapshot = ["rds", "create-db-snapshot", "--db-instance-identifier", "flux"];
        moto.aws(&develop, &[&snapshot[..], &["--db-snapshot-identifier", "proven"]].concat());

        let folder = tempfile::tempdir().unwrap();
        let mut project = system("flux", &Sandbox::find());
        // Whoever has keys in the environment needs no profile.
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"] {
            project.unset(name);
        }
        let file = folder.path().join("config");
        project.set("AWS_CONFIG_FILE", file.to_str().unwrap());
        project.set("AWS_SHARED_CREDENTIALS_FILE", folder.path().join("none").to_str().unwrap());
        let path = [std::env::var("SANDBOX_BIN").unwrap(), std::env::var("PATH").unwrap()].join(":");
        project.set("PATH", &path);
        let accounts =
            Self { approver: Person::new(&project, "ada"), project, moto, proxy, develop, sandbox, folder };
        // Who may sign is asked in both accounts.
        let base = "environment \"base\" {\n";
        let approvals =
            format!("{base}    approvals {{ approver \"ada\" key=\"{}\"; }}\n", accounts.approver.public);
        super::edit(&accounts.project, "flows/project.kdl", base, &approvals);
        accounts.sign_with(&accounts.develop, &accounts.sandbox);
        Some(accounts)
    }

    /// What the two profiles sign with.
    fn sign_with(&self, default: &Keys, sandbox: &Keys) {
        let profile = |title: &str, keys: &Keys| {
            format!(
                "[{title}]\naws_access_key_id = {}\naws_secret_access_key = {}\naws_session_token = {}\nendpoint_url = {}\n",
                keys.id,
                keys.secret,
                keys.token,
                self.proxy.url()
            )
        };
        let text = profile("default", default) + &profile("profile sandbox-sso", sandbox);
        std::fs::write(self.folder.path().join("config"), text).unwrap();
    }

    fn flow(&self, words: &[&str]) -> Ran {
        self.project.run(&[words, &["--env", "sandbox", "-p", "snapshot=proven"]].concat())
    }

    /// Plans, has the plan approved, and runs it.
    fn shared(&self) -> Ran {
        let plan = self.flow(&["plan", "share-snapshot", "--out", "share.plan", "--json"]).exits(0).json();
        let digest = plan["digest"].as_str().unwrap();
        let key = ["--key", &self.approver.file];
        self.project.run(&[&["approve", digest], &key[..]].concat()).exits(0);
        self.proxy.forget();
        self.project.run(&["run", "--plan", "share.plan"])
    }

    /// The accounts that may restore from it, as develop sees it.
    fn may_restore(&self) -> String {
        let words =
            ["rds", "describe-db-snapshot-attributes", "--db-snapshot-identifier", "proven", "--query"];
        let values =
            "DBSnapshotAttributesResult.DBSnapshotAttributes[?AttributeName=='restore'].AttributeValues[]";
        self.moto.aws(&self.develop, &[&words[..], &[values]].concat())
    }

    /// How many accounts were verified before the first call that is about databases.
    fn verified_first(&self) -> usize {
        let calls = self.proxy.calls();
        let first = calls.iter().take_while(|call| !call.starts_with("rds:"));
        first.filter(|call| *call == "sts:GetCallerIdentity").count()
    }
}

#[test]
fn a_snapshot_is_shared_by_develop_and_found_by_the_sandbox_account() {
    let Some(accounts) = Accounts::new() else { return };
    accounts.project.run(&["check"]).exits(0);
    assert_eq!(accounts.may_restore(), "");
    accounts.flow(&["run", "share-snapshot"]).exits(3).says("needs 1: ada");
    assert_eq!(accounts.proxy.effects(), [""; 0], "the gate stands in front of it");

    accounts.shared().exits(0).says(ARN);
    assert_eq!(accounts.verified_first(), 2, "{:?}", accounts.proxy.calls());
    assert_eq!(accounts.proxy.effects(), ["rds:ModifyDBSnapshotAttribute"]);
    assert_eq!(accounts.may_restore(), SANDBOX);
    let words = [
        "rds",
        "describe-db-snapshots",
        "--snapshot-type",
        "shared",
        "--query",
        "DBSnapshots[].DBSnapshotArn",
    ];
    assert_eq!(accounts.moto.aws(&accounts.sandbox, &words), ARN);
    let other = accounts.moto.keys("111111111111");
    assert_eq!(accounts.moto.aws(&other, &words), "", "and with nobody else");

    // Once more: it is shared already.
    accounts.shared().exits(0);
    assert_eq!(accounts.proxy.effects(), [""; 0]);
}

#[test]
fn what_is_not_found_is_not_shared_any_longer() {
    let Some(accounts) = Accounts::new() else { return };
    let nothing = "<DescribeDBSnapshotsResponse><DescribeDBSnapshotsResult><DBSnapshots/>\
         </DescribeDBSnapshotsResult></DescribeDBSnapshotsResponse>";
    accounts.proxy.rule("rds:DescribeDBSnapshots", Which::Every, Fault::Answer(200, nothing.to_owned()));
    accounts.shared().exits(9).says("is not among the");
    assert_eq!(accounts.proxy.effects(), ["rds:ModifyDBSnapshotAttribute"; 2], "shared and taken back");
    assert_eq!(accounts.may_restore(), "");
}

#[test]
fn credentials_of_another_account_than_meant_do_nothing_in_either() {
    let Some(accounts) = Accounts::new() else { return };
    let other = accounts.moto.keys("111111111111");
    for (default, sandbox, found) in [
        (&accounts.sandbox, &accounts.sandbox, (SANDBOX, "develop", DEVELOP)),
        (&accounts.develop, &other, ("111111111111", "sandbox", SANDBOX)),
    ] {
        accounts.sign_with(default, sandbox);
        let (found, environment, wanted) = found;
        let said = format!("belong to account {found}, and environment {environment} is account {wanted}");
        let ran = accounts.flow(&["run", "share-snapshot"]).exits(5);
        let words = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(&said), "{}", ran.err);
        assert_eq!(accounts.proxy.count("rds:"), 0, "{:?}", accounts.proxy.calls());
    }
    assert_eq!(accounts.may_restore(), "");
}
