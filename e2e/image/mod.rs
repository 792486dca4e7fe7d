//! The container image: built by `image/build`, unpacked, and looked into. Whatever is wrong with one is told as a list of
//! sentences, so that a test of the image says all of them, and one that installs it can look before it does.
#![allow(dead_code, reason = "each target that includes this uses a part of it")]

mod elf;

pub use elf::program_faults;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// The most octets an archive may have, so the most that a node fetches.
pub const MAX_ARCHIVE: u64 = 12 * 1024 * 1024;
/// The user and group the program runs as.
pub const USER: &str = "65532:65532";

/// Builds the image with these further options of `image/build`, and returns the path of the archive. Its progress goes
/// straight to stderr, past the test runner's capture.
///
/// # Errors
/// With the status of the script, which has told why on stderr.
pub fn build(options: &[&str]) -> Result<PathBuf, String> {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("image/build"))
        .args(options)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run image/build: {error}"))?;
    if !output.status.success() {
        return Err(format!("image/build failed: {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

/// An image, unpacked in a folder that goes with this.
pub struct Image {
    /// The name that it has once it is imported.
    pub name: String,
    /// What it is configured to be: user, entry point, labels.
    pub config: Value,
    /// Its only layer, unpacked: what a container sees as `/`.
    root: tempfile::TempDir,
    /// The lines in which tar lists the layer: kind and mode, owner, size, time, name.
    listing: Vec<String>,
    size: u64,
}

impl Image {
    /// Unpacks an archive.
    ///
    /// # Errors
    /// When it is not an OCI archive of one image with one layer, or what a digest or a size names is not what is there.
    pub fn open(archive: &Path) -> Result<Self, String> {
        let layout = tempfile::tempdir().map_err(|error| format!("no folder to unpack in: {error}"))?;
        tar(&["-xf", text(archive), "-C", text(layout.path())])?;
        let version = json(&layout.path().join("oci-layout"))?;
        if version != serde_json::json!({ "imageLayoutVersion": "1.0.0" }) {
            return Err(format!("not the layout of an OCI image: {version}"));
        }
        let index = json(&layout.path().join("index.json"))?;
        let of_image = only(&index["manifests"])?;
        let manifest = json(&blob(layout.path(), of_image)?)?;
        let config = json(&blob(layout.path(), &manifest["config"])?)?;
        let layer = unpacked(layout.path(), only(&manifest["layers"])?)?;
        let (said, is) = (only(&config["rootfs"]["diff_ids"])?, digest(&layer)?);
        if *said != is.as_str() {
            return Err(format!("the layer is {is}, and the configuration says {said}"));
        }
        let platform = &of_image["platform"];
        if !platform.is_null() && platform["architecture"] != config["architecture"] {
            return Err(format!("the index and the configuration name two architectures: {of_image} {config}"));
        }
        let root = tempfile::tempdir().map_err(|error| format!("no folder to unpack in: {error}"))?;
        tar(&["-xf", text(&layer), "-C", text(root.path())])?;
        let listing = tar(&["-tvf", text(&layer), "--numeric-owner"])?.lines().map(str::to_owned).collect();
        let name = of_image["annotations"]["io.containerd.image.name"].as_str().unwrap_or_default().to_owned();
        let size = fs::metadata(archive).map_err(|error| format!("{}: {error}", archive.display()))?.len();
        Ok(Self { name, config, root, listing, size })
    }

    /// The program in it.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.root.path().join("capf")
    }

    /// A label, such as `version`, of those that begin with `org.opencontainers.image.`.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.config["config"]["Labels"][format!("org.opencontainers.image.{name}")].as_str()
    }

    /// Whatever is not as it must be.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut must = |holds: bool, otherwise: String| {
            if !holds {
                faults.push(otherwise);
            }
        };
        must(self.size <= MAX_ARCHIVE, format!("it has {} octets, more than {MAX_ARCHIVE}", self.size));
        let one_program =
            matches!(&self.listing[..], [line] if line.starts_with("-rwxr-xr-x 0/0 ") && line.ends_with(" capf"));
        must(one_program, format!("its layer is not one program of root's that nobody may change: {:?}", self.listing));
        let config = &self.config["config"];
        must(config["User"] == USER, format!("its user is {}", config["User"]));
        must(
            config["Entrypoint"] == serde_json::json!(["/capf"]),
            format!("its entry point is {}", config["Entrypoint"]),
        );
        must(config["Cmd"].is_null(), format!("it has arguments: {}", config["Cmd"]));
        for label in ["title", "description", "licenses", "version", "revision"] {
            let value = self.label(label).unwrap_or_default();
            must(!value.is_empty() && !value.contains('$'), format!("its label {label} is {value:?}"));
        }
        match fs::read(self.program()) {
            Ok(program) => faults.extend(program_faults(&program)),
            Err(error) => faults.push(format!("its program cannot be read: {error}")),
        }
        faults
    }
}

/// The tar of a layer, of which archives of builders hold the tar itself and ours the gzip of it.
fn unpacked(layout: &Path, descriptor: &Value) -> Result<PathBuf, String> {
    let packed = blob(layout, descriptor)?;
    if !descriptor["mediaType"].as_str().is_some_and(|kind| kind.ends_with("+gzip")) {
        return Ok(packed);
    }
    let layer = layout.join("layer.tar");
    let out = fs::File::create(&layer).map_err(|error| format!("{}: {error}", layer.display()))?;
    let status = Command::new("gzip").args(["-dc", text(&packed)]).stdout(out).status();
    if !status.is_ok_and(|status| status.success()) {
        return Err(format!("{descriptor} cannot be unpacked by gzip"));
    }
    Ok(layer)
}

/// The file that a descriptor of an image names, which must be what it says.
fn blob(layout: &Path, descriptor: &Value) -> Result<PathBuf, String> {
    let said = descriptor["digest"].as_str().unwrap_or_default();
    let hex = said.strip_prefix("sha256:").ok_or_else(|| format!("no digest of ours: {descriptor}"))?;
    let path = layout.join("blobs/sha256").join(hex);
    let size = fs::metadata(&path).map_err(|error| format!("{descriptor}: {error}"))?.len();
    if descriptor["size"] != size || digest(&path)? != said {
        return Err(format!("{descriptor} has {size} octets and is {}", digest(&path)?));
    }
    Ok(path)
}

fn digest(path: &Path) -> Result<String, String> {
    let content = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
    let hex: String = digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    Ok(format!("sha256:{hex}"))
}

fn only(list: &Value) -> Result<&Value, String> {
    match list.as_array().map(Vec::as_slice) {
        Some([one]) => Ok(one),
        _ => Err(format!("not a list of one: {list}")),
    }
}

fn json(path: &Path) -> Result<Value, String> {
    let content = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&content).map_err(|error| format!("{}: {error}", path.display()))
}

fn tar(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("tar").args(arguments).output().map_err(|error| format!("cannot run tar: {error}"))?;
    if !output.status.success() {
        return Err(format!("tar {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Paths here come from temporary folders and the repository.
fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
