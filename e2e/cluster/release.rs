//! A release of the chart as its user has it: two namespaces that admit only restricted pods, Helm, and phones that call.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use capf::domain::report::unguarded;
use serde_json::Value;

use crate::harness::{HarnessError, capf_binary, eventually};
use crate::helm;
use crate::setup::{Cluster, REPOSITORY, Version};

/// How long anything is waited for that takes seconds on a quiet machine, or two minutes where a kubelet takes its time.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// A release called `capf`, in a namespace of its own, with phones in another. When a test fails, what the pods of both
/// say is shown.
pub struct Release {
    pub cluster: &'static Cluster,
    /// Namespace of the controllers.
    pub namespace: String,
    /// Namespace of the proxy `main`, of its endpoints and of the phones.
    pub phones: String,
    /// What the simulated phones keep.
    folder: tempfile::TempDir,
}

impl Release {
    /// Makes the namespaces `WHAT-system` and `WHAT-phones`, which enforce `restricted` and warn of what does not meet it.
    pub fn prepare(cluster: &'static Cluster, what: &str) -> Self {
        let release = Self {
            cluster,
            namespace: format!("{what}-system"),
            phones: format!("{what}-phones"),
            folder: tempfile::tempdir().unwrap(),
        };
        for namespace in [&release.namespace, &release.phones] {
            cluster.node.kubectl(&["create", "namespace", namespace]).unwrap();
            let labels =
                ["enforce", "warn", "audit"].map(|mode| format!("pod-security.kubernetes.io/{mode}=restricted"));
            let [enforce, warn, audit] = &labels;
            cluster.node.kubectl(&["label", "namespace", namespace, enforce, warn, audit]).unwrap();
        }
        release
    }

    /// Runs Helm with these values: what it printed, on both outputs, or what it complained about.
    ///
    /// # Errors
    /// With all that Helm said.
    pub fn try_helm(&self, args: &[&str], values: &[&str]) -> Result<String, String> {
        let files: Vec<_> = values.iter().map(|values| helm::values_file(values)).collect();
        let mut command = helm::command(Some(&self.cluster.node.kubeconfig(None)));
        command.args(args).args(["--namespace", &self.namespace]);
        for file in &files {
            command.arg("--values").arg(file.path());
        }
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    /// The same, for what must not fail and be warned of.
    pub fn helm(&self, args: &[&str], values: &[&str]) -> String {
        let said = self.try_helm(args, values).unwrap_or_else(|said| panic!("helm {args:?}: {said}"));
        assert!(!said.contains("Warning:") && !said.contains("violate"), "helm {args:?}: {said}");
        said
    }

    /// `helm install` or `upgrade` of a version with its image, and waits as Helm does.
    pub fn deploy(&self, verb: &str, version: &Version, values: &[&str]) -> String {
        let image = format!("image: {{repository: {REPOSITORY}}}");
        let chart = version.chart.to_str().unwrap();
        self.helm(&[verb, "capf", chart, "--wait", "--timeout=5m"], &[&[image.as_str()], values].concat())
    }

    /// `helm install`, see [`Release::deploy`].
    pub fn install(&self, version: &Version, values: &[&str]) -> String {
        self.deploy("install", version, values)
    }

    /// `helm upgrade`, see [`Release::deploy`].
    pub fn upgrade(&self, version: &Version, values: &[&str]) -> String {
        self.deploy("upgrade", version, values)
    }

    /// `helm uninstall`, and waits until all that Helm deletes is gone.
    pub fn uninstall(&self) -> String {
        self.helm(&["uninstall", "capf", "--wait", "--timeout=5m"], &[])
    }

    /// Removes the namespaces, and waits until they are gone: of this release nothing is left that could go later.
    pub fn remove(self) {
        // Endpoints first: to a namespace that goes they are pods that may take half an hour to end, and it looks for their
        // end after half of that only.
        // The proxy before them, or a release that looks after all namespaces would make them anew. Where the types have
        // gone there is none.
        let proxies = ["delete", "certificateauthorityproxies", "--all", "--namespace", &self.phones];
        let _ = self.cluster.node.kubectl(&proxies);
        self.in_phones(&["delete", "deployment", "--all", "--cascade=foreground", "--timeout=120s"]);
        self.cluster.node.kubectl(&["delete", "namespace", &self.namespace, &self.phones, "--timeout=120s"]).unwrap();
    }

    /// `kubectl`, in the namespace of the controllers.
    pub fn in_release(&self, args: &[&str]) -> String {
        self.in_namespace(&self.namespace, args)
    }

    /// `kubectl`, in the namespace of the phones.
    pub fn in_phones(&self, args: &[&str]) -> String {
        self.in_namespace(&self.phones, args)
    }

    /// `kubectl`, in a namespace.
    pub fn in_namespace(&self, namespace: &str, args: &[&str]) -> String {
        self.cluster.node.kubectl(&[&["--namespace", namespace], args].concat()).unwrap()
    }

    /// `kubectl apply`, in the namespace of the phones.
    pub fn apply(&self, manifest: &str) -> String {
        self.cluster.node.kubectl_stdin(&["apply", "--namespace", &self.phones, "-f", "-"], manifest).unwrap()
    }

    /// An object of the phones' namespace, such as `phone/sep000000000001`.
    pub fn get(&self, object: &str) -> Value {
        serde_json::from_str(&self.in_phones(&["get", object, "--output=json"])).unwrap()
    }

    /// Waits until the proxy is Ready for its newest generation, which its endpoints are then as well.
    pub fn proxy_ready(&self) {
        self.in_phones(&["wait", "--for=condition=Ready", "--timeout=180s", "certificateauthorityproxy/main"]);
        self.in_phones(&["rollout", "status", "deployment/main-endpoint", "--timeout=180s"]);
    }

    /// Where the phones call: the Service's address and port.
    pub fn server(&self) -> String {
        let service = self.get("service/main-endpoint");
        let address = service["spec"]["clusterIP"].as_str().unwrap();
        format!("{address}:{}", service["spec"]["ports"][0]["port"])
    }

    /// The published certificate, as a file for the phones' CTL.
    pub fn certificate(&self) -> PathBuf {
        let map = self.get("configmap/main-certificates");
        let text = map["binaryData"]["CAPF.cer"].as_str().unwrap();
        let path = self.folder.path().join("CAPF.cer");
        let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap();
        fs::write(&path, der).unwrap();
        path
    }

    /// A Phone of the proxy `main`, with these further lines of its spec, and whatever else, at the end.
    pub fn phone(&self, device: &str, spec: &str) -> String {
        format!(
            "apiVersion: capf.dev/v1alpha1\nkind: Phone\nmetadata: {{name: {}}}\nspec:\n  deviceName: {device}\n  \
             proxyRef: {{name: main}}\n{spec}\n",
            device.to_lowercase()
        )
    }

    /// Waits until a phone's Operation Status reads so.
    pub fn reads(&self, device: &str, status: &str) {
        let wanted = format!("--for=jsonpath={{.status.operationStatus}}={status}");
        self.in_phones(&["wait", &wanted, "--timeout=120s", &format!("phone/{}", device.to_lowercase())]);
    }

    /// A simulated phone, outside the cluster, that keeps what it has from one call to the next, and calls the Service. Add
    /// how it proves itself. It comes again after a communication failure, as phones do, but sooner.
    pub fn call(&self, device: &str) -> Command {
        self.call_at(device, &self.server())
    }

    /// The same, with another way to the endpoints.
    pub fn call_at(&self, device: &str, server: &str) -> Command {
        let mut command = self.simulated(server);
        command.args(["--device-name", device, "--state"]).arg(self.folder.path().join(device));
        command
    }

    /// `capf phone`, outside the cluster. Add which phone it is, or which.
    pub fn simulated(&self, server: &str) -> Command {
        let mut command = self.cluster.node.outside(capf_binary());
        command.args(["phone", "--retry-interval=5", "--server", server, "--ctl"]).arg(self.certificate());
        command
    }

    /// The digits that were made for a phone, as its user gets them.
    pub fn generated(&self, device: &str) -> String {
        let kubeconfig = self.cluster.node.kubeconfig(None);
        let mut command = Command::new(capf_binary());
        command.args(["auth-strings", "--format=csv", "--namespace", &self.phones, "--device-name", device]);
        let output = command.env("KUBECONFIG", kubeconfig).output().unwrap();
        let sheet = String::from_utf8_lossy(&output.stdout);
        digits_on(&sheet, device).unwrap_or_else(|| panic!("{output:?}"))
    }

    /// Waits until something is so that the cluster does by itself.
    pub async fn settles(&self, what: &str, look: impl AsyncFn() -> Result<(), String>) {
        eventually(what, PATIENCE, || look()).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits until all pods of controllers and endpoints are of this version and Ready, two of each.
    pub async fn runs_only(&self, version: &Version) {
        let wanted = format!("{} True", version.image());
        let path = "jsonpath={range .items[*]}{.spec.containers[0].image} \
                    {.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";
        self.settles(&format!("four pods of {} run", version.image()), async || {
            let mut pods = Vec::new();
            for namespace in [&self.namespace, &self.phones] {
                let args = ["get", "pods", "--namespace", namespace, "--output", path];
                let said = self.cluster.node.kubectl(&args).map_err(|error| error.to_string())?;
                pods.extend(said.lines().map(str::to_owned));
            }
            if pods.len() == 4 && pods.iter().all(|pod| *pod == wanted) { Ok(()) } else { Err(format!("{pods:?}")) }
        })
        .await;
    }

    /// The names of the pods with a label.
    pub fn pods(&self, namespace: &str, selector: &str) -> Vec<String> {
        let names = "jsonpath={.items[*].metadata.name}";
        let names = self.in_namespace(namespace, &["get", "pods", "--selector", selector, "--output", names]);
        names.split_whitespace().map(str::to_owned).collect()
    }

    /// No pod was refused by what the namespaces enforce.
    pub fn admitted_all(&self) {
        for namespace in [&self.namespace, &self.phones] {
            let events = self.in_namespace(namespace, &["get", "events", "--output=jsonpath={.items[*].message}"]);
            assert!(!events.contains("PodSecurity"), "{events}");
        }
    }

    /// A file in a folder that goes with this.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let show = |said: Result<String, HarnessError>| eprintln!("{}", said.unwrap_or_else(|error| error.to_string()));
        for namespace in [&self.namespace, &self.phones] {
            for what in [["get", "all,capf,phones,certop"], ["get", "events"], ["describe", "pods"]] {
                show(self.cluster.node.kubectl(&[&["--namespace", namespace], &what[..]].concat()));
            }
            for label in ["app.kubernetes.io/name=capf-operator", "app.kubernetes.io/name=capf-endpoint"] {
                let args = ["logs", "--namespace", namespace, "-l", label, "--tail=60", "--prefix", "--ignore-errors"];
                show(self.cluster.node.kubectl(&args));
            }
        }
        // Its controllers would look after what other scenarios make, if it was one for all namespaces.
        if let Err(said) = self.try_helm(&["uninstall", "capf", "--ignore-not-found", "--wait", "--timeout=2m"], &[]) {
            eprintln!("{said}");
        }
    }
}

/// The digits beside a device name on the sheet, as a program reads them: without the apostrophe by which spreadsheets keep
/// a leading zero.
fn digits_on(sheet: &str, device: &str) -> Option<String> {
    let mut fields = sheet.lines().flat_map(|line| line.split(','));
    fields.find(|field| *field == device)?;
    Some(unguarded(fields.next()?).to_owned())
}

/// The manifest of a Secret with a given string.
pub fn string(name: &str, digits: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: capf.dev/authentication-string\nstringData: \
         {{authenticationString: \"{digits}\"}}\n"
    )
}

/// Runs a simulated phone to its end: what it printed.
pub fn enrolled(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {out}{err}");
    out.into_owned()
}

#[test]
fn digits_on_the_sheet_keep_their_leading_zero_and_lose_its_apostrophe() {
    let sheet =
        "Namespace,Device Name,Authentication String\nhq,SEP0000000000A1,'0123456789\nhq,SEP0000000000A2,1234567890\n";
    assert_eq!(digits_on(sheet, "SEP0000000000A1").as_deref(), Some("0123456789"));
    assert_eq!(digits_on(sheet, "SEP0000000000A2").as_deref(), Some("1234567890"));
    assert_eq!(digits_on(sheet, "SEP0000000000A3"), None);
}
