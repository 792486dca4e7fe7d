//! The report that the chart's CronJob writes to a volume.

use std::fs;
use std::path::{Path, PathBuf};

use crate::node::NODE_NAME;
use crate::release::Release;

/// Makes the volume `reports`, for claims of the class of this name: a folder on the node, as the kubelet gives it to the
/// pods' group. The folder.
pub fn volume(release: &Release) -> PathBuf {
    let folder = release.cluster.node.dir().join("reports");
    fs::create_dir_all(&folder).unwrap();
    let manifest = format!(
        "
apiVersion: v1
kind: PersistentVolume
metadata: {{name: reports}}
spec:
  storageClassName: reports
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  local: {{path: {}}}
  nodeAffinity:
    required:
      nodeSelectorTerms:
        - matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{NODE_NAME}]}}]
",
        folder.display()
    );
    release.cluster.node.kubectl_stdin(&["apply", "-f", "-"], &manifest).unwrap();
    folder
}

/// Runs the CronJob's job now, and reads what it has written: a table with these phones, their LSCs and no string.
pub fn is_written(release: &Release, folder: &Path, phones: &[&str]) {
    release.in_release(&["create", "job", "report-now", "--from=cronjob/capf-report"]);
    release.in_release(&["wait", "--for=condition=Complete", "--timeout=120s", "job/report-now"]);
    let path = folder.join("report-now.csv");
    let csv = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = csv.lines();
    let heading = lines.next().unwrap_or_default();
    assert!(heading.contains("Device Name"), "{csv}");
    let lines: Vec<&str> = lines.collect();
    for phone in phones {
        let line = lines.iter().find(|line| line.contains(phone));
        assert!(line.is_some_and(|line| line.contains("successful")), "{phone}: {csv}");
    }
    release.in_release(&["delete", "job", "report-now"]);
}
