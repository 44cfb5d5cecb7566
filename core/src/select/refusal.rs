//! Why a request is not served, in words for the event of a Pod: one line, each pool with its reason and, where
//! there is one, the way out.

use std::fmt::Display;

use super::PatternError;
use crate::address::Family;
use crate::world::PoolName;

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusals {
    /// The request itself is wrong, whatever pools there are (CNI error code 7).
    #[error("wrong input: {0}")]
    WrongInput(WrongInput),
    /// Neither the network's configuration nor a default pool offers anything (CNI error code 100).
    #[error(
        "no IPPool available: the network's configuration names no pool (default_ipv4_ippool, default_ipv6_ippool) \
         and no SpiderIPPool has spec.default: true; name a pool, or make one the default"
    )]
    NoneNamed,
    /// A family that must be served has no pool for this request (CNI error code 100).
    #[error("no IPPool available: {}", join(.0, "; "))]
    NoneFits(Vec<Unserved>),
}

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongInput {
    /// A pool is listed twice for one family.
    #[error("{} names pool {pool} twice{}; name it once", key(*.family), by(.pattern))]
    Twice {
        /// The family of the list.
        family: Family,
        /// The pool.
        pool: PoolName,
        /// The pattern that named it the second time; none: its own name did.
        pattern: Option<String>,
    },
    /// A pattern cannot be read.
    #[error("{} has the malformed pattern {pattern:?}: {error}", key(*.family))]
    Pattern {
        /// The family of the list.
        family: Family,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        error: PatternError,
    },
}

/// A family without a pool, and every pool that was tried for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{family}: {}", join(.tried, ", "))]
pub struct Unserved {
    /// The family.
    pub family: Family,
    /// Each pool in the order of trying, then the patterns that match none.
    pub tried: Vec<Tried>,
}

/// A pool that does not serve a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} ({reason})")]
pub struct Tried {
    /// The pool's name, or a pattern that matches none.
    pub name: String,
    /// Why not.
    pub reason: Reason,
}

/// Why a pool does not serve a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    /// There is no such pool.
    #[error("there is no SpiderIPPool of this name; create it or correct the name")]
    Unknown,
    /// A pattern without a match among the pools of the family.
    #[error("no {0} pool matches this pattern")]
    NoMatch(Family),
    /// The pool is of the other family.
    #[error("is an {0} pool; list it in {key}", key = key(*.0))]
    OtherFamily(Family),
    /// `spec.disable`.
    #[error("is disabled by spec.disable")]
    Disabled,
    /// `metadata.deletionTimestamp`.
    #[error("is being deleted")]
    Terminating,
    /// No address is left by definition, not by use.
    #[error("has nothing to give out: spec.excludeIPs and SpiderReservedIP objects leave none of its spec.ips")]
    Empty,
    /// Not one of the nodes named.
    #[error("spec.nodeName does not list node {0}")]
    NodeName(String),
    /// The node's labels do not match.
    #[error("spec.nodeAffinity does not match the labels of node {0}")]
    NodeLabels(String),
    /// The node's labels are not known.
    #[error("spec.nodeAffinity needs the labels of node {0}, which are not known; add a Node document of that name")]
    NodeUnknown(String),
    /// Not one of the namespaces named.
    #[error("spec.namespaceName does not list namespace {0}")]
    NamespaceName(String),
    /// The namespace's labels do not match.
    #[error("spec.namespaceAffinity does not match the labels of namespace {0}")]
    NamespaceLabels(String),
    /// The namespace's labels are not known.
    #[error(
        "spec.namespaceAffinity needs the labels of namespace {0}, which are not known; add a Namespace document of \
         that name"
    )]
    NamespaceUnknown(String),
    /// The request does not say which namespace the Pod is in.
    #[error("serves certain namespaces only, and the call names none; give K8S_POD_NAMESPACE in CNI_ARGS")]
    NoNamespace,
    /// The Pod's labels do not match.
    #[error("spec.podAffinity does not match the Pod's labels")]
    Pod,
    /// The Pod's labels are not known.
    #[error("spec.podAffinity needs the Pod's labels, which standalone mode does not know")]
    PodUnknown,
    /// Not one of the networks named; holds the network's namespace and name.
    #[error("spec.multusName does not list network {0}")]
    Network(String),
    /// The network's name is not known.
    #[error("spec.multusName needs the NetworkAttachmentDefinition's name, which standalone mode does not know")]
    NetworkUnknown,
}

/// The key of the network's configuration that lists pools of a family.
fn key(family: Family) -> &'static str {
    match family {
        Family::V4 => "default_ipv4_ippool",
        Family::V6 => "default_ipv6_ippool",
    }
}

fn by(pattern: &Option<String>) -> String {
    pattern.as_ref().map(|pattern| format!(", once by the pattern {pattern:?}")).unwrap_or_default()
}

fn join(parts: &[impl Display], separator: &str) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}
