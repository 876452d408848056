//! A stand-in for Elastic Beanstalk, which none of the emulators has: the four calls that a deploy of
//! a version makes, answered as AWS answers them.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One application with one environment.
pub(crate) struct Beanstalk {
    state: Arc<Mutex<State>>,
    address: String,
}

/// What it holds.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Labels of the application's versions.
    pub versions: BTreeSet<String>,
    /// The label that the environment runs.
    pub running: String,
    /// Labels that the environment does not take: it goes back to what it ran.
    pub broken: BTreeSet<String>,
    /// The calls, in order: `UpdateEnvironment ab12cd34`.
    pub calls: Vec<String>,
    /// How often the environment still says that it is updating.
    updating: usize,
    next: String,
}

impl Beanstalk {
    /// Starts it; the environment runs `first`.
    pub(crate) fn start(first: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = State {
            versions: BTreeSet::from([first.to_owned()]),
            running: first.to_owned(),
            next: first.to_owned(),
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &mut shared.lock().unwrap_or_else(PoisonError::into_inner));
            }
        });
        Self { state, address }
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it holds.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request, one answer; whoever breaks off gets none.
fn answer(mut stream: TcpStream, state: &mut State) {
    let Some(form) = read(&mut stream) else { return };
    let (status, body) = state.act(&form);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

/// The fields of a form.
fn read(stream: &mut TcpStream) -> Option<Vec<(String, String)>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
                return Some(pairs.map(|(name, value)| (plain(name), plain(value))).collect());
            }
        }
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        bytes.extend(&buffer[..read]);
    }
}

/// A form's text without its escapes.
fn plain(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = String::from_utf8(digits).unwrap_or_default();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl State {
    fn act(&mut self, form: &[(String, String)]) -> (&'static str, String) {
        let field = |name: &str| {
            form.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let action = field("Action");
        let label = field("VersionLabel");
        if !action.starts_with("Describe") {
            self.calls.push(format!("{action} {label}"));
        }
        let result = match action.as_str() {
            "CreateApplicationVersion" if !self.versions.insert(label.clone()) => {
                return refuse(&format!("Application Version {label} already exists."));
            }
            "CreateApplicationVersion" => {
                format!("<ApplicationVersion><VersionLabel>{label}</VersionLabel></ApplicationVersion>")
            }
            "DescribeApplicationVersions" => {
                let wanted = field("VersionLabels.member.1");
                let found = self.versions.iter().filter(|version| wanted.is_empty() || **version == wanted);
                let rows: Vec<String> = found
                    .map(|label| format!("<member><VersionLabel>{label}</VersionLabel></member>"))
                    .collect();
                format!("<ApplicationVersions>{}</ApplicationVersions>", rows.concat())
            }
            "UpdateEnvironment" if !self.versions.contains(&label) => {
                return refuse(&format!("No Application Version named '{label}' found."));
            }
            "UpdateEnvironment" => {
                (self.next, self.updating) = (label, 2);
                "<Status>Updating</Status>".to_owned()
            }
            "DescribeEnvironments" => {
                let status = if self.updating > 0 { "Updating" } else { "Ready" };
                if self.updating == 1 && !self.broken.contains(&self.next) {
                    self.running.clone_from(&self.next);
                }
                self.updating = self.updating.saturating_sub(1);
                format!(
                    "<Environments><member><EnvironmentName>{}</EnvironmentName><VersionLabel>{}</VersionLabel>\
                     <Status>{status}</Status></member></Environments>",
                    field("EnvironmentNames.member.1"),
                    self.running
                )
            }
            other => return refuse(&format!("{other} is not a call of this stand-in")),
        };
        let body = format!(
            "<{action}Response xmlns=\"http://elasticbeanstalk.amazonaws.com/docs/2010-12-01/\">\
             <{action}Result>{result}</{action}Result></{action}Response>"
        );
        ("200 OK", body)
    }
}

fn refuse(why: &str) -> (&'static str, String) {
    let body = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidParameterValue</Code><Message>{why}</Message></Error>\
         </ErrorResponse>"
    );
    ("400 Bad Request", body)
}
