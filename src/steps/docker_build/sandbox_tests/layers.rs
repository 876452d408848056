//! Layers that the engine lacks come from the image in the registry, and a cache is never a condition.

use super::bench::{Bench, output, text, texts};
use super::build_cache::BuildCache;
use crate::event::Event;
use crate::model::settings::Given;
use crate::model::value::{Field, Value};

/// What an image without anything else can run: it says that it ran, and leaves a layer.
/// `REPOSITORY` is a name.
const EXPENSIVE: &str = r#"
#include <stdio.h>
int main(int argc, char **argv) {
    printf("the expensive step runs for %s\n", argv[argc - 1]);
    FILE *made = fopen("/made", "w");
    fputs(REPOSITORY, made);
    return fclose(made);
}
"#;

type Settings = Vec<(&'static str, Given<Field<Value>>)>;

/// An expensive step, and behind it the file that changes.
async fn bench(name: &str) -> Option<(Bench, BuildCache)> {
    let bench = Bench::new(name, false).await?;
    let Some(cache) = BuildCache::of(&bench.host) else {
        println!("skipped: the engine is not reached by a socket of this machine");
        bench.close().await;
        return None;
    };
    // The name of the repository is this test's alone, and in every layer: a layer that another test
    // has too would be taken from the engine while that one removes it.
    bench.write("tool.c", &EXPENSIVE.replace("REPOSITORY", &format!("{:?}", bench.repository)));
    let cc = std::process::Command::new("cc")
        .args(["-static", "-s", "-o"])
        .args([bench.path("api/tool"), bench.path("tool.c")])
        .status();
    if !cc.is_ok_and(|status| status.success()) {
        println!("skipped: cc cannot make a static program here");
        bench.close().await;
        return None;
    }
    let dockerfile = format!(
        "FROM scratch\nCOPY tool /tool\nRUN [\"/tool\", \"{}\"]\nCOPY main.txt /main.txt\n",
        bench.repository
    );
    bench.write("api/Dockerfile", &dockerfile);
    Some((bench, cache))
}

/// Tags the image as what later builds begin with.
fn kept() -> Settings {
    vec![("tag", texts(&["cache"])), ("cache-to", text("inline"))]
}

/// The same, and begins with what was tagged so before.
fn taken() -> Settings {
    [kept(), vec![("cache-from", text(":cache"))]].concat()
}

impl Bench {
    /// Builds after a change of the last file, on an engine that has nothing of this repository.
    /// Answers with the image's digest and what the build said.
    async fn elsewhere(
        &self,
        cache: &BuildCache,
        change: &str,
        settings: &Settings,
    ) -> (String, Vec<String>) {
        let engine = crate::world::docker::Engine::connect(&self.host).await.unwrap();
        engine.forget(&format!("{}/{}", self.registry, self.repository)).await.unwrap();
        cache.forget(&self.repository).await;
        self.events.lock().unwrap().clear();
        self.write("api/main.txt", change);
        let done = self.run(settings).await.unwrap();
        let events = self.events.lock().unwrap();
        let said = events.iter().filter_map(|event| match event {
            Event::Output { line, .. } => Some(line.clone()),
            Event::Progress { text, .. } => Some(text.clone()),
            _ => None,
        });
        (output(&done, "digest"), said.collect())
    }

    fn ran(&self, said: &[String]) -> bool {
        said.iter().any(|line| *line == format!("the expensive step runs for {}", self.repository))
    }
}

/// What a build says that finds no image to take layers from.
fn missed(bench: &Bench, said: &[String]) -> bool {
    let import = format!("importing cache manifest from {}/{}:", bench.registry, bench.repository);
    said.iter().any(|line| line.starts_with(&import) && line.contains("not found"))
}

/// Builds three times, each time on an engine that has nothing of it.
async fn proves(name: &str, more: Settings) {
    let Some((bench, cache)) = bench(name).await else { return };
    let with = |settings: Settings| [settings, more.clone()].concat();
    let (first, said) = bench.elsewhere(&cache, "one", &with(taken())).await;
    assert!(bench.ran(&said), "there is no image yet that layers could come from: {said:?}");
    assert!(missed(&bench, &said), "that fails no build, and is said: {said:?}");

    // So the engine has nothing left of the first build.
    let (_, said) = bench.elsewhere(&cache, "two", &with(kept())).await;
    assert!(bench.ran(&said), "{said:?}");

    let (third, said) = bench.elsewhere(&cache, "three", &with(taken())).await;
    assert!(!bench.ran(&said) && !missed(&bench, &said), "{said:?}");
    assert_ne!(third, first, "what changed is built");
    cache.forget(&bench.repository).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_without_the_layers_takes_them_from_the_image_in_the_registry() {
    proves("layers", Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_with_secrets_takes_them_too() {
    let secret = Value::Secret(crate::model::secret::Secret::new("hunter2"));
    let secret = Given::Map(vec![("token".to_owned(), Field::Known(secret))]);
    proves("layers-secret", vec![("secret", secret)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_taken_from_another_repository_and_not_from_an_image_that_tells_nothing() {
    let Some((bench, cache)) = bench("layers-other").await else { return };
    let plain = vec![("tag", texts(&["cache"]))];
    bench.elsewhere(&cache, "one", &plain).await;
    let whole = format!("{}/{}:cache", bench.registry, bench.repository);
    let from = vec![
        ("cache-from", texts(&["nobody.invalid/api:none", &whole])),
        kept()[0].clone(),
        kept()[1].clone(),
    ];
    let (_, said) = bench.elsewhere(&cache, "two", &from).await;
    assert!(bench.ran(&said), "the image was built without cache-to: {said:?}");
    let (_, said) = bench.elsewhere(&cache, "three", &from).await;
    assert!(!bench.ran(&said), "the other one is not there, and this one serves: {said:?}");
    cache.forget(&bench.repository).await;
    bench.close().await;
}
