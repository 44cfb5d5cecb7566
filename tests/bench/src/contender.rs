//! The IPAM programs that are held against each other, and what each is given for a Pod.

use std::path::PathBuf;

use spiderpool_lab::{Namespace, Node, example};

use crate::call::Call;

/// Debian's, from containernetworking-plugins.
const HOST_LOCAL: &str = "/usr/lib/cni/host-local";

/// An IPAM program with its network configuration.
#[derive(Debug)]
pub(crate) struct Contender {
    program: PathBuf,
    config: String,
    cni_path: String,
}

/// The sandbox of a Pod, as far as an IPAM program sees it.
#[derive(Clone, Debug)]
pub(crate) struct Sandbox {
    /// CNI_CONTAINERID.
    pub(crate) container: String,
    /// CNI_NETNS.
    pub(crate) netns: String,
}

impl Sandbox {
    /// A Pod that was never there before, in a namespace.
    pub(crate) fn new(name: &str, namespace: &Namespace) -> Self {
        Self { container: name.to_owned(), netns: namespace.path().display().to_string() }
    }

    /// The CNI variables, as kubelet's runtime sets them.
    pub(crate) fn environment<'a>(
        &'a self,
        interface: &'a str,
        cni_path: &'a str,
        arguments: &'a str,
    ) -> [(&'static str, &'a str); 5] {
        [
            ("CNI_CONTAINERID", &self.container),
            ("CNI_NETNS", &self.netns),
            ("CNI_IFNAME", interface),
            ("CNI_PATH", cni_path),
            ("CNI_ARGS", arguments),
        ]
    }

    /// CNI_ARGS, as kubelet's runtime sets them.
    pub(crate) fn arguments(&self) -> String {
        let name = &self.container;
        format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={name};\
             K8S_POD_UID=uid-of-{name}"
        )
    }
}

impl Contender {
    /// The shim that is installed on the node.
    pub(crate) fn spiderpool(node: &Node) -> Self {
        let config = serde_json::json!({
            "cniVersion": "1.0.0", "name": "bench", "type": "macvlan", "master": example::UNDERLAY_LINK,
            "ipam": { "type": "spiderpool", "default_ipv4_ippool": [example::POOL] },
        });
        let program = node.cni_bin().join("spiderpool");
        Self { program, config: config.to_string(), cni_path: node.cni_path() }
    }

    /// host-local with as many addresses, and its files in `folder`.
    pub(crate) fn host_local(node: &Node, folder: &std::path::Path) -> Self {
        let config = serde_json::json!({
            "cniVersion": "1.0.0", "name": "bench", "type": "macvlan", "master": example::UNDERLAY_LINK,
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.9.0.0/16" }]], "dataDir": folder },
        });
        Self { program: HOST_LOCAL.into(), config: config.to_string(), cni_path: node.cni_path() }
    }

    /// A call for a sandbox's `net1`.
    pub(crate) fn call(&self, verb: &str, sandbox: &Sandbox) -> Call {
        let arguments = sandbox.arguments();
        Call::new(&self.program, verb, &sandbox.environment("net1", &self.cni_path, &arguments), &self.config)
    }
}
