//! The product is installed, as a person would do it, and the first phone gets its certificate.

use std::process::Command;
use std::time::Duration;

use crate::Trouble;
use crate::fleet::NAMESPACE;
use crate::harness::{ControlPlane, Process, capf_binary, free_port};
use crate::shell::{Shell, heading, say};

/// How long a process may take to begin; a quiet machine needs a second.
const BEGIN: Duration = Duration::from_secs(60);

/// An endpoint that serves phones.
pub struct Endpoint {
    /// The running program.
    pub process: Process,
    /// Where phones connect.
    pub address: String,
}

/// The resource types, the rights of the controllers, and one controller.
pub fn controller(plane: &ControlPlane, shell: &Shell) -> Result<Process, Trouble> {
    heading("The resource types, and the rights of the controllers");
    shell.run("kubectl apply --server-side -f crds/")?;
    shell.run_quietly("kubectl wait --for=condition=Established --timeout=60s -f crds/")?;
    shell.run("kubectl create namespace capf-system")?;
    shell.run("kubectl apply -f deploy/rbac.yaml")?;
    shell.run(
        "kubectl create clusterrolebinding capf-controller --clusterrole=capf-controller --user=capf-controller",
    )?;
    shell.run(
        "kubectl -n capf-system create rolebinding capf-controller-lease --role=capf-controller-lease \
         --user=capf-controller",
    )?;

    heading("The controller, with these rights and no others");
    let address = format!("127.0.0.1:{}", free_port());
    shell.show(&format!("capf controller --listen {address} --advertise {address} &"));
    let mut command = Command::new(capf_binary());
    command.args(["controller", "--listen", &address, "--advertise", &address]);
    let mut process = plane.spawn("controller", Some("capf-controller"), &mut command)?;
    println!("{}", process.wait_for_log("ready: answering questions", BEGIN)?);
    Ok(process)
}

/// The examples: a namespace, a proxy, five phones.
pub fn examples(shell: &Shell) -> Result<(), Trouble> {
    heading("A CAPF and its first phones");
    shell.run("kubectl apply -f examples/")?;
    shell.run(&format!("kubectl -n {NAMESPACE} wait --for=condition=Ready --timeout=60s capf/main"))?;
    shell.run_quietly(&format!("kubectl -n {NAMESPACE} wait --for=condition=Ready --timeout=60s ph --all"))?;
    shell.run(&format!("kubectl -n {NAMESPACE} get ph"))?;
    Ok(())
}

/// The endpoint, with what it needs exported from the cluster, as for one that runs near the phones.
pub fn endpoint(plane: &ControlPlane, shell: &Shell) -> Result<Endpoint, Trouble> {
    heading("An endpoint outside the cluster, where phones connect");
    shell.run(&format!("capf endpoint-bundle -n {NAMESPACE} --proxy main --output \"$DEMO/bundle\""))?;
    let address = format!("127.0.0.1:{}", free_port());
    shell.show(&format!("capf endpoint --bundle \"$DEMO/bundle\" --listen {address} &"));
    let mut command = Command::new(capf_binary());
    command.args(["endpoint", "--listen", &address, "--bundle"]).arg(shell.folder().join("bundle"));
    // It talks to controllers only: a kubeconfig is not for it.
    command.env("KUBECONFIG", "/dev/null");
    let mut process = plane.spawn("endpoint", None, &mut command)?;
    println!("{}", process.wait_for_log("phones are awaited", BEGIN)?);
    Ok(Endpoint { process, address })
}

/// The phone at the reception, by hand: its CTL, the string its user types, its certificate.
pub fn first_phone(shell: &Shell, address: &str) -> Result<(), Trouble> {
    heading("The first phone, by hand: what its CTL must hold, the string its user types, its LSC");
    shell.run(&format!(
        "kubectl -n {NAMESPACE} get configmap main-certificates -o jsonpath='{{.binaryData.CAPF\\.cer}}' | base64 -d \
         > \"$DEMO/CAPF.cer\""
    ))?;
    shell.run("printf 48151623 > \"$DEMO/typed\"")?;
    shell.run(&format!(
        "capf phone --server {address} --device-name SEP00A1B2C30102 --ctl \"$DEMO/CAPF.cer\" \
         --authentication-string-file \"$DEMO/typed\" --state \"$DEMO/reception\""
    ))?;
    shell.run(&format!("kubectl -n {NAMESPACE} wait --for=condition=Succeeded --timeout=30s ph/sep00a1b2c30102"))?;
    say("Another's string was made by CAPF. Who may read its Secret can tell it to the user:");
    shell.run(&format!("capf report -n {NAMESPACE} --device-name '*0101' --show-authentication-strings"))?;
    Ok(())
}

/// What to try while the demo stays.
pub fn by_hand(address: &str) -> String {
    format!(
        "# what there is
kubectl -n {NAMESPACE} get capf,ph,certop
kubectl -n {NAMESPACE} describe ph sep00a1b2c30001
capf report -n {NAMESPACE} --operation-status failed --wide

# another certificate for a phone
kubectl -n {NAMESPACE} patch ph sep00a1b2c30001 --type=merge -p '{{\"spec\": {{\"revision\": 1}}}}'
capf phone --server {address} --device-name SEP00A1B2C30001 --ctl \"$DEMO/CAPF.cer\" --null-string
kubectl -n {NAMESPACE} get ph sep00a1b2c30001"
    )
}
