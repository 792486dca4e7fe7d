//! Commands as a person types them: shown, run, and their output shown.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use console::style;

use crate::Trouble;
use crate::harness::{ControlPlane, Process, capf_binary};

/// Lines shown of the log of a process when something went wrong.
const LOG_LINES: usize = 25;

/// Begins a part of the story.
pub fn heading(text: &str) {
    println!("\n{}", style(format!("== {text}")).bold().cyan());
}

/// Tells something that is not the output of a command.
pub fn say(text: &str) {
    println!("{text}");
}

/// Shows the end of a process's log.
pub fn show_end_of_log(process: &Process) {
    let log = process.log();
    let lines: Vec<&str> = log.lines().collect();
    eprintln!("\nthe end of {}:", process.log_path().display());
    lines[lines.len().saturating_sub(LOG_LINES)..].iter().for_each(|line| eprintln!("  {line}"));
}

/// A shell in the root of the repository, with kubectl and capf on its PATH, `KUBECONFIG` set to the administrator's,
/// and a folder named by `DEMO`, which goes when the control plane goes.
pub struct Shell {
    folder: PathBuf,
    variables: [(&'static str, OsString); 5],
}

impl Shell {
    /// The shell beside a control plane.
    pub fn new(plane: &ControlPlane) -> Result<Self, Trouble> {
        let folder = plane.dir().join("demo");
        std::fs::create_dir_all(&folder)?;
        let capf = capf_binary();
        let kubectl = plane.kubectl_command(None);
        let programs = [Path::new(kubectl.get_program()).parent(), capf.parent()].into_iter().flatten();
        let inherited = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(programs.map(Path::to_owned).chain(env::split_paths(&inherited)))?;
        let variables = [
            ("PATH", path),
            ("DEMO", folder.clone().into()),
            ("KUBECONFIG", plane.kubeconfig(None).into()),
            ("KUBECACHEDIR", plane.dir().join("kubectl-cache").into()),
            // Nobody's own aliases and defaults of kubectl.
            ("KUBERC", "off".into()),
        ];
        Ok(Self { folder, variables })
    }

    /// The folder that `DEMO` names.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What to type in another terminal to be in this shell.
    pub fn exports(&self) -> String {
        let inherited = env::var("PATH").unwrap_or_default();
        let export = |(name, value): &(&str, OsString)| {
            format!("export {name}='{}'", value.to_string_lossy()).replace(&format!("{inherited}'"), "'\"$PATH\"")
        };
        let lines: Vec<String> = self.variables[..3].iter().map(export).collect();
        lines.join("\n")
    }

    /// Shows a command without running it.
    pub fn show(&self, command: &str) {
        println!("{}", style(format!("$ {command}")).dim());
    }

    /// Shows and runs a command, shows and returns what it prints.
    pub fn run(&self, command: &str) -> Result<String, Trouble> {
        let printed = self.run_quietly(command)?;
        print!("{printed}");
        Ok(printed)
    }

    /// Shows and runs a command, returns what it prints.
    pub fn run_quietly(&self, command: &str) -> Result<String, Trouble> {
        self.show(command);
        let output = self.command("sh").arg("-c").arg(command).output()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(printed);
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("{command}: {}\n{printed}{said}", output.status).into())
    }

    /// A program in the environment of this shell.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).envs(self.variables.iter().cloned()).stdin(Stdio::null());
        command
    }
}
