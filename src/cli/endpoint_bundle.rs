//! `capf endpoint-bundle`: exports what an endpoint outside the cluster needs, as files.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::client::{CallError, ClientArgs, ConnectError, GET_CALL, call};
use super::file::{NewFile, SECRET};
use crate::api::CertificateAuthorityProxy;
use crate::authority::bundle::files;
use crate::domain::endpoints::in_cluster;
use crate::domain::proxy::ENDPOINT_SECRET_TYPE as SECRET_TYPE;

/// Arguments of `capf endpoint-bundle`.
#[derive(clap::Args, Clone, Debug)]
pub struct EndpointBundleArgs {
    #[command(flatten)]
    cluster: ClientArgs,
    /// Name of the CertificateAuthorityProxy
    #[arg(long, value_name = "NAME")]
    proxy: String,
    /// Folder for the files; made with mode 0700 when it is not there
    #[arg(long, value_name = "FOLDER")]
    output: PathBuf,
}

/// The bundle was not exported.
#[derive(Debug, thiserror::Error)]
pub enum EndpointBundleError {
    /// No cluster.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The controller runs the endpoints itself.
    #[error(
        "CertificateAuthorityProxy {0} has placement: InCluster: its endpoints run as pods, and the bundle names addresses \
         inside the cluster; write placement: External to run them elsewhere"
    )]
    InCluster(String),
    /// The controller has not made the bundle yet.
    #[error("CertificateAuthorityProxy {0} has no endpoint bundle yet; wait until its condition Ready is True")]
    NotMade(String),
    /// The Secret is not a bundle.
    #[error("Secret {secret} is of type {found}, not {SECRET_TYPE}: it is not exported; look who made it")]
    OtherType {
        /// Its name.
        secret: String,
        /// Its type.
        found: String,
    },
    /// The Secret is not complete.
    #[error("Secret {secret} lacks {key}; delete it, and the controller makes it anew")]
    MissingKey {
        /// Its name.
        secret: String,
        /// The first key that is not there.
        key: &'static str,
    },
    /// The folder can be read by others.
    #[error("folder {} is open to others than its owner (mode {mode:04o}); chmod 700 it, or name another", .folder.display())]
    OpenFolder {
        /// The folder.
        folder: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file could not be written.
    #[error("writing {}: {source}", .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Exports the bundle and says how to start the endpoint.
///
/// # Errors
/// [`EndpointBundleError`]; the files of an earlier export are kept then.
pub async fn run(args: &EndpointBundleArgs) -> Result<(), EndpointBundleError> {
    let (cluster, namespace) = args.cluster.connect_to_one().await?;
    let what = format!("reading CertificateAuthorityProxy {namespace}/{}", args.proxy);
    let proxies = cluster.api::<CertificateAuthorityProxy>();
    let proxy = call(&what, GET_CALL, || proxies.get(&args.proxy)).await?;
    if in_cluster(&proxy) {
        return Err(EndpointBundleError::InCluster(format!("{namespace}/{}", args.proxy)));
    }
    let name = proxy
        .status
        .and_then(|status| status.endpoint_secret)
        .ok_or_else(|| EndpointBundleError::NotMade(format!("{namespace}/{}", args.proxy)))?;
    let secrets = cluster.api::<Secret>();
    let secret = call(&format!("reading Secret {namespace}/{name}"), GET_CALL, || secrets.get(&name)).await?;
    let contents = contents(&name, secret)?;
    write(&args.output, &contents)?;
    let folder = args.output.display();
    super::quiet_pipe(writeln!(io::stdout(), "Start the endpoint with: capf endpoint --bundle {folder}"))
        .map_err(|source| EndpointBundleError::Write { path: "standard output".into(), source })
}

/// The files of the bundle: all of them, and nothing else that may stand in the Secret.
fn contents(name: &str, secret: Secret) -> Result<BTreeMap<&'static str, ByteString>, EndpointBundleError> {
    let found = secret.type_.unwrap_or_default();
    if found != SECRET_TYPE {
        return Err(EndpointBundleError::OtherType { secret: name.to_owned(), found });
    }
    let mut data = secret.data.unwrap_or_default();
    files::ALL
        .into_iter()
        .map(|key| match data.remove(key).filter(|octets| !octets.0.is_empty()) {
            Some(octets) => Ok((key, octets)),
            None => Err(EndpointBundleError::MissingKey { secret: name.to_owned(), key }),
        })
        .collect()
}

fn write(folder: &Path, contents: &BTreeMap<&'static str, ByteString>) -> Result<(), EndpointBundleError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| EndpointBundleError::Write { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
    let mode = fs::metadata(folder).map_err(failed(folder))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(EndpointBundleError::OpenFolder { folder: folder.to_owned(), mode });
    }
    // All are written before the first is moved: an endpoint that watches the folder sees a mixture for a moment only.
    let mut written = Vec::new();
    for (name, octets) in contents {
        let path = folder.join(name);
        let mut file = NewFile::create(&path, SECRET).map_err(failed(&path))?;
        file.write_all(&octets.0).map_err(failed(&path))?;
        written.push((path, file));
    }
    for (path, file) in written {
        file.finish().map_err(failed(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> Secret {
        let data = files::ALL.map(|key| (key.to_owned(), ByteString(key.as_bytes().to_vec())));
        Secret { type_: Some(SECRET_TYPE.into()), data: Some(data.into()), ..Secret::default() }
    }

    #[test]
    fn the_files_are_the_owner_s_alone_and_nothing_else_is_written() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("bundle");
        let mut secret = bundle();
        secret.data.as_mut().unwrap().insert("../stray".into(), ByteString(b"x".to_vec()));
        for _ in 0..2 {
            write(&folder, &contents("main-endpoint", secret.clone()).unwrap()).unwrap();
        }
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            names.push(entry.file_name().into_string().unwrap());
        }
        names.sort();
        let mut expected = files::ALL.to_vec();
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_of_another_type_is_not_exported() {
        let secret = Secret { type_: Some("Opaque".into()), ..bundle() };
        let error = contents("main-endpoint", secret).unwrap_err().to_string();
        assert!(error.contains("Opaque") && error.contains("main-endpoint"), "{error}");
    }

    #[test]
    fn each_missing_or_empty_key_is_named() {
        for key in files::ALL {
            let mut missing = bundle();
            missing.data.as_mut().unwrap().remove(key);
            let mut empty = bundle();
            empty.data.as_mut().unwrap().insert(key.into(), ByteString(Vec::new()));
            for secret in [missing, empty] {
                let error = contents("main-endpoint", secret).unwrap_err().to_string();
                assert!(error.contains(key), "{error}");
            }
        }
    }

    #[test]
    fn a_folder_that_others_can_read_is_refused_and_named() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = write(place.path(), &contents("main-endpoint", bundle()).unwrap()).unwrap_err();
        assert!(error.to_string().contains("0755"), "{error}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
