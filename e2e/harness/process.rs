//! A program beside the control plane: a controller, an endpoint, a hundred phones.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{HarnessError, tools};

/// How long a program has to end after SIGTERM. Its guard gives it as long.
const GRACE: Duration = Duration::from_secs(20);
/// How often something is looked at that only changes in another process.
const PAUSE: Duration = Duration::from_millis(10);

/// A running program with its output in a file. It is killed when this is dropped, or when the starting process dies.
///
/// It runs under `capf-e2e guard`, which notices the latter. What the program itself starts is killed with it as long
/// as it stays in its process group.
pub struct Process {
    name: String,
    guard: Child,
    pid: u32,
    log: PathBuf,
    /// Where the program's part of the log begins: an earlier one may have written to the same file.
    log_start: u64,
}

impl Process {
    /// Starts what `command` describes: program, arguments, environment and folder count; its stdin is empty, and
    /// stdout and stderr are appended to the file `log`, whose name is the program's in errors.
    /// ([`Command::env_clear`] cannot be seen from here and does nothing.)
    ///
    /// # Errors
    /// [`HarnessError::Ended`] with status 127 when there is no such program.
    pub fn start(command: &Command, log: impl AsRef<Path>) -> Result<Self, HarnessError> {
        let log = log.as_ref().to_owned();
        let name = log.file_stem().unwrap_or_default().to_string_lossy().into();
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(HarnessError::io(format!("open {}", log.display())))?;
        let log_start = output.metadata().map_err(HarnessError::io(format!("examine {}", log.display())))?.len();
        let errors = output.try_clone().map_err(HarnessError::io(format!("open {}", log.display())))?;
        // Of this start alone, so that no earlier one's number is read.
        let pid_file = log.with_extension(format!("{:x}.pid", tools::random()));

        let mut guard = Command::new(tools::supervisor()?);
        guard
            .arg("guard")
            .arg("--grace")
            .arg(format!("{}s", GRACE.as_secs()))
            .arg("--pid-file")
            .arg(&pid_file)
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => guard.env(key, value),
                None => guard.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            guard.current_dir(folder);
        }
        // A group of its own: what kills a group of test processes leaves the guard alive to clean up.
        std::os::unix::process::CommandExt::process_group(&mut guard, 0);
        let guard = guard
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(HarnessError::io(format!("start a guard for {name}")))?;
        let mut process = Self { name, guard, pid: 0, log, log_start };
        process.pid = process.read_pid(&pid_file)?;
        Ok(process)
    }

    /// The guard writes the file right after the start, and ends if it cannot start anything.
    fn read_pid(&mut self, file: &Path) -> Result<u32, HarnessError> {
        loop {
            let ended = self.ended()?;
            if let Some(pid) = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) {
                let _ = fs::remove_file(file);
                return Ok(pid);
            }
            if let Some(status) = ended {
                return Err(self.ended_error(status));
            }
            thread::sleep(PAUSE);
        }
    }

    /// The process id of the program itself, not of its guard.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the program still runs (a stopped one does).
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.ended(), Ok(None))
    }

    /// Asks the program to end, with SIGTERM, and returns its exit status; kills it if it has not ended after 20 s.
    ///
    /// # Errors
    /// [`HarnessError::TimedOut`] when it had to be killed.
    pub fn terminate(&mut self) -> Result<i32, HarnessError> {
        self.signal("TERM")?;
        let outcome = self.wait(GRACE);
        if outcome.is_err() {
            self.kill()?;
        }
        outcome
    }

    /// Kills the program with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<(), HarnessError> {
        self.signal("KILL")?;
        self.wait(GRACE).map(|_status| ())
    }

    /// Freezes the program with SIGSTOP: its connections stay, it answers nothing. Returns when it stands still.
    ///
    /// # Errors
    /// When it does not, within 5 s.
    pub fn stop(&mut self) -> Result<(), HarnessError> {
        self.signal("STOP")?;
        let timeout = Duration::from_secs(5);
        let deadline = Instant::now() + timeout;
        while state(self.pid) != Some('T') {
            if Instant::now() > deadline {
                return Err(HarnessError::TimedOut {
                    what: format!("{} stands still", self.name),
                    timeout,
                    last: format!("state {:?}", state(self.pid)),
                });
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Lets a stopped program go on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn cont(&mut self) -> Result<(), HarnessError> {
        self.signal("CONT")
    }

    /// Sends a signal by its name without SIG, such as `HUP`. One to a program that has ended does nothing.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&mut self, name: &str) -> Result<(), HarnessError> {
        if self.is_running() {
            signal(self.pid, name)?;
        }
        Ok(())
    }

    /// Waits for the program to end and returns its exit status as a shell has it: 128 plus the signal's number for
    /// one that died of a signal.
    ///
    /// # Errors
    /// [`HarnessError::TimedOut`] with the end of its log.
    pub fn wait(&mut self, timeout: Duration) -> Result<i32, HarnessError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(HarnessError::TimedOut { what: format!("{} ends", self.name), timeout, last: self.tail() });
            }
            thread::sleep(PAUSE);
        }
    }

    /// All that the program has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap_or(usize::MAX);
        String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
    }

    /// Where its output goes.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Waits for a line of output that contains `text`, and returns that line.
    ///
    /// # Errors
    /// [`HarnessError::Ended`] when the program ends without having written it, [`HarnessError::TimedOut`] otherwise.
    pub fn wait_for_log(&mut self, text: &str, timeout: Duration) -> Result<String, HarnessError> {
        let deadline = Instant::now() + timeout;
        loop {
            // Asked before the log is read: what it wrote last is then in it.
            let ended = self.ended()?;
            if let Some(line) = self.log().lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            if let Some(status) = ended {
                return Err(self.ended_error(status));
            }
            if Instant::now() > deadline {
                return Err(HarnessError::TimedOut {
                    what: format!("{} writes {text:?}", self.name),
                    timeout,
                    last: self.tail(),
                });
            }
            thread::sleep(PAUSE);
        }
    }

    /// The exit status, once there is one. The guard ends with its program's.
    fn ended(&mut self) -> Result<Option<i32>, HarnessError> {
        let status = self.guard.try_wait().map_err(HarnessError::io(format!("wait for {}", self.name)))?;
        // A guard that was killed has no code; its program was killed by the kernel then.
        Ok(status.map(|status| status.code().unwrap_or(137)))
    }

    fn ended_error(&self, status: i32) -> HarnessError {
        HarnessError::Ended { name: self.name.clone(), status, log: self.tail() }
    }

    /// The last twenty lines of the log.
    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.pid != 0 {
            let _ = self.signal("KILL");
        }
        // Closes the guard's stdin as well: should the signal have failed, the guard does it.
        let _ = self.guard.wait();
    }
}

/// Sends a signal, by its name without SIG, to a process. `kill` is a shell builtin, so no package need be installed.
///
/// # Errors
/// When there is no such process or it belongs to somebody else.
pub fn signal(pid: u32, name: &str) -> Result<(), HarnessError> {
    let action = format!("send SIG{name} to process {pid}");
    let output = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()])
        .output()
        .map_err(HarnessError::io(action.clone()))?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(HarnessError::io(action)(std::io::Error::other(reason)))
}

/// Whether a process exists and has not ended; one that merely waits to be collected by its parent has.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    !matches!(state(pid), None | Some('Z'))
}

/// The kernel's letter for what a process does (proc(5)). The name before it may hold spaces and parentheses.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}
