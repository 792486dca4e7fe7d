//! `capf find`: lists phones by their LSC status and other criteria; or the devices that called and have no Phone.

use std::io::{self, BufWriter, Write as _};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::client::{CallError, Cause, ClientArgs, Cluster, GET_CALL, LIST_CALL, call};
use super::criteria::CriteriaArgs;
use super::report::{Form, Format, ReportError, print};
use super::table::{Lines, PagedTable};
use crate::api::{CertificateAuthorityProxy, Phone, UnknownCaller};
use crate::domain::report::Column;

/// Phones that are read at the same time.
const AT_ONCE: usize = 16;

/// Arguments of `capf find`.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_line_help = true)]
pub struct FindArgs {
    #[command(flatten)]
    cluster: ClientArgs,
    #[command(flatten)]
    criteria: CriteriaArgs,
    /// Instead of phones, the devices that called and that no Phone stands for; of the criteria, --device-name and --proxy apply
    #[arg(long)]
    unknown: bool,
}

/// A device that called, and the proxy it called at.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) namespace: String,
    pub(super) proxy: String,
    pub(super) call: UnknownCaller,
}

/// Lists what was asked for.
///
/// # Errors
/// [`ReportError`].
pub async fn run(args: &FindArgs) -> Result<(), ReportError> {
    let cluster = args.cluster.connect().await?;
    if args.unknown {
        return unknown(&cluster, args).await;
    }
    let mut columns = vec![Column::DeviceName, Column::Lsc, Column::LscExpires, Column::OperationStatus, Column::Proxy];
    if cluster.namespace.is_none() {
        columns.insert(0, Column::Namespace);
    }
    let form = Form { format: Format::Table, columns, heading: String::new(), output: None };
    print(&cluster, &args.criteria.query(), &form).await
}

async fn unknown(cluster: &Cluster, args: &FindArgs) -> Result<(), ReportError> {
    let criteria = args.criteria.query().criteria;
    let wanted = |caller: &Caller| {
        criteria.proxy.as_ref().is_none_or(|proxy| *proxy == caller.proxy)
            && criteria.device_name.as_ref().is_none_or(|name| name.matches(&caller.call.device_name))
    };
    let listed = callers(cluster).await?.into_iter().filter(wanted);
    let still_unknown = stream::iter(listed.map(|caller| still_unknown(cluster, caller))).buffered(AT_ONCE);
    let callers: Vec<Caller> = still_unknown.try_filter_map(|caller| async { Ok(caller) }).try_collect().await?;
    if callers.is_empty() {
        eprintln!("No unknown devices have called.");
    }
    let mut header = vec!["Device Name", "Proxy", "From", "First Seen", "Last Seen", "Calls"];
    if cluster.namespace.is_none() {
        header.insert(0, "Namespace");
    }
    let rows = callers.into_iter().map(|caller| {
        let call = caller.call;
        let mut row = vec![
            call.device_name,
            caller.proxy,
            call.source_block.unwrap_or_default(),
            seconds(call.first_seen),
            seconds(call.last_seen),
            call.calls.to_string(),
        ];
        if cluster.namespace.is_none() {
            row.insert(0, caller.namespace);
        }
        row
    });
    let mut out = BufWriter::new(io::stdout());
    let written = PagedTable::new(&mut out, Lines::of_stdout(), header).page(rows).and_then(|()| out.flush());
    super::quiet_pipe(written).map_err(|source| ReportError::Write { place: "standard output".into(), source })
}

/// The caller, unless there is a Phone of its name by now: the list is written only when another name is new.
async fn still_unknown(cluster: &Cluster, caller: Caller) -> Result<Option<Caller>, CallError> {
    let phones: Api<Phone> = Api::namespaced(cluster.client.clone(), &caller.namespace);
    let name = caller.call.device_name.to_ascii_lowercase();
    match call(&format!("reading Phone {name}"), GET_CALL, || phones.get(&name)).await {
        Ok(phone) => Ok((phone.spec.proxy_ref.name != caller.proxy).then_some(caller)),
        Err(CallError { cause: Cause::NotFound(_), .. }) => Ok(Some(caller)),
        Err(error) => Err(error),
    }
}

fn seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Every device that called and that its proxy knows no Phone for, in the order of names.
pub(super) async fn callers(cluster: &Cluster) -> Result<Vec<Caller>, CallError> {
    let api = cluster.api::<CertificateAuthorityProxy>();
    let all = ListParams::default();
    let proxies = call("listing CertificateAuthorityProxies", LIST_CALL, || api.list(&all)).await?;
    let mut callers: Vec<_> = proxies
        .items
        .into_iter()
        .flat_map(|proxy| {
            let (namespace, name) = (proxy.namespace().unwrap_or_default(), proxy.name_any());
            let calls = proxy.status.unwrap_or_default().unknown_callers;
            calls.into_iter().map(move |call| Caller { namespace: namespace.clone(), proxy: name.clone(), call })
        })
        .collect();
    callers.sort_by(|a, b| (&a.namespace, &a.call.device_name).cmp(&(&b.namespace, &b.call.device_name)));
    Ok(callers)
}
