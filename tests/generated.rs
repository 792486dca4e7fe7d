//! Files that are made from code are committed, and are the ones the code makes now.

use std::fs;
use std::path::PathBuf;

use capf::{cli, crds, telemetry};

#[path = "../charts/made.rs"]
mod made;

fn committed(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}; run `make generate`", path.display()))
}

fn assert_current(path: &str, made: &str) {
    // Not assert_eq: what has changed is seen best in the diff after the command.
    assert!(committed(path).trim_end() == made.trim_end(), "{path} is not current; run `make generate` and commit it");
}

#[test]
fn the_crds_are_current() {
    for crd in crds::all() {
        assert_current(&format!("crds/{}", crds::file_name(&crd)), &crds::yaml(&crd));
    }
}

#[test]
fn no_crd_is_left_over() {
    let made: Vec<_> = crds::all().iter().map(crds::file_name).collect();
    for entry in fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crds")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(made.contains(&name), "crds/{name} belongs to no kind; remove it");
    }
}

#[test]
fn what_is_made_of_the_chart_is_current() {
    for made in made::all() {
        assert_current(&made.path, &made.content);
    }
}

#[test]
fn no_crd_of_the_chart_is_left_over() {
    let made: Vec<_> = made::all().into_iter().map(|made| made.path).collect();
    for entry in fs::read_dir(made::root().join("charts/capf-operator/templates/crds")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(made.iter().any(|path| path.ends_with(&name)), "templates/crds/{name} belongs to no kind; remove it");
    }
}

#[test]
fn the_reference_of_the_command_line_is_current() {
    assert_current("docs/cli.md", &cli::reference::markdown());
}

#[test]
fn the_table_of_metrics_is_current() {
    assert_current("docs/metrics.md", &telemetry::reference::markdown());
}

#[test]
fn every_option_says_what_it_means() {
    use clap::CommandFactory as _;
    let mut command = cli::Cli::command();
    command.build();
    let mut open = vec![command];
    while let Some(command) = open.pop() {
        assert!(command.get_about().is_some(), "{} does not say what it does", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {} has no help", command.get_name(), argument.get_id());
        }
        open.extend(command.get_subcommands().cloned());
    }
}
