//! A second stand-in for AWS, which tells accounts apart also where one shares something with another:
//! the sandbox's own knows no shared snapshots.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::wait::until;

/// A server of its own; ends when dropped.
#[derive(Debug)]
pub(crate) struct Moto {
    server: Child,
    /// `127.0.0.1:40123`
    pub address: String,
}

/// What signs for one account.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub id: String,
    pub secret: String,
    pub token: String,
}

impl Moto {
    /// Starts one with nothing in it.
    pub(crate) fn start() -> Self {
        // Bound and let go: the system gives it to nobody else so soon.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let program = Path::new(&std::env::var("SANDBOX_TOOLS").unwrap()).join("moto_server");
        let server = Command::new(program)
            .args(["-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = format!("127.0.0.1:{port}");
        until("moto answers", || std::net::TcpStream::connect(&address).is_ok());
        Self { server, address }
    }

    /// Keys of an account: those of a role in it, which need not exist.
    pub(crate) fn keys(&self, account: &str) -> Keys {
        let nobody = Keys { id: "test".to_owned(), secret: "test".to_owned(), token: String::new() };
        let role = format!("arn:aws:iam::{account}:role/deploy");
        let words = ["sts", "assume-role", "--role-arn", &role, "--role-session-name", "test", "--query"];
        let fields = "Credentials.[AccessKeyId,SecretAccessKey,SessionToken]";
        let said = self.aws(&nobody, &[&words[..], &[fields]].concat());
        let [id, secret, token] = said.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
        let [id, secret, token] = [id, secret, token].map(str::to_owned);
        Keys { id, secret, token }
    }

    /// The aws-cli with these keys; what it prints, without the line's end.
    #[track_caller]
    pub(crate) fn aws(&self, keys: &Keys, arguments: &[&str]) -> String {
        let mut command = Command::new(Path::new(&std::env::var("SANDBOX_BIN").unwrap()).join("aws"));
        command
            .args(["--endpoint-url", &format!("http://{}", self.address), "--region", "us-east-1"])
            .args(["--output", "text"])
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", &keys.id)
            .env("AWS_SECRET_ACCESS_KEY", &keys.secret);
        if !keys.token.is_empty() {
            command.env("AWS_SESSION_TOKEN", &keys.token);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "aws {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
