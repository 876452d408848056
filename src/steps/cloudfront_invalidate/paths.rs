//! The paths of an invalidation: complete, and within CloudFront's quotas.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// CloudFront's quota of single paths in progress per distribution.
const MOST_PATHS: usize = 3000;
/// Its quota of paths that end in `*`, counted apart.
const MOST_WILDCARDS: usize = 15;

/// The paths as CloudFront wants them: with a leading slash, nothing but ASCII, relative to the
/// origins' folders, each once, and with the folder of every `index.html`.
pub(super) fn complete(paths: &[String], origins: &BTreeSet<String>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for path in paths.iter().filter(|path| !path.is_empty()) {
        let path = encoded(&format!("/{}", path.trim_start_matches('/')));
        let mut below: Vec<String> = origins
            .iter()
            .filter(|origin| !origin.is_empty())
            .filter_map(|origin| path.strip_prefix(origin.as_str()))
            .filter(|rest| rest.starts_with('/'))
            .map(str::to_owned)
            .collect();
        if below.is_empty() || origins.contains("") {
            below.push(path);
        }
        for path in below {
            if let Some(folder) = path.strip_suffix("/index.html") {
                all.insert(format!("{folder}/"));
            }
            all.insert(path);
        }
    }
    all
}

/// A path may come encoded already, so only what cannot stand in a URL is.
fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_graphic() {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Within CloudFront's quotas: paths become `FOLDER/*`, as deep as the quota of those allows, at
/// last `/*`. A path that another one covers goes.
pub(super) fn collapse(paths: BTreeSet<String>) -> Vec<String> {
    let fits = |paths: &BTreeSet<String>| {
        let wild = paths.iter().filter(|path| path.ends_with('*')).count();
        wild <= MOST_WILDCARDS && paths.len() - wild <= MOST_PATHS
    };
    let paths = uncovered(paths);
    if fits(&paths) {
        return paths.into_iter().collect();
    }
    let deepest = paths.iter().map(|path| path.matches('/').count()).max().unwrap_or(1);
    for depth in (1..deepest).rev() {
        let folders = uncovered(paths.iter().map(|path| folder_at(path, depth)).collect());
        if fits(&folders) {
            return folders.into_iter().collect();
        }
    }
    vec!["/*".to_owned()]
}

/// `/a/b/*` for `/a/b/c/d.js` at depth 2; the path itself when it does not lie so deep.
fn folder_at(path: &str, depth: usize) -> String {
    match path.match_indices('/').nth(depth) {
        Some((end, _)) if end + 1 < path.len() => format!("{}/*", path.get(..end).unwrap_or_default()),
        _ => path.to_owned(),
    }
}

fn uncovered(paths: BTreeSet<String>) -> BTreeSet<String> {
    let wild: Vec<String> =
        paths.iter().filter_map(|path| path.strip_suffix('*')).map(str::to_owned).collect();
    let covered = |path: &String| {
        let own = path.strip_suffix('*');
        wild.iter().any(|prefix| path.starts_with(prefix.as_str()) && own != Some(prefix))
    };
    paths.into_iter().filter(|path| !covered(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(paths: &[&str]) -> BTreeSet<String> {
        paths.iter().map(|&path| path.to_owned()).collect()
    }

    #[test]
    fn index_pages_take_their_folder_along() {
        for (given, origins, wanted) in [
            (&["/index.html"][..], &[""][..], &["/", "/index.html"][..]),
            (&["docs/index.html", "/a.js"], &[""], &["/a.js", "/docs/", "/docs/index.html"]),
            (&["/myindex.html"], &[""], &["/myindex.html"]),
            (&["/ä b.html", "/%C3%A4.html"], &[""], &["/%C3%A4%20b.html", "/%C3%A4.html"]),
            (&["/www/index.html"], &["/www"], &["/", "/index.html"]),
            (&["/www/a.js"], &["/www", ""], &["/a.js", "/www/a.js"]),
            (&["/wwwa.js"], &["/www"], &["/wwwa.js"]),
            (&[""], &[""], &[]),
        ] {
            let given: Vec<String> = given.iter().map(|&path| path.to_owned()).collect();
            assert_eq!(complete(&given, &set(origins)), set(wanted), "{given:?}");
        }
    }

    #[test]
    fn too_many_paths_become_folders() {
        let many = |folders: usize, files: usize| -> BTreeSet<String> {
            (0..folders * files).map(|n| format!("/assets/{}/{n}.js", n % folders)).collect()
        };
        assert_eq!(collapse(many(1, 3000)).len(), 3000);
        assert_eq!(collapse(many(1, 3001)), ["/assets/0/*"]);
        assert_eq!(collapse(many(15, 300)).len(), 15);
        assert_eq!(collapse(many(16, 300)), ["/assets/*"]);
        let mut wide: BTreeSet<String> = (0..4000).map(|n| format!("/{n}/a.js")).collect();
        assert_eq!(collapse(wide.clone()), ["/*"]);
        wide.insert("/*".to_owned());
        assert_eq!(collapse(wide), ["/*"]);
        let mut mixed = many(1, 3001);
        mixed.insert("/index.html".to_owned());
        assert_eq!(collapse(mixed), ["/assets/0/*", "/index.html"]);
        let wildcards: BTreeSet<String> = (0..16).map(|n| format!("/a/{n}x*")).collect();
        assert_eq!(collapse(wildcards), ["/a/*"]);
    }
}
