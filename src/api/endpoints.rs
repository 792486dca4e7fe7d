//! How endpoints run as pods, as far as whoever writes a proxy decides it: the fields below `spec.endpoints`.
//!
//! Image, command, volumes and service account are not among them: those are flags of the controller, because whoever may
//! write a proxy need not be somebody who may run programs.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Endpoint pods, and the Service in front of them. Without it, what is written at each field.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct Endpoints {
    /// Pods; 2 when absent, so that one may go without a phone noticing. From 2 on a PodDisruptionBudget keeps one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub replicas: Option<u16>,
    /// Resources of each pod; when absent 50m CPU and 64Mi memory are requested, and nothing is limited. An open session takes
    /// 11 KiB, so `limits.connections` bounds the memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<EndpointResources>,
    /// Labels of the nodes they may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "node_labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that they tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<EndpointToleration>,
    /// How they spread, besides the preference for nodes of their own. The pods that are counted are this proxy's endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub topology_spread_constraints: Vec<EndpointSpread>,
    /// Name of a PriorityClass; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub priority_class_name: Option<String>,
    /// The Service that phones connect to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<EndpointService>,
}

impl Endpoints {
    /// Pods when `replicas` is absent.
    pub const REPLICAS: u16 = 2;

    /// How many pods are wanted.
    #[must_use]
    pub fn replicas(&self) -> u16 {
        self.replicas.unwrap_or(Self::REPLICAS)
    }
}

/// CPU and memory of a pod.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct EndpointResources {
    /// What the scheduler sets aside; instead of 50m CPU and 64Mi memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceAmounts>,
    /// What it may use at most. A pod that needs more memory is killed, and its open sessions with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceAmounts>,
}

/// Amounts of resources.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct ResourceAmounts {
    /// CPUs, such as 250m or 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), regex(pattern = r"^[0-9]{1,6}([.][0-9]{1,3})?m?$"))]
    pub cpu: Option<String>,
    /// Octets, such as 256Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), regex(pattern = r"^[0-9]{1,12}(k|M|G|Ki|Mi|Gi)?$"))]
    pub memory: Option<String>,
}

/// A taint that is tolerated.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
#[x_kube(
    validation = Rule::new("has(self.key) || (has(self.operator) && self.operator == 'Exists')")
        .message("tolerations: without a key, which means every taint, operator must be Exists"),
    validation = Rule::new("!has(self.value) || !has(self.operator) || self.operator == 'Equal'")
        .message("tolerations: value goes with operator Equal"),
    validation = Rule::new("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')")
        .message("tolerations: tolerationSeconds goes with effect NoExecute")
)]
pub struct EndpointToleration {
    /// Key of the taint; every key when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub key: Option<String>,
    /// Equal when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// Value of the taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// Effect of the taint; every effect when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// Seconds until it is tolerated no longer; always when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub toleration_seconds: Option<u32>,
}

/// How a taint's value is compared.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum TolerationOperator {
    /// Any value.
    Exists,
    /// This value.
    Equal,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum TaintEffect {
    /// Nothing new is scheduled there.
    NoSchedule,
    /// Nothing new is scheduled there if it can be helped.
    PreferNoSchedule,
    /// What runs there is evicted.
    NoExecute,
}

/// How pods spread over zones or other parts of a cluster.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct EndpointSpread {
    /// Pods that one part may have more than another.
    #[schemars(range(min = 1, max = 16))]
    pub max_skew: u16,
    /// Label of nodes by which the parts are told apart, such as topology.kubernetes.io/zone.
    #[schemars(length(min = 1, max = 317))]
    pub topology_key: String,
    /// Whether a pod that would make it worse is held back.
    pub when_unsatisfiable: SpreadPolicy,
    /// Parts that must be counted, if only as empty; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub min_domains: Option<u16>,
}

/// What is done with a pod that cannot spread as wanted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum SpreadPolicy {
    /// It is held back.
    DoNotSchedule,
    /// It is scheduled all the same.
    ScheduleAnyway,
}

/// The Service in front of the pods. Dual-stack where the cluster is; the phones' addresses reach the endpoints unchanged,
/// because wrong authentication strings are counted by where they come from.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
#[x_kube(
    validation = Rule::new("!has(self.nodePort) || (has(self.type) && self.type != 'ClusterIP')")
        .message("service: nodePort goes with type NodePort or LoadBalancer"),
    validation = Rule::new(
        "(!has(self.loadBalancerClass) && !has(self.loadBalancerSourceRanges)) || \
         (has(self.type) && self.type == 'LoadBalancer')"
    ).message("service: loadBalancerClass and loadBalancerSourceRanges go with type LoadBalancer")
)]
pub struct EndpointService {
    /// ClusterIP when absent: phones outside the cluster reach the port only when somebody has decided how, and from where.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ServiceType>,
    /// Annotations, which is how load balancers are told what they need.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotations")]
    pub annotations: BTreeMap<String, String>,
    /// The port on each node; one that is free when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub node_port: Option<u16>,
    /// Class of the load balancer; the cluster's default when absent. It cannot be changed while the type is LoadBalancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub load_balancer_class: Option<String>,
    /// Networks (CIDR) that phones are in; everybody when absent. Load balancers that cannot filter ignore it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 3, max = 43), regex(pattern = r"^[0-9a-fA-F:.]+/[0-9]{1,3}$")))]
    pub load_balancer_source_ranges: Vec<String>,
}

impl EndpointService {
    /// How it is reached.
    #[must_use]
    pub fn type_(&self) -> ServiceType {
        self.type_.unwrap_or_default()
    }
}

/// How a Service is reached.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ServiceType {
    /// From within the cluster, and wherever its routes lead.
    #[default]
    ClusterIP,
    /// Also at a port of every node.
    NodePort,
    /// Also through a load balancer.
    LoadBalancer,
}

/// Schema of labels that nodes must have.
fn node_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 16, "additionalProperties": {"type": "string", "maxLength": 63},
    })
}

/// Schema of annotations.
fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 32, "additionalProperties": {"type": "string", "maxLength": 2048},
    })
}
