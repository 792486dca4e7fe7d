//! The container image: what is in it, what it says of itself, and that its program runs with nothing around it. It is
//! built first, which the first time takes some minutes.

#[path = "image/mod.rs"]
mod image;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use image::Image;

/// What is built for all tests of this target.
fn archive() -> &'static Path {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| image::build(&[]).unwrap())
}

fn said_by(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env_clear().output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn it_is_one_static_program_of_a_user_without_rights_and_nothing_else() {
    let image = Image::open(archive()).unwrap();
    assert_eq!(image.faults(), Vec::<String>::new());
    assert_eq!(image.name, format!("localhost/capf-operator:{}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_program_says_the_version_and_the_revision_of_the_labels() {
    let image = Image::open(archive()).unwrap();
    let (version, revision) = (image.label("version").unwrap(), image.label("revision").unwrap());
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert_eq!(said_by(&image.program(), &["--version"]), format!("capf {version} ({revision})\n"));
}

#[test]
fn the_program_tells_nothing_of_the_machine_it_was_built_on() {
    let program = fs::read(Image::open(archive()).unwrap().program()).unwrap();
    let home = std::env::var("HOME").unwrap();
    for path in [env!("CARGO_MANIFEST_DIR"), &format!("{home}/."), "/registry/src/"] {
        let found = program.windows(path.len()).position(|window| window == path.as_bytes());
        let around = found.map(|at| String::from_utf8_lossy(&program[at.saturating_sub(40)..at + 120]).into_owned());
        assert_eq!(around, None, "{path} is in the program");
    }
}

#[test]
fn an_archive_that_was_changed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let changed = folder.path().join("changed.tar");
    fs::copy(archive(), &changed).unwrap();
    Image::open(&changed).expect("it is still whole");
    // The same length, so that nothing but the digest can tell.
    let mut octets = fs::read(&changed).unwrap();
    let at = octets
        .windows(11)
        .position(|window| window == image::USER.as_bytes())
        .expect("the user stands in the configuration");
    octets[at] = b'0';
    fs::write(&changed, &octets).unwrap();
    let error = Image::open(&changed).err().expect("it was changed");
    assert!(error.contains("sha256:"), "{error}");
}

#[test]
fn a_program_that_needs_libraries_or_has_symbols_is_told() {
    // This test itself is linked dynamically.
    let own = fs::read(std::env::current_exe().unwrap()).unwrap();
    let faults = image::program_faults(&own);
    for fault in ["needs a dynamic linker", "needs a library", "has symbols"] {
        assert!(faults.iter().any(|told| told.contains(fault)), "{fault}: {faults:?}");
    }
    assert_eq!(image::program_faults(b"#!/bin/sh\n").len(), 1);
}

/// A builder reads the Containerfile in its own way. Where there is none, or it may not work here, that is not tried.
#[test]
fn a_builder_makes_the_same_of_the_containerfile() {
    let image = Image::open(archive()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let storage = ["--storage-driver=vfs", "--root", "storage", "--runroot", "run"];
    let buildah = |arguments: &[&str]| {
        let mut command = Command::new("buildah");
        command.current_dir(folder.path()).args(storage).args(arguments);
        command.output()
    };
    match buildah(&["images"]) {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            return eprintln!("not tried, buildah cannot work here: {}", String::from_utf8_lossy(&output.stderr));
        }
        Err(error) => return eprintln!("not tried, there is no buildah: {error}"),
    }
    let version = format!("VERSION={}", image.label("version").unwrap());
    let revision = format!("REVISION={}", image.label("revision").unwrap());
    let arguments = ["build", "--isolation=chroot", "--build-arg", &version, "--build-arg", &revision];
    let to = ["--tag=oci-archive:built.tar", env!("CARGO_MANIFEST_DIR")];
    let output = buildah(&[&arguments[..], &to[..]].concat()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let built = Image::open(&folder.path().join("built.tar")).unwrap();
    for member in ["User", "Entrypoint", "Cmd"] {
        assert_eq!(built.config["config"][member], image.config["config"][member], "{member}");
    }
    for label in ["title", "description", "licenses", "version", "revision"] {
        assert_eq!(built.label(label), image.label(label), "{label}");
    }
    assert_eq!(built.config["architecture"], image.config["architecture"]);
    assert!(fs::read(built.program()).unwrap() == fs::read(image.program()).unwrap(), "another program");
}
