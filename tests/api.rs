//! What manifests are accepted and refused, and which changes, by the CRDs alone.

mod api_support;

use api_support::{refusals, with};
use serde_json::{Value, json};

const PROXY: &str = "CertificateAuthorityProxy";
const PHONE: &str = "Phone";
const OPERATION: &str = "CertificateOperation";

fn base(kind: &str) -> Value {
    match kind {
        PROXY => json!({"metadata": {"name": "main"}, "spec": {"placement": "External"}}),
        PHONE => json!({
            "metadata": {"name": "sep001122aabbcc"},
            "spec": {"deviceName": "SEP001122AABBCC", "proxyRef": {"name": "main"}},
        }),
        OPERATION => json!({
            "metadata": {"name": "sep001122aabbcc-1"},
            "spec": {
                "phoneRef": {"name": "sep001122aabbcc"},
                "certificateOperation": "InstallUpgrade",
                "authenticationMode": "ByAuthenticationString",
                "requestedBy": "Person",
            },
        }),
        other => panic!("no kind {other}"),
    }
}

/// A proxy with these endpoints.
fn in_cluster(endpoints: Value) -> Value {
    json!({"spec": {"placement": "InCluster", "endpoints": endpoints}})
}

#[test]
fn manifests_that_make_sense_are_accepted() {
    let accepted = [
        (PROXY, json!({})),
        (PROXY, json!({"metadata": {"name": "a".repeat(40)}})),
        (PROXY, json!({"spec": {"keyType": "EC", "keySize": 384, "certificateValidityYears": 20}})),
        (PROXY, json!({"spec": {"keySize": 4096, "phonePort": 65_535, "operationExpiresInDays": 365}})),
        (PROXY, json!({"spec": {"phoneDefaults": {"keySize": 512, "authenticationMode": "ByNullString"}}})),
        (PROXY, json!({"spec": {"certificateSubject": {"organization": "Müller & Söhne", "country": "DE"}}})),
        (PROXY, json!({"spec": {"limits": {"connections": 16}, "suspend": true, "certificateRevision": 7}})),
        (
            PROXY,
            json!({"spec": {"micRoots": {"configMapRef": {"name": "a"}, "key": "ca.pem"}, "expiredMIC": {"policy": "Reject"}}}),
        ),
        (
            PROXY,
            json!({"spec": {
                "micRoots": {"secretRef": {"name": "a"}, "key": "ca.pem"},
                "expiredMIC": {"policy": "AllowUntil", "until": "2030-01-01T00:00:00Z"},
                "phoneDefaults": {"authenticationMode": "ByExistingCertificatePrecedenceToLSC"},
            }}),
        ),
        (PROXY, json!({"spec": {"placement": null}})),
        (PROXY, in_cluster(json!({}))),
        (
            PROXY,
            in_cluster(json!({
                "replicas": 16,
                "resources": {"requests": {"cpu": "0.5"}, "limits": {"cpu": "2", "memory": "1Gi"}},
                "nodeSelector": {"kubernetes.io/os": "linux"},
                "tolerations": [
                    {"operator": "Exists"},
                    {"key": "voice", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 60},
                ],
                "topologySpreadConstraints": [
                    {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"},
                ],
                "priorityClassName": "system-cluster-critical",
                "service": {
                    "type": "LoadBalancer", "annotations": {"example.net/pool": "voice"}, "nodePort": 30_804,
                    "loadBalancerClass": "example.net/lb", "loadBalancerSourceRanges": ["192.0.2.0/24", "2001:db8::/56"],
                },
            })),
        ),
        (PHONE, json!({})),
        (PHONE, json!({"spec": {"authenticationMode": "ByExistingCertificatePrecedenceToMIC"}})),
        (OPERATION, json!({"spec": {"authenticationMode": "ByExistingCertificatePrecedenceToLSC"}})),
        (PHONE, json!({"metadata": {"name": "csf-x.1"}, "spec": {"deviceName": "csf-X.1"}})),
        (PHONE, json!({"metadata": {"name": "abc"}, "spec": {"deviceName": "ABC"}})),
        (PHONE, json!({"spec": {"certificateOperation": "InstallUpgrade", "keySize": 512, "revision": 0}})),
        (PHONE, json!({"spec": {"certificateOperation": "NoPendingOperation", "keyType": "EC", "keySize": 521}})),
        (PHONE, json!({"spec": {"keyType": "EC"}})),
        (PHONE, json!({"spec": {"authenticationString": {"generate": true}}})),
        (PHONE, json!({"spec": {"authenticationString": {"generate": false, "secretRef": {"name": "s"}}}})),
        (
            PHONE,
            json!({"spec": {"authenticationMode": "ByAuthenticationString", "authenticationString": {"secretRef": {"name": "s"}}}}),
        ),
        (PHONE, json!({"spec": {"operationCompletesBy": "1999-01-01T00:00:00Z"}})),
        (PHONE, json!({"spec": {"operationCompletesBy": "2027-01-31T18:00:00.5+05:30"}})),
        (OPERATION, json!({})),
        (OPERATION, json!({"spec": {"authenticationMode": "ByNullString", "keySize": 1024}})),
        (OPERATION, json!({"spec": {"authenticationString": {"generate": true}, "keyType": "EC", "keySize": 256}})),
    ];
    for (kind, change) in accepted {
        let found = refusals(kind, &with(&base(kind), change.clone()), None);
        assert!(found.is_empty(), "{kind} with {change} is refused: {found:?}");
    }
}

#[test]
fn manifests_that_make_no_sense_are_refused_and_the_field_is_named() {
    let too_long = "x".repeat(65);
    let refused = [
        (PROXY, json!({"metadata": {"name": "a".repeat(41)}}), "metadata.name"),
        (PROXY, json!({"metadata": {"name": "a.b"}, "spec": {"placement": "InCluster"}}), "metadata.name"),
        (PROXY, json!({"metadata": {"name": "1a"}, "spec": {"placement": null}}), "metadata.name"),
        (PROXY, json!({"spec": {"endpoints": {}}}), "endpoints: says how pods run"),
        (PROXY, in_cluster(json!({"replicas": 0})), "spec.endpoints.replicas"),
        (PROXY, in_cluster(json!({"replicas": 17})), "spec.endpoints.replicas"),
        (PROXY, in_cluster(json!({"resources": {"limits": {"cpu": "many"}}})), "spec.endpoints.resources.limits.cpu"),
        (PROXY, in_cluster(json!({"nodeSelector": {"a": "x".repeat(64)}})), "spec.endpoints.nodeSelector.a"),
        (PROXY, in_cluster(json!({"tolerations": [{"value": "a"}]})), "operator must be Exists"),
        (
            PROXY,
            in_cluster(json!({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]})),
            "value goes with",
        ),
        (PROXY, in_cluster(json!({"tolerations": [{"key": "a", "tolerationSeconds": 1}]})), "NoExecute"),
        (PROXY, in_cluster(json!({"topologySpreadConstraints": [{"maxSkew": 1}]})), "topologyKey: is required"),
        (PROXY, in_cluster(json!({"service": {"nodePort": 30_804}})), "nodePort goes with"),
        (PROXY, in_cluster(json!({"service": {"type": "NodePort", "loadBalancerClass": "a/b"}})), "type LoadBalancer"),
        (
            PROXY,
            in_cluster(json!({"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["everywhere"]}})),
            "loadBalancerSourceRanges[]",
        ),
        (PROXY, in_cluster(json!({"service": {"type": "ExternalName"}})), "spec.endpoints.service.type"),
        (PROXY, json!({"spec": {"placement": "Elsewhere"}}), "spec.placement"),
        (PROXY, json!({"spec": {"certificateIssuer": "Keon"}}), "certificateIssuer"),
        (PROXY, json!({"spec": {"keonJurisdictionID": "x"}}), "keonJurisdictionID"),
        (PROXY, json!({"spec": {"scepPort": 80}}), "scepPort"),
        (PROXY, json!({"spec": {"certificateAuthorityAddress": "ca"}}), "certificateAuthorityAddress"),
        (PROXY, json!({"spec": {"keySize": 1024}}), "keySize"),
        (PROXY, json!({"spec": {"keyType": "EC", "keySize": 2048}}), "keySize"),
        (PROXY, json!({"spec": {"phonePort": 0}}), "phonePort"),
        (PROXY, json!({"spec": {"phonePort": 65_536}}), "phonePort"),
        (PROXY, json!({"spec": {"operationExpiresInDays": 0}}), "operationExpiresInDays"),
        (PROXY, json!({"spec": {"certificateValidityYears": 21}}), "certificateValidityYears"),
        (PROXY, json!({"spec": {"maximumAuthenticationAttempts": 11}}), "maximumAuthenticationAttempts"),
        (PROXY, json!({"spec": {"maximumKeyGenerationAttempts": 0}}), "maximumKeyGenerationAttempts"),
        (PROXY, json!({"spec": {"maximumKeyGenerationMinutes": 121}}), "maximumKeyGenerationMinutes"),
        (PROXY, json!({"spec": {"certificateRevision": -1}}), "certificateRevision"),
        (PROXY, json!({"spec": {"certificateSubject": {"country": "de"}}}), "country"),
        (PROXY, json!({"spec": {"certificateSubject": {"country": "DEU"}}}), "country"),
        (PROXY, json!({"spec": {"certificateSubject": {"organization": too_long}}}), "organization"),
        (PROXY, json!({"spec": {"certificateSubject": {"locality": ""}}}), "locality"),
        (PROXY, json!({"spec": {"phoneDefaults": {"keyType": "EC", "keySize": 1024}}}), "keySize"),
        (PROXY, json!({"spec": {"micRoots": {"key": "ca.pem"}}}), "micRoots"),
        (PROXY, json!({"spec": {"micRoots": {"configMapRef": {"name": "a"}}}}), "micRoots.key"),
        (
            PROXY,
            json!({"spec": {"micRoots": {"configMapRef": {"name": "a"}, "secretRef": {"name": "a"}, "key": "ca.pem"}}}),
            "micRoots",
        ),
        (PROXY, json!({"spec": {"micRoots": {"configMapRef": {"name": "a"}, "key": "a/b"}}}), "micRoots.key"),
        (PROXY, json!({"spec": {"expiredMIC": {"policy": "Maybe"}}}), "expiredMIC.policy"),
        (PROXY, json!({"spec": {"expiredMIC": {"policy": "AllowUntil"}}}), "expiredMIC"),
        (PROXY, json!({"spec": {"expiredMIC": {"policy": "Allow", "until": "2030-01-01T00:00:00Z"}}}), "expiredMIC"),
        (PROXY, json!({"spec": {"limits": {"connections": 15}}}), "connections"),
        (PROXY, json!({"spec": {"limits": {"answerSeconds": 4}}}), "answerSeconds"),
        (PHONE, json!({"metadata": {"name": "another"}}), "metadata.name"),
        (PHONE, json!({"metadata": {"name": "SEP001122AABBCC"}}), "metadata.name"),
        (PHONE, json!({"spec": {"deviceName": null}}), "deviceName"),
        (PHONE, json!({"metadata": {"name": "ab"}, "spec": {"deviceName": "AB"}}), "deviceName"),
        (PHONE, json!({"metadata": {"name": "1sep"}, "spec": {"deviceName": "1SEP"}}), "deviceName"),
        (PHONE, json!({"metadata": {"name": "sep_1"}, "spec": {"deviceName": "SEP_1"}}), "deviceName"),
        (
            PHONE,
            json!({"metadata": {"name": "sep001122aabbccd"}, "spec": {"deviceName": "SEP001122AABBCCD"}}),
            "deviceName",
        ),
        (PHONE, json!({"spec": {"proxyRef": null}}), "proxyRef"),
        (PHONE, json!({"spec": {"proxyRef": {"name": "other/main"}}}), "proxyRef"),
        (PHONE, json!({"spec": {"proxyRef": {"name": ""}}}), "proxyRef"),
        (PHONE, json!({"spec": {"certificateOperation": "Erase"}}), "certificateOperation"),
        (PHONE, json!({"spec": {"deviceSecurityMode": "nonsecure"}}), "deviceSecurityMode"),
        (PHONE, json!({"spec": {"certificateOperation": "Install"}}), "certificateOperation"),
        (PHONE, json!({"spec": {"authenticationMode": "ByExistingCertificate"}}), "authenticationMode"),
        (
            PHONE,
            json!({"spec": {"authenticationMode": "ByExistingCertificatePrecedenceToMIC", "authenticationString": {"generate": true}}}),
            "authenticationString",
        ),
        (
            PHONE,
            json!({"spec": {"authenticationMode": "ByNullString", "authenticationString": {"generate": true}}}),
            "authenticationString",
        ),
        (PHONE, json!({"spec": {"authenticationString": {}}}), "secretRef or generate"),
        (PHONE, json!({"spec": {"authenticationString": {"generate": false}}}), "secretRef or generate"),
        (
            PHONE,
            json!({"spec": {"authenticationString": {"generate": true, "secretRef": {"name": "s"}}}}),
            "secretRef or generate",
        ),
        (PHONE, json!({"spec": {"authenticationString": {"secretRef": {"name": "../s"}}}}), "secretRef"),
        (PHONE, json!({"spec": {"authenticationString": "1234"}}), "authenticationString"),
        (PHONE, json!({"spec": {"keySize": 1536}}), "keySize"),
        (PHONE, json!({"spec": {"keySize": 256}}), "keySize"),
        (PHONE, json!({"spec": {"keyType": "EC", "keySize": 2048}}), "keySize"),
        (PHONE, json!({"spec": {"keyType": "DSA"}}), "keyType"),
        (PHONE, json!({"spec": {"revision": -1}}), "revision"),
        (PHONE, json!({"spec": {"revision": 2_147_483_648_u64}}), "revision"),
        (PHONE, json!({"spec": {"operationCompletesBy": "tomorrow"}}), "operationCompletesBy"),
        (PHONE, json!({"spec": {"operationCompletesBy": "2027-01-31"}}), "operationCompletesBy"),
        (PHONE, json!({"spec": {"operationCompletesBy": "9999-12-31T23:59:59Z"}}), "operationCompletesBy"),
        (OPERATION, json!({"spec": {"phoneRef": null}}), "phoneRef"),
        (OPERATION, json!({"spec": {"requestedBy": null}}), "requestedBy"),
        (OPERATION, json!({"spec": {"requestedBy": "Nobody"}}), "requestedBy"),
        (OPERATION, json!({"spec": {"certificateOperation": "NoPendingOperation"}}), "certificateOperation"),
        (OPERATION, json!({"spec": {"certificateOperation": "NoPendingOperation"}}), "certificateOperation"),
        (OPERATION, json!({"spec": {"authenticationMode": null}}), "authenticationMode"),
        (OPERATION, json!({"spec": {"authenticationMode": "ByExistingCertificate"}}), "authenticationMode"),
        (
            OPERATION,
            json!({"spec": {"authenticationMode": "ByNullString", "authenticationString": {"generate": true}}}),
            "authenticationString",
        ),
        (OPERATION, json!({"spec": {"authenticationString": {}}}), "secretRef or generate"),
        (OPERATION, json!({"spec": {"keySize": 521}}), "keySize"),
        (OPERATION, json!({"spec": {"keyType": "EC", "keySize": 512}}), "keySize"),
        (OPERATION, json!({"spec": {"operationCompletesBy": "0000-01-01T00:00:00Z"}}), "operationCompletesBy"),
    ];
    for (kind, change, named) in refused {
        let found = refusals(kind, &with(&base(kind), change.clone()), None).join("\n");
        assert!(!found.is_empty(), "{kind} with {change} is accepted");
        assert!(found.contains(named), "{kind} with {change} is refused without naming {named}: {found}");
    }
}

#[test]
fn a_time_that_the_schema_accepts_can_be_decoded() {
    for time in [
        "1900-01-01T00:00:00Z",
        "2199-12-31T23:59:59.999999999-19:59",
        "2027-01-31T18:00:00+14:00",
        "2024-02-29T23:59:59.1Z",
    ] {
        let manifest = with(&base(PHONE), json!({"spec": {"operationCompletesBy": time}}));
        assert_eq!(refusals(PHONE, &manifest, None), Vec::<String>::new());
        serde_json::from_value::<capf::api::PhoneSpec>(manifest["spec"].clone()).expect(time);
    }
}

#[test]
fn what_says_whose_a_phone_is_never_changes_and_all_else_may() {
    let phone = base(PHONE);
    let changed = [
        (json!({"spec": {"deviceName": "sep001122aabbcc"}}), Some("deviceName")),
        (json!({"spec": {"proxyRef": {"name": "other"}}}), Some("proxyRef")),
        (json!({"spec": {"certificateOperation": "InstallUpgrade"}}), None),
        (json!({"spec": {"keySize": 4096, "revision": 1, "authenticationMode": "ByNullString"}}), None),
        (json!({"metadata": {"labels": {"site": "hq"}}}), None),
    ];
    for (change, named) in changed {
        let found = refusals(PHONE, &with(&phone, change.clone()), Some(&phone)).join("\n");
        match named {
            Some(named) => assert!(found.contains(named), "{change}: {found:?}"),
            None => assert_eq!(found, "", "{change}"),
        }
    }
}

#[test]
fn the_spec_of_an_operation_never_changes() {
    let mut operation = base(OPERATION);
    operation["spec"]["keySize"] = json!(2048);
    operation["spec"]["operationCompletesBy"] = json!("2027-01-01T00:00:00Z");
    for change in [
        json!({"spec": {"phoneRef": {"name": "sep2"}}}),
        json!({"spec": {"authenticationMode": "ByNullString"}}),
        json!({"spec": {"authenticationString": {"generate": true}}}),
        json!({"spec": {"keyType": "RSA"}}),
        json!({"spec": {"keySize": 1024}}),
        json!({"spec": {"keySize": null}}),
        json!({"spec": {"operationCompletesBy": "2027-01-02T00:00:00Z"}}),
        json!({"spec": {"operationCompletesBy": null}}),
        json!({"spec": {"requestedBy": "Phone"}}),
    ] {
        let found = refusals(OPERATION, &with(&operation, change.clone()), Some(&operation)).join("\n");
        assert!(found.contains("never changes"), "{change}: {found:?}");
    }
    let labelled = with(&operation, json!({"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Pending"}}));
    assert_eq!(refusals(OPERATION, &labelled, Some(&operation)), Vec::<String>::new());
}

#[test]
fn phases_move_forward_only_and_nothing_leaves_a_terminal_one() {
    const PHASES: [&str; 4] = ["Pending", "InProgress", "Successful", "Failed"];
    let in_phase = |phase: &str| with(&base(OPERATION), json!({"status": {"phase": phase}}));
    for (before, from) in PHASES.iter().enumerate() {
        for (after, to) in PHASES.iter().enumerate() {
            let terminal = before >= 2;
            let allowed = if terminal { before == after } else { after >= before };
            let found = refusals(OPERATION, &in_phase(to), Some(&in_phase(from)));
            assert_eq!(found.is_empty(), allowed, "{from} to {to}: {found:?}");
        }
    }
}

#[test]
fn a_finished_operation_changes_in_nothing() {
    let finished = with(&base(OPERATION), json!({"status": {"phase": "Failed", "reason": "Expired"}}));
    for change in [
        json!({"status": {"reason": "LockedOut"}}),
        json!({"status": {"reason": null}}),
        json!({"status": {"message": "more"}}),
        json!({"status": {"spentString": "00"}}),
        json!({"status": null}),
    ] {
        let found = refusals(OPERATION, &with(&finished, change.clone()), Some(&finished)).join("\n");
        assert!(found.contains("finished operation never changes"), "{change}: {found:?}");
    }
    let annotated = with(&finished, json!({"metadata": {"annotations": {"a": "b"}}}));
    assert_eq!(refusals(OPERATION, &annotated, Some(&finished)), Vec::<String>::new());
}

#[test]
fn an_operation_under_way_does_not_lose_its_status() {
    let under_way = with(&base(OPERATION), json!({"status": {"phase": "InProgress"}}));
    let lost = with(&under_way, json!({"status": null}));
    assert!(!refusals(OPERATION, &lost, Some(&under_way)).is_empty());
}
