#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(include: &[&str], exclude: &[&str]) -> Matcher {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        Matcher::new(&owned(include), &owned(exclude)).expect("valid globs")
    }

    #[test]
    fn star_stays_inside_one_folder() {
        let m = matcher(&["src/*.c"], &[]);
        assert!(m.matches(Path::new("src/a.c")));
        assert!(!m.matches(Path::new("src/deep/a.c")));
        assert!(matcher(&["src/**"], &[]).matches(Path::new("src/deep/.hidden")));
    }

    #[test]
    fn a_plain_folder_means_what_is_under_it() {
        assert!(matcher(&["frontend"], &[]).matches(Path::new("frontend/a/b")));
    }

    #[test]
    fn outputs_under_inputs_are_noticed_unless_excluded() {
        assert!(matcher(&["frontend/**"], &[]).touches(Path::new("frontend/dist")));
        assert!(!matcher(&["frontend/**"], &["frontend/dist/**"]).touches(Path::new("frontend/dist")));
        assert!(matcher(&["dist/assets/*.js"], &[]).touches(Path::new("dist")));
        assert!(!matcher(&["backend/*.c"], &[]).touches(Path::new("frontend")));
    }
}
