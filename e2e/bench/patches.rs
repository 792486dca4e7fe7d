//! What the API server can do at best: bare status patches of operations of the size of an enrolled one.

use std::time::{Duration, Instant};

use capf::api::CertificateOperation;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::product::Product;

const LASTS: Duration = Duration::from_secs(8);

/// Merge patches of a status a second, by `concurrency` clients on one operation each.
pub async fn per_second(product: &Product, concurrency: usize) -> f64 {
    let manifest: String = (0..concurrency).map(manifest).collect();
    product.apply(&manifest);
    let end = Instant::now() + LASTS;
    let tasks: Vec<_> = (0..concurrency)
        .map(|number| {
            let api: Api<CertificateOperation> = product.api();
            tokio::spawn(async move {
                let mut done = 0_u32;
                while Instant::now() < end {
                    // As large as the status of an enrolled phone, and another each time.
                    let filler = format!("{done:0>1500}");
                    let patch = json!({"status": {"certificate": {
                        "serialNumber": "00", "sha256Fingerprint": "00", "publicKeySha256": "00", "issuer": "CN=bench",
                        "notBefore": "2026-01-01T00:00:00Z", "notAfter": "2026-01-01T00:00:00Z",
                        "issuedAt": "2026-01-01T00:00:00Z", "pem": filler
                    }}});
                    api.patch_status(&format!("patched-{number}"), &PatchParams::default(), &Patch::Merge(&patch))
                        .await
                        .unwrap();
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0.0;
    for task in tasks {
        done += f64::from(task.await.unwrap());
    }
    product.kubectl(&["delete", "certop", "-l", "bench=patches", "--wait=false"]);
    done / LASTS.as_secs_f64()
}

fn manifest(number: usize) -> String {
    format!(
        "---\napiVersion: capf.dev/v1alpha1\nkind: CertificateOperation\nmetadata: {{name: patched-{number}, labels: \
         {{bench: patches}}}}\nspec: {{phoneRef: {{name: nobody-{number}}}, certificateOperation: InstallUpgrade, \
         authenticationMode: ByNullString, requestedBy: Person, operationCompletesBy: \"2099-01-01T00:00:00Z\"}}\n"
    )
}
