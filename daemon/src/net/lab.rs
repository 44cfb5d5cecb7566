//! A node and a Pod in namespaces made for a test. Needs root and the `ip` command.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A node and a Pod on it: eth0 as Calico makes it, net1 as macvlan makes it. Gone when dropped.
pub(crate) struct Lab {
    pub(crate) node: String,
    pub(crate) pod: String,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let tag = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lab = Lab { node: format!("sp-net-node-{tag}"), pod: format!("sp-net-pod-{tag}") };
        ip(&["netns", "add", &lab.node]);
        ip(&["netns", "add", &lab.pod]);
        let (node, pod) = (&lab.node, &lab.pod);
        for line in [
            format!("-n {node} link set lo up"),
            format!("-n {pod} link set lo up"),
            format!("-n {node} link add ens192 type veth peer name segment"),
            format!("-n {node} link set ens192 up"),
            format!("-n {node} link set segment up"),
            format!("-n {node} address add 10.6.212.132/16 dev ens192"),
            format!("-n {node} link add cali1 type veth peer name eth0 netns {pod}"),
            format!("-n {node} link set cali1 up"),
            format!("-n {node} route add 10.233.73.210 dev cali1 scope link"),
            format!("-n {pod} link set eth0 up"),
            format!("-n {pod} address add 10.233.73.210/32 dev eth0"),
            format!("-n {pod} route add 169.254.1.1 dev eth0 scope link"),
            format!("-n {pod} route add default via 169.254.1.1 dev eth0"),
            format!(
                "-n {node} link add link ens192 name net1 netns {pod} address 2a:1e:a1:db:2a:9a type macvlan mode bridge"
            ),
            format!("-n {pod} link set net1 up"),
            format!("-n {pod} address add 10.6.212.145/16 dev net1"),
            format!("-n {pod} route prepend default via 10.6.0.1 dev net1"),
        ] {
            ip(&line.split(' ').collect::<Vec<_>>());
        }
        lab
    }

    /// All that a plan may touch, as `ip` prints it.
    pub(crate) fn state(&self) -> String {
        let of = |name: &str, what: &str| {
            let args: Vec<&str> = ["-n", name].into_iter().chain(what.split(' ')).collect();
            format!("# {what}\n{}", ip(&args))
        };
        let pod = ["rule", "route show table all", "neighbour show nud permanent"].map(|what| of(&self.pod, what));
        let node = ["rule", "route show table all", "neighbour show nud permanent"].map(|what| of(&self.node, what));
        [pod, node].concat().concat()
    }

    pub(crate) fn pod(&self, what: &str) -> Vec<String> {
        let args: Vec<&str> = ["-n", &self.pod].into_iter().chain(what.split(' ')).collect();
        let mut lines: Vec<String> = ip(&args).lines().map(|line| line.trim_end().replace('\t', " ")).collect();
        lines.sort();
        lines
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in [&self.pod, &self.node] {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

pub(crate) fn ip(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).output().expect("these tests need the ip command and root");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || said.contains("FIB table does not exist"), "ip {}: {said}", args.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// Where `ip netns` keeps a namespace.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from("/var/run/netns").join(name)
}
