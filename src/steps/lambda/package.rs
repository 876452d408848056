//! What a function's code is made from: a folder, a ZIP file, or an object that
//! somebody else put into a bucket.

use std::collections::BTreeMap;

use aws_sdk_s3::types::ChecksumMode;
use base64::Engine as _;
use globset::GlobMatcher;
use sha2::{Digest as _, Sha256};

use super::zip;
use crate::model::units::show_size;
use crate::steps::s3_sync::source;
use crate::steps::{Context, Failure, FailureClass};
use crate::world::aws::{AwsError, AwsErrorClass};
use crate::world::files::{digest, is_executable};

/// Lambda takes no larger archive in a request.
const LARGEST: u64 = 50 * 1024 * 1024;

/// Where code comes from, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Relative to the project root: a folder, or a file that is an archive already.
    Path(String),
    /// An object.
    Object {
        /// Its bucket.
        bucket: String,
        /// Its key.
        key: String,
    },
}

/// Code, ready to be sent.
#[derive(Clone, Debug)]
pub struct Package {
    /// SHA-256 of the archive, base64: as Lambda says it.
    pub sha256: String,
    /// Bytes of the archive.
    pub size: u64,
    /// How it gets to Lambda.
    pub code: Code,
    /// Digests of the local files it is made from, by path.
    pub inputs: BTreeMap<String, String>,
}

/// How code gets to Lambda.
#[derive(Clone)]
pub enum Code {
    /// In the request.
    Bytes(Vec<u8>),
    /// From a bucket, exactly this version of the object where there are versions.
    Object {
        /// Its bucket.
        bucket: String,
        /// Its key.
        key: String,
        /// In versioned buckets.
        version: Option<String>,
    },
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Object { bucket, key, version } => write!(f, "s3://{bucket}/{key} {version:?}"),
        }
    }
}

impl Origin {
    /// Reads `dist/api`, `api.zip` or `s3://bucket/key`. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("s3://") else { return Ok(Self::Path(text.to_owned())) };
        match rest.split_once('/') {
            Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() && !key.ends_with('/') => {
                Ok(Self::Object { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            _ => Err(format!("\"{text}\" names no object; write s3://BUCKET/KEY")),
        }
    }

    /// Reads it.
    pub async fn package(&self, cx: &Context, exclude: &[GlobMatcher]) -> Result<Package, Failure> {
        match self {
            Self::Path(path) => local(cx, path, exclude).await,
            Self::Object { bucket, key } => object(cx, bucket, key).await,
        }
    }
}

async fn local(cx: &Context, path: &str, exclude: &[GlobMatcher]) -> Result<Package, Failure> {
    let files = &cx.world.files;
    let place = files.locate(path)?;
    let found = files.metadata(&place)?.ok_or_else(|| {
        Failure::new(format!("{path} does not exist")).help("build the function first, or correct `from`")
    })?;
    let inside = |size: u64| {
        if size <= LARGEST {
            return Ok(());
        }
        let reason =
            format!("{path} is {}, and Lambda takes {} in a request", show_size(size), show_size(LARGEST));
        Err(Failure::new(reason).help("put the archive into a bucket and write from \"s3://BUCKET/KEY\""))
    };
    if found.is_file() {
        inside(found.len())?;
        let bytes = files.read(&place)?;
        let inputs = BTreeMap::from([(path.to_owned(), digest(&bytes))]);
        return Ok(Package { inputs, ..Package::of(bytes) });
    }
    let listed = cx.cancel.unless_stopped(source::read(files, path, exclude)).await??;
    inside(listed.iter().map(|file| file.size).sum())?;
    let folder = path.trim_start_matches("./").trim_end_matches('/');
    let mut inputs = BTreeMap::new();
    let mut entries = Vec::with_capacity(listed.len());
    for file in listed {
        let executable = files.metadata(&file.path)?.is_some_and(|found| is_executable(&found));
        let bytes = files.read(&file.path)?;
        inputs.insert(format!("{folder}/{}", file.relative), digest(&bytes));
        entries.push(zip::Entry { name: file.relative, executable, bytes });
    }
    let archive = zip::write(entries).map_err(|error| Failure::new(format!("{path}: {error}")))?;
    Ok(Package { inputs, ..Package::of(archive) })
}

impl Package {
    fn of(archive: Vec<u8>) -> Self {
        Self {
            sha256: base64::engine::general_purpose::STANDARD.encode(Sha256::digest(&archive)),
            size: archive.len() as u64,
            code: Code::Bytes(archive),
            inputs: BTreeMap::new(),
        }
    }
}

/// An object says its SHA-256 itself, or is read once to know it.
async fn object(cx: &Context, bucket: &str, key: &str) -> Result<Package, Failure> {
    let s3 = &cx.cloud.reads().await.s3;
    let request = s3.get_object().bucket(bucket).key(key).checksum_mode(ChecksumMode::Enabled);
    let answer = cx.cancel.unless_stopped(request.send()).await?;
    let mut answer =
        answer.map_err(|error| not_read(AwsError::new("S3", "GetObject", &error), bucket, key))?;
    let version = answer.version_id().filter(|version| *version != "null").map(str::to_owned);
    let size = answer.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
    let said = answer.checksum_sha256().filter(|sum| !sum.contains('-')).map(str::to_owned);
    let sha256 = if let Some(said) = said {
        said
    } else {
        let mut hasher = Sha256::new();
        while let Some(chunk) = cx.cancel.unless_stopped(answer.body.next()).await? {
            let chunk = chunk.map_err(|error| {
                Failure::of(FailureClass::Passing, format!("s3://{bucket}/{key} could not be read: {error}"))
            })?;
            hasher.update(&chunk);
        }
        base64::engine::general_purpose::STANDARD.encode(hasher.finalize())
    };
    let code = Code::Object { bucket: bucket.to_owned(), key: key.to_owned(), version };
    Ok(Package { sha256, size, code, inputs: BTreeMap::new() })
}

fn not_read(error: AwsError, bucket: &str, key: &str) -> Failure {
    match error.class {
        AwsErrorClass::NotFound => Failure::missing(format!("there is no object s3://{bucket}/{key}"))
            .help("build and upload it first, or correct `from`"),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::testing::Bench;

    #[test]
    fn an_object_is_named_by_bucket_and_key() {
        let object =
            |bucket: &str, key: &str| Origin::Object { bucket: bucket.to_owned(), key: key.to_owned() };
        assert_eq!(Origin::parse("s3://code/a/b.zip"), Ok(object("code", "a/b.zip")));
        assert_eq!(Origin::parse("dist/api"), Ok(Origin::Path("dist/api".to_owned())));
        for text in ["s3://code", "s3://code/", "s3://code/a/", "s3:///a"] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_folder_is_the_same_archive_whatever_its_times_and_order() {
        let bench = Bench::new();
        let package = |from: &'static str| {
            let cx = bench.cx.clone();
            async move { Origin::Path(from.to_owned()).package(&cx, &[]).await }
        };
        for (folder, names) in [("one", ["b.py", "a.py"]), ("two", ["a.py", "b.py"])] {
            for name in names {
                let path = bench.root().join(folder).join(name);
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
                std::fs::write(path, name).expect("written");
            }
        }
        let (one, two) = (package("one").await.expect("one"), package("two").await.expect("two"));
        assert_eq!(one.sha256, two.sha256);
        assert_eq!(one.inputs.keys().collect::<Vec<_>>(), ["one/a.py", "one/b.py"]);
        let Code::Bytes(archive) = one.code else { panic!("sent in the request") };
        std::fs::write(bench.root().join("one.zip"), archive).expect("written");
        assert_eq!(package("one.zip").await.expect("an archive").sha256, two.sha256);
        assert_eq!(package("none").await.expect_err("nothing").record.reason, "none does not exist");
    }
}
