//! From the first install to the last uninstall, by the commands of a user.

use crate::release::{Release, enrolled};
use crate::setup::Cluster;

const VALUES: &str = "
proxy:
  enabled: true
  spec: {permitNullString: true}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_installed_tested_upgraded_and_removed() {
    let Some(cluster) = Cluster::shared() else { return };
    let _alone = cluster.alone().await;
    let release = Release::prepare(cluster, "lifecycle");
    let where_phones_are = format!("proxy: {{namespace: {}}}", release.phones);
    let values = [VALUES, &where_phones_are];

    release.install(&cluster.before, &values);
    release.proxy_ready();
    let null = "  certificateOperation: InstallUpgrade\n  authenticationMode: ByNullString";
    release.apply(&release.phone("SEP000000000001", null));
    release.reads("SEP000000000001", "Install/Upgrade pending");
    enrolled(release.call("SEP000000000001").arg("--null-string"));
    release.reads("SEP000000000001", "Install/Upgrade successful");
    release.helm(&["test", "capf", "--logs"], &[]);

    release.upgrade(&cluster.now, &values);
    release.proxy_ready();
    release.uninstall();
}
