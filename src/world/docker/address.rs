//! Where the engine listens, found the way the `docker` program finds it:
//! `DOCKER_HOST`, else the chosen context, else the usual sockets.

use std::path::{Path, PathBuf};

use crate::world::files::digest;
use crate::world::host::Host;

const USUAL: &str = "/var/run/docker.sock";

/// The engine's address, as `DOCKER_HOST` has it. Nothing is connected.
pub(super) fn address(host: &Host) -> String {
    let var = |name| host.var(name).filter(|value| !value.is_empty());
    if let Some(given) = var("DOCKER_HOST") {
        return given.to_owned();
    }
    let home = var("HOME").map(PathBuf::from);
    let config = var("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(".docker")));
    if let Some(chosen) = config.as_deref().and_then(|config| of_context(config, var("DOCKER_CONTEXT"))) {
        return chosen;
    }
    // Rootless engines and desktops that may not write to /var/run.
    let rootless = var("XDG_RUNTIME_DIR").map(|folder| Path::new(folder).join("docker.sock"));
    let desktop = home.map(|home| home.join(".docker/run/docker.sock"));
    let socket = [Some(PathBuf::from(USUAL)), rootless, desktop]
        .into_iter()
        .flatten()
        .find(|socket| socket.exists())
        .unwrap_or_else(|| PathBuf::from(USUAL));
    format!("unix://{}", socket.display())
}

/// What `docker context use` chose; `None` for the default one, and for one that cannot be read.
fn of_context(config: &Path, named: Option<&str>) -> Option<String> {
    let json = |path: PathBuf| serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).ok()?).ok();
    let name = match named {
        Some(name) => name.to_owned(),
        None => json(config.join("config.json"))?.get("currentContext")?.as_str()?.to_owned(),
    };
    if name.is_empty() || name == "default" {
        return None;
    }
    let meta = json(config.join("contexts/meta").join(digest(name.as_bytes())).join("meta.json"))?;
    Some(meta.pointer("/Endpoints/docker/Host")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(vars: &[(&str, &str)]) -> String {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        address(&Host::with(vars))
    }

    #[test]
    fn the_engine_is_found_as_docker_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        let write = |path: &str, text: &str| {
            let path = home.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let home_text = home.to_str().unwrap();
        let with_home = [("HOME", home_text)];
        assert!(found(&with_home).starts_with("unix:///var/run/"));

        write(".docker/config.json", r#"{"auths":{},"currentContext":"colima"}"#);
        assert!(found(&with_home).starts_with("unix:///var/run/"), "a context without an endpoint");
        let meta = format!(".docker/contexts/meta/{}/meta.json", digest(b"colima"));
        write(&meta, r#"{"Name":"colima","Endpoints":{"docker":{"Host":"unix:///c/docker.sock"}}}"#);
        assert_eq!(found(&with_home), "unix:///c/docker.sock");
        assert!(found(&[("HOME", home_text), ("DOCKER_CONTEXT", "default")]).starts_with("unix:///var/run/"));
        assert_eq!(
            found(&[("HOME", home_text), ("DOCKER_HOST", "tcp://1.2.3.4:2375")]),
            "tcp://1.2.3.4:2375"
        );
        let named =
            [("DOCKER_CONFIG", &*home.join(".docker").display().to_string()), ("DOCKER_CONTEXT", "colima")];
        assert_eq!(found(&named), "unix:///c/docker.sock");
    }
}
