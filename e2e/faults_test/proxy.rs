//! The proxy does what it says, before a real API server.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, ObjectMeta, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::faults::proxy::ApiProxy;
use crate::faults::script::{About, Fault, Script, Weather};
use crate::harness::{ControlPlane, Namespace, eventually, is_alive};
use crate::product::PATIENCE;

/// How long an answer is waited for that must not come.
const IN_VAIN: Duration = Duration::from_millis(500);

struct Setting {
    proxy: ApiProxy,
    /// By the proxy.
    maps: Api<ConfigMap>,
    /// Past it.
    directly: Api<ConfigMap>,
    leases: Api<Lease>,
    namespace: Namespace,
}

impl Setting {
    async fn new() -> Self {
        let plane = ControlPlane::shared();
        let admin = plane.client(None);
        let namespace = Namespace::create(&admin, "proxy").await.unwrap();
        let proxy = ApiProxy::start(plane, None, "the test", None).await;
        let file = Kubeconfig::read_from(proxy.kubeconfig()).unwrap();
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        config.default_retry = false;
        let client = Client::try_from(config).unwrap();
        Self {
            maps: Api::namespaced(client.clone(), namespace.name()),
            leases: Api::namespaced(client, namespace.name()),
            directly: Api::namespaced(admin, namespace.name()),
            proxy,
            namespace,
        }
    }

    async fn create(&self, name: &str) -> kube::Result<ConfigMap> {
        self.maps.create(&PostParams { field_manager: Some("me".into()), ..PostParams::default() }, &named(name)).await
    }

    /// Waits until this many of what began so had to wait at the proxy.
    async fn held(&self, what: &str, count: usize) {
        eventually(&format!("{count} of {what} are held"), PATIENCE, || async {
            let held = self.proxy.held();
            if held.iter().filter(|held| held.starts_with(what)).count() == count {
                Ok(())
            } else {
                Err(format!("{held:?}"))
            }
        })
        .await
        .unwrap();
    }

    async fn exists(&self, name: &str) -> bool {
        self.directly.get_opt(name).await.unwrap().is_some()
    }
}

fn named(name: &str) -> ConfigMap {
    ConfigMap { metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() }, ..ConfigMap::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutating_calls_are_counted_and_leases_told_apart() {
    let setting = Setting::new().await;
    setting.proxy.play(Script::quiet());
    setting.create("one").await.unwrap();
    setting.maps.list(&ListParams::default()).await.unwrap();
    let lease = Lease { metadata: named("lease").metadata, ..Lease::default() };
    setting.leases.create(&PostParams::default(), &lease).await.unwrap();
    setting.create("one").await.unwrap_err();
    assert_eq!(setting.proxy.counted(), 2);
    let calls = setting.proxy.calls();
    let seen: Vec<_> = calls.iter().map(|call| (call.number, call.request.about, call.status)).collect();
    let expected = [
        (Some(1), About::Object, Some(201)),
        (None, About::Nothing, Some(200)),
        (None, About::Lease, Some(201)),
        (Some(2), About::Object, Some(409)),
    ];
    assert_eq!(seen, expected);
    assert_eq!(calls[0].request.manager.as_deref(), Some("me"));
    assert_eq!(calls[0].request.to_string(), "POST configmaps");
    setting.namespace.delete().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nth_call_is_answered_with_an_error_or_loses_its_reply() {
    let setting = Setting::new().await;
    for status in [409, 429, 503, 504] {
        setting.proxy.play(Script::one(Fault::Answer(status), 2));
        let name = |number: u16| format!("answered-{status}-{number}");
        setting.create(&name(1)).await.unwrap();
        let kube::Error::Api(refusal) = setting.create(&name(2)).await.unwrap_err() else { panic!("no answer") };
        assert_eq!(refusal.code, status);
        assert!(!setting.exists(&name(2)).await, "it was not forwarded");
        setting.create(&name(3)).await.unwrap();
    }
    setting.proxy.play(Script::one(Fault::LoseReply, 1));
    let error = setting.create("lost").await.unwrap_err();
    assert!(!matches!(error, kube::Error::Api(_)), "{error:?}");
    assert!(setting.exists("lost").await, "it was forwarded");
    assert!(setting.proxy.is_through());
    setting.create("after").await.unwrap();
    setting.namespace.delete().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_killed_before_or_after_the_call_reaches_the_api_server() {
    let setting = Setting::new().await;
    for (fault, forwarded) in [(Fault::KillBefore, false), (Fault::KillAfter, true)] {
        let mut sleep = Command::new("sleep");
        let victim = setting.namespace.name().to_owned() + "-victim";
        let victim = ControlPlane::shared().spawn(&victim, None, sleep.arg("1000")).unwrap();
        setting.proxy.victim().store(victim.pid(), Ordering::SeqCst);
        setting.proxy.play(Script::one(fault, 1));
        let name = if forwarded { "after" } else { "before" };
        setting.create(name).await.unwrap_err();
        assert!(!is_alive(victim.pid()));
        assert_eq!(setting.exists(name).await, forwarded);
    }
    setting.namespace.delete().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_are_streamed_and_held() {
    let setting = Setting::new().await;
    let all = WatchParams::default().timeout(30);
    let mut changes = std::pin::pin!(setting.maps.watch(&all, "0").await.unwrap());
    let mut added = async |name: &str| loop {
        let change = changes.try_next().await.unwrap().expect("the watch goes on");
        if let WatchEvent::Added(map) = change
            && map.metadata.name.as_deref() == Some(name)
        {
            return;
        }
    };
    setting.create("one").await.unwrap();
    added("one").await;
    setting.proxy.play(Script::one(Fault::HoldWatches(Duration::from_secs(5)), 1));
    setting.create("two").await.unwrap();
    tokio::select! {
        biased;
        () = added("two") => panic!("the watch is held"),
        () = setting.held("change of", 1) => {}
    }
    added("two").await;
    setting.namespace.delete().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_held_and_goes_on_and_what_fell_into_a_black_hole_does_not() {
    let setting = Setting::new().await;
    let setting = Arc::new(setting);
    let creating = |name: &'static str| {
        let setting = Arc::clone(&setting);
        tokio::spawn(async move { setting.create(name).await })
    };
    setting.create("warm").await.unwrap();
    setting.proxy.hold(true);
    let held = creating("held");
    setting.held("POST", 1).await;
    assert!(!held.is_finished());
    assert!(!setting.exists("held").await);
    setting.proxy.hold(false);
    held.await.unwrap().unwrap();

    setting.proxy.black_hole(true);
    let mut swallowed = creating("swallowed");
    // By a connection that was open, or by a new one.
    eventually("it is swallowed", PATIENCE, || async {
        let held = setting.proxy.held();
        if held.len() == 2 { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .await
    .unwrap();
    assert!(!swallowed.is_finished());
    setting.proxy.black_hole(false);
    assert!(tokio::time::timeout(IN_VAIN, &mut swallowed).await.is_err(), "never");
    swallowed.abort();
    setting.create("after").await.unwrap();
    assert!(!setting.exists("swallowed").await);
    setting.proxy.play(Script::one(Fault::BlackHole, 1));
    let mut lost = creating("one-call");
    eventually("it falls in", PATIENCE, || async { setting.proxy.is_through() }).await.unwrap();
    assert!(tokio::time::timeout(IN_VAIN, &mut lost).await.is_err());
    lost.abort();
    setting.create("next-call").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_weather_is_as_bad_as_was_asked_for() {
    let setting = Setting::new().await;
    setting.proxy.play(Script::weather(Weather::new(20, 10, 4711)));
    let (mut errors, mut lost) = (0, 0);
    for _ in 0..300 {
        match setting.maps.get_opt("none").await {
            Ok(_) => {}
            Err(kube::Error::Api(_)) => errors += 1,
            Err(_) => lost += 1,
        }
    }
    assert!((30..90).contains(&errors) && (10..55).contains(&lost), "of 300: {errors} errors, {lost} lost");
    setting.proxy.play(Script::quiet());
    setting.maps.get_opt("none").await.unwrap();
}
