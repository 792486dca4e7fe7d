//! Into the namespaces of a pod, from the machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::Node;
use crate::harness::HarnessError;

impl Node {
    /// A program to be run in all of a pod's namespaces but its file system, as root and with the machine's programs:
    /// more than whoever has taken over its container could do. Add arguments and run it; the container's own files
    /// are below the folder that the environment variable `POD_ROOT` names.
    ///
    /// # Errors
    /// Those of [`Node::pod_pid`].
    pub fn enter_pod(&self, namespace: &str, pod: &str, program: impl AsRef<Path>) -> Result<Command, HarnessError> {
        let pid = self.pod_pid(namespace, pod)?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={pid}"))
            .args(["--net", "--pid", "--ipc", "--uts", "--"])
            .arg(program.as_ref())
            .env("POD_ROOT", format!("/proc/{pid}/root"))
            .stdin(Stdio::null());
        Ok(command)
    }

    /// The process id, on this machine, of the first process of a pod's first container: to look at, or to kill.
    ///
    /// # Errors
    /// [`HarnessError::Kubectl`] when there is no such pod, [`HarnessError::NoContainer`] when it does not run.
    pub fn pod_pid(&self, namespace: &str, pod: &str) -> Result<u32, HarnessError> {
        let path = "jsonpath={.status.containerStatuses[0].containerID}";
        let id = self.kubectl(&["get", "pod", "--namespace", namespace, pod, "--output", path])?;
        let missing = || HarnessError::NoContainer { pod: format!("{namespace}/{pod}") };
        let id = id.trim().strip_prefix("containerd://").ok_or_else(missing)?;
        let group = self.groups().iter().find_map(|tree| find(tree, id)).ok_or_else(missing)?;
        // The kernel translates process ids for whoever reads them. The runtime starts one process, the first.
        let processes = fs::read_to_string(group.join("cgroup.procs")).map_err(|_gone| missing())?;
        processes.lines().next().and_then(|line| line.parse().ok()).ok_or_else(missing)
    }

    /// The control group of all pods, in each tree that has one: one with version 2, else one for each controller.
    #[must_use]
    pub fn groups(&self) -> Vec<PathBuf> {
        // The same name as in e2e/supervisor/cgroup.go.
        let name = format!("capf-e2e-{}", self.dir().file_name().unwrap_or_default().to_string_lossy());
        let root = Path::new("/sys/fs/cgroup");
        let mut trees = vec![root.to_owned()];
        trees.extend(folders(root));
        trees.into_iter().map(|tree| tree.join(&name)).filter(|group| group.is_dir()).collect()
    }
}

/// The folder called `name`, somewhere below another.
fn find(below: &Path, name: &str) -> Option<PathBuf> {
    folders(below).into_iter().find_map(|folder| {
        if folder.file_name().is_some_and(|own| own == name) { Some(folder) } else { find(&folder, name) }
    })
}

/// The folders in a folder; none if it is gone.
fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}
