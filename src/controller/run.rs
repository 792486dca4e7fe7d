//! The controller process: watches and questions in every replica, the loops in the one that leads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Config};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use super::endpoints::{self, EndpointFlags, Endpoints};
use super::events::Reporter;
use super::lease::Candidate;
use super::log_level::level_of;
use super::noticed::Noticer;
use super::phone::Phones;
use super::proxy::Proxies;
use super::queue::Queue;
use super::scrape::{self, Scrape};
use super::store::{LOOP_CALL, QUESTION_CALL, Store, WATCH_SECONDS, configured};
use super::world::{Known, ObjectKey, WorkKey, World};
use crate::addresses::listen;
use crate::api::{
    CertificateAuthorityProxy, CertificateOperation, ENDPOINTS_MANAGER, LOOPS_MANAGER, Phone, QUESTIONS_MANAGER,
};
use crate::authority::credentials::{Credentials, CredentialsError};
use crate::authority::server::{ServerError, serve};
use crate::authority::service::Service;
use crate::logging;
use crate::telemetry::controller::metrics;
use crate::telemetry::health::Health;
use crate::telemetry::server::{HttpArgs, HttpError};

/// Phones and proxies worked on at once by the leader.
const WORKERS: usize = 16;
/// Connections of endpoints that the kernel keeps before they are accepted.
const BACKLOG: u32 = 1024;
/// Longest sleep towards a phone's deadline: a clock that was moved is noticed within it.
const LONGEST_SLEEP: Duration = Duration::from_secs(50);

/// `capf controller`: watches the resources, answers endpoints' questions and, when it leads, runs the loops.
#[derive(Clone, Debug, clap::Args)]
pub struct ControllerArgs {
    /// Namespace of the controllers' own Secret and Lease.
    #[arg(long, env = "CAPF_NAMESPACE", default_value = "capf-system")]
    pub namespace: String,
    /// Only look after the resources of this namespace; without it, of all.
    #[arg(long, env = "CAPF_WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// Address to answer endpoints' questions at.
    #[arg(long, default_value = "[::]:8443")]
    pub listen: SocketAddr,
    /// What endpoints need.
    #[command(flatten)]
    pub endpoints: EndpointFlags,
    /// Name of this replica in the Lease; must be unique.
    #[arg(long, env = "HOSTNAME", default_value = "capf-controller")]
    pub identity: String,
    /// Seconds without a renewal after which another replica takes over the loops; the same for all replicas. Renewed three
    /// times as often. Fewer means a shorter wait after a crash, and more requests at rest.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(2..=120))]
    pub lease_seconds: u16,
    /// Probes and metrics.
    #[command(flatten)]
    pub http: HttpArgs,
}

/// The controller cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No cluster.
    #[error("finding the cluster: {0}; set KUBECONFIG or run in a pod")]
    Config(#[from] kube::config::InferConfigError),
    /// No client.
    #[error("making a client: {0}")]
    Client(#[from] kube::Error),
    /// No address to listen at.
    #[error("listening at {0}: {1}; choose another --listen")]
    Listen(SocketAddr, std::io::Error),
    /// No credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// No probes and metrics.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// Runs until `stop`.
///
/// # Errors
/// [`RunError`] when it cannot begin; what fails later is tried again.
pub async fn run(args: ControllerArgs, stop: CancellationToken) -> Result<(), RunError> {
    let (config, watch_config) = configured(Config::infer().await?);
    let client = Client::try_from(config)?;
    let watch_client = Client::try_from(watch_config)?;
    let loops = Store::new(client.clone(), LOOPS_MANAGER, LOOP_CALL);
    let world = Arc::new(World::default());
    let (health, scrape) = (Health::until(stop.clone()), Arc::new(Scrape::new(Arc::clone(&world))));
    let _http = scrape::serve(args.http, &health, &scrape)?;
    let tasks = TaskTracker::new();
    let scope = args.watch_namespace.as_deref();
    let watching = Watching {
        client: watch_client.clone(),
        world: Arc::clone(&world),
        health: health.clone(),
        stop: stop.clone(),
    };
    tasks.spawn(watching.follow::<CertificateAuthorityProxy>(scope));
    tasks.spawn(watching.follow::<Phone>(scope));
    tasks.spawn(watching.follow::<CertificateOperation>(scope));

    let credentials = Arc::new(obtain(&loops, &args.namespace, &stop).await?);
    health.has("credentials");
    let listener = listen(args.listen, BACKLOG).map_err(|e| RunError::Listen(args.listen, e))?;
    let address = listener.local_addr().map_err(|e| RunError::Listen(args.listen, e))?;
    while !world.is_listed() && !stop.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tracing::info!(%address, ?world, "ready: answering questions");
    let questions = Store::new(client.clone(), QUESTIONS_MANAGER, QUESTION_CALL);
    let noticer = Arc::new(Noticer::new(Arc::clone(&world), loops.clone()));
    let service = Service::new(Arc::clone(&world), questions, Arc::clone(&credentials), Arc::clone(&noticer));
    let service = Arc::new(service);
    let noticing = stop.clone();
    let vital = health.vital("unknown callers and guessing");
    tasks.spawn(async move {
        noticer.run(noticing).await;
        drop(vital);
    });
    let serving = tasks.spawn(serve(listener, service, Arc::clone(&credentials), stop.clone()));
    health.has("questions");

    let (leads, leading) = watch::channel(false);
    let lease = ObjectKey::new(&args.namespace, "capf-controller");
    let identity = format!("{}-{:08x}", args.identity, std::process::id());
    let lasts = Duration::from_secs(args.lease_seconds.into());
    let (candidate, vital) = (Candidate::new(loops.clone(), lease, identity, lasts), health.vital("election"));
    let electing = candidate.run(leads, stop.clone());
    tasks.spawn(async move {
        electing.await;
        drop(vital);
    });
    let work = Loops {
        phones: Phones {
            world: Arc::clone(&world),
            store: loops.clone(),
            credentials: Arc::clone(&credentials),
            reporter: Reporter::new(loops.clone()),
        },
        proxies: Proxies {
            world: Arc::clone(&world),
            store: loops.clone(),
            credentials,
            reporter: Reporter::new(loops),
            endpoints: Endpoints { store: Store::new(client, ENDPOINTS_MANAGER, LOOP_CALL), flags: args.endpoints },
        },
        world,
        watch_client,
        scope: args.watch_namespace,
        scrape,
        health,
    };
    tasks.spawn(while_leading(Arc::new(work), leading, stop.clone()));
    tasks.close();
    let served = serving.await;
    // Whatever ended the questions ends the replica: one that does not answer must not go on to lead.
    stop.cancel();
    tasks.wait().await;
    Ok(served.unwrap_or(Ok(()))?)
}

async fn obtain(store: &Store, namespace: &str, stop: &CancellationToken) -> Result<Credentials, CredentialsError> {
    let key = ObjectKey::new(namespace, "capf-controller");
    let mut pause = Duration::from_millis(200);
    loop {
        match Credentials::obtain(store, &key).await {
            Err(CredentialsError::Call(error)) if !stop.is_cancelled() => {
                tracing::warn!(%error, ?pause, "obtaining the controllers' credentials; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            other => return other,
        }
    }
}

/// What the watches need.
struct Watching {
    client: Client,
    world: Arc<World>,
    health: Health,
    stop: CancellationToken,
}

impl Watching {
    /// Keeps the world's knowledge of one kind current.
    fn follow<K>(&self, scope: Option<&str>) -> impl Future<Output = ()> + use<K>
    where
        K: Known
            + kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + kube::CustomResourceExt
            + serde::de::DeserializeOwned
            + std::fmt::Debug
            + Send
            + Sync
            + 'static,
    {
        let client = self.client.clone();
        let api: Api<K> = match scope {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let (world, stop) = (Arc::clone(&self.world), self.stop.clone());
        let vital = self.health.vital(format!("watch of {}", K::crd_name()));
        async move {
            let (_vital, kind) = (vital, K::kind(&()).into_owned());
            let events = watcher(api, watcher::Config::default().timeout(WATCH_SECONDS)).default_backoff();
            let mut events = std::pin::pin!(events.take_until(stop.cancelled()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        if matches!(event, watcher::Event::Init) {
                            metrics().watch_lists.with([kind.clone()]).inc();
                        }
                        world.observe(event);
                    }
                    Err(error) => {
                        metrics().watch_errors.with([kind.clone()]).inc();
                        tracing::warn!(kind = K::crd_name(), %error, "watching; trying again");
                    }
                }
            }
        }
    }
}

struct Loops {
    phones: Phones,
    proxies: Proxies,
    world: Arc<World>,
    /// For what only the leader watches.
    watch_client: Client,
    scope: Option<String>,
    scrape: Arc<Scrape>,
    health: Health,
}

/// Runs the loops as long as this replica leads. A lost Lease drops them, not the process.
async fn while_leading(loops: Arc<Loops>, mut leading: watch::Receiver<bool>, stop: CancellationToken) {
    let _vital = loops.health.vital("loops");
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            led = leading.wait_for(|leads| *leads) => if led.is_err() { return },
        }
        tracing::info!("leading: the loops run here");
        metrics().leads(true);
        tokio::select! {
            () = stop.cancelled() => return,
            () = work(&loops) => {}
            lost = leading.wait_for(|leads| !*leads) => if lost.is_err() { return },
        }
        tracing::info!("no longer leading: the loops are dropped");
        metrics().leads(false);
    }
}

/// The loops themselves: everything once, then whatever changes or falls due.
async fn work(loops: &Arc<Loops>) {
    let mut changes = loops.world.changes();
    let queue = Arc::new(Queue::default());
    loops.world.all_work().into_iter().for_each(|key| queue.add(key));
    loops.scrape.works_off(&queue);
    loops.health.begin_with_workers(WORKERS);
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let (loops, queue) = (Arc::clone(loops), Arc::clone(&queue));
        workers.spawn(async move {
            let _worker = loops.health.worker();
            loop {
                let key = queue.next().await;
                let span = loops.span(&key);
                loops.one(key, &queue).instrument(span).await;
            }
        });
    }
    workers.spawn(endpoints::follow(loops.watch_client.clone(), loops.scope.clone(), Arc::clone(&queue)));
    loop {
        match changes.recv().await {
            Ok(key) => queue.add(key),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "changes came faster than they were taken; looking at everything");
                loops.world.all_work().into_iter().for_each(|key| queue.add(key));
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

impl Loops {
    /// The span of work on a phone that is logged at a level of its own; none for all others.
    fn span(&self, key: &WorkKey) -> Span {
        let WorkKey::Phone(key) = key else { return Span::none() };
        let level = self.world.phone_view(key).phone.and_then(|phone| level_of(&phone));
        let Some(level) = level else { return Span::none() };
        let span = tracing::error_span!("work", phone = %key);
        logging::raise(&span, level);
        span
    }

    async fn one(&self, key: WorkKey, queue: &Queue) {
        let done = match &key {
            WorkKey::Phone(phone) => self.phones.reconcile(phone).await.map_err(|e| e.to_string()),
            // On the heap: each worker would keep room for it, and nearly all work is on phones.
            WorkKey::Proxy(proxy) => Box::pin(self.proxies.reconcile(proxy)).await.map_err(|e| e.to_string()),
        };
        match done {
            Ok(wake) => {
                // What a proxy waits for is counted in days, and each look at it costs calls.
                let longest = if matches!(key, WorkKey::Phone(_)) { LONGEST_SLEEP } else { Duration::MAX };
                let pause =
                    wake.map(|at| Duration::try_from(at.duration_since(crate::clock::now())).unwrap_or_default());
                queue.done(key, pause.map(|pause| pause.min(longest)));
            }
            Err(error) => {
                let object = format!("{key:?}");
                let unit = if matches!(key, WorkKey::Phone(_)) { "phone" } else { "proxy" };
                metrics().retries.with([unit]).inc();
                let pause = queue.failed(key);
                tracing::warn!(object, error, ?pause, "trying again");
            }
        }
    }
}
