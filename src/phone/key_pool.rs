//! Keys made before a load run: one for each phone, for two phones must never have the same.

use std::{
    collections::HashSet,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use tokio::task::JoinSet;

use crate::pki::KeyKind;

use super::key::{PhoneKey, PhoneKeyError};

/// No keys for a load run.
#[derive(Debug, thiserror::Error)]
pub enum KeyPoolError {
    /// The file.
    #[error("{verb} {path}: {source}")]
    File {
        /// Read or write.
        verb: &'static str,
        /// Which.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// What is in the file.
    #[error("read {path}: {problem}")]
    Content {
        /// Which.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] PhoneKeyError),
    /// A thread broke.
    #[error("make keys: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// Takes `count` keys of `kind`, no two alike, from the pool file; makes what is missing and adds it to the file. Without a
/// file makes all of them. `made` is called with the keys there are, as they are made.
///
/// # Errors
/// [`KeyPoolError`] when the file cannot be read or written, or holds a key twice.
pub async fn prepare(
    file: Option<&Path>,
    kind: KeyKind,
    count: usize,
    mut made: impl FnMut(usize),
) -> Result<Vec<PhoneKey>, KeyPoolError> {
    let mut keys = match file {
        Some(path) => read(path)?,
        None => Vec::new(),
    };
    keys.retain(|key| key.public().kind() == kind);
    keys.truncate(count);
    made(keys.len());
    let had = keys.len();
    let mut tasks = JoinSet::new();
    let makers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    for _ in 0..makers.min(count - had) {
        tasks.spawn_blocking(move || PhoneKey::generate(kind));
    }
    while let Some(key) = tasks.join_next().await {
        keys.push(key??);
        made(keys.len());
        if keys.len() + tasks.len() < count {
            tasks.spawn_blocking(move || PhoneKey::generate(kind));
        }
    }
    if let Some(path) = file.filter(|_| keys.len() > had) {
        append(path, &keys[had..])?;
    }
    Ok(keys)
}

fn read(path: &Path) -> Result<Vec<PhoneKey>, KeyPoolError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => SecretString::from(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            let path = path.display().to_string();
            return Err(KeyPoolError::File { verb: "read", path, source });
        }
    };
    let broken = |problem: String| KeyPoolError::Content { path: path.display().to_string(), problem };
    let keys = PhoneKey::all_from_pem(&text).map_err(|error| broken(error.to_string()))?;
    let different: HashSet<_> = keys.iter().map(|key| key.public().sha256()).collect();
    if different.len() < keys.len() {
        return Err(broken("a key stands there twice; two phones cannot have the same".to_owned()));
    }
    Ok(keys)
}

fn append(path: &Path, keys: &[PhoneKey]) -> Result<(), KeyPoolError> {
    let lengths = keys.iter().map(|key| key.pem().expose_secret().len() + 1);
    let mut text = Zeroizing::new(String::with_capacity(lengths.sum()));
    for key in keys {
        text.push_str(&key.pem_after(""));
    }
    let mut options = OpenOptions::new();
    let opened = options.append(true).create(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| {
        let path = path.display().to_string();
        KeyPoolError::File { verb: "write", path, source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Curve;

    const KIND: KeyKind = KeyKind::Ec(Curve::P256);

    #[tokio::test]
    async fn a_pool_keeps_its_keys_and_makes_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.pem");
        let first = prepare(Some(&file), KIND, 3, |_| {}).await.unwrap();
        let mut counts = Vec::new();
        let more = prepare(Some(&file), KIND, 5, |count| counts.push(count)).await.unwrap();
        assert_eq!(counts, [3, 4, 5]);
        let public = |keys: &[PhoneKey]| -> Vec<_> { keys.iter().map(|key| key.public().sha256()).collect() };
        assert_eq!(public(&more)[..3], public(&first));
        assert_eq!(public(&more).into_iter().collect::<HashSet<_>>().len(), 5);
        assert_eq!(prepare(Some(&file), KIND, 2, |_| {}).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_key_that_stands_twice_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.pem");
        prepare(Some(&file), KIND, 1, |_| {}).await.unwrap();
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.repeat(2)).unwrap();
        let error = prepare(Some(&file), KIND, 2, |_| {}).await.unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
    }
}
