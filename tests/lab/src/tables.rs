//! The rules and routes that a Pod of the example must have in overlay mode, as `ip` prints them.

use std::fmt::Display;
use std::net::IpAddr;

use crate::example::{CALICO_NEXT_HOP, CALICO_NEXT_HOP_IPV6, HIJACK_CIDR, POD_CIDR, POD_CIDR_SIX, SERVICE_CIDR};
use crate::subnet::Subnet;

/// What one family has in a Pod with `eth0` by Calico, `net1` by macvlan and perhaps `net2`.
#[derive(Clone, Copy, Debug)]
pub struct PodTables<A = std::net::Ipv4Addr> {
    /// The address of its node.
    pub node: A,
    /// The address of `eth0`.
    pub eth0: A,
    /// The address of `net1`.
    pub net1: A,
    /// The address of `net2`, where there is one.
    pub net2: Option<A>,
    /// Whether the Pod's default route was moved to `net1`.
    pub default_by_net1: bool,
}

impl<A: Copy + Display + Into<IpAddr>> PodTables<A> {
    /// `ip rule`.
    pub fn rules(&self) -> Vec<String> {
        let Self { eth0, net1, net2, .. } = self;
        let mut rules = vec!["0: from all lookup local".to_owned()];
        if let Some(net2) = net2 {
            rules.push(format!("32759: from {net2} lookup 102"));
        }
        if self.default_by_net1 {
            rules.push(format!("32762: from {eth0} lookup 101"));
        } else {
            rules.push(format!("32760: from {net1} lookup 101"));
            rules.push(format!("32762: from {eth0} lookup 100"));
        }
        rules.push("32766: from all lookup main".to_owned());
        if !self.is_six() {
            rules.push("32767: from all lookup default".to_owned());
        }
        rules
    }

    /// `ip route`.
    pub fn main(&self) -> Vec<String> {
        let default = if self.default_by_net1 { self.default_by("net1") } else { self.default_by_calico() };
        let subnets = self.attached().map(|(interface, address)| subnet(interface, address));
        [default, self.own_of_eth0()].into_iter().chain(subnets).chain(self.cluster()).collect()
    }

    /// `ip route show table 101`.
    pub fn table_101(&self) -> Vec<String> {
        let own = if self.default_by_net1 {
            [self.default_by_calico(), self.own_of_eth0()]
        } else {
            [self.default_by("net1"), subnet("net1", self.net1.into())]
        };
        own.into_iter().chain(self.cluster()).collect()
    }

    /// `ip route show table 102`; empty where there is no such table.
    pub fn table_102(&self) -> Vec<String> {
        let Some(net2) = self.net2 else { return Vec::new() };
        [self.default_by("net2"), subnet("net2", net2.into())].into_iter().chain(self.cluster()).collect()
    }

    /// `ip route show table 100`; empty where there is no such table.
    pub fn table_100(&self) -> Vec<String> {
        if self.default_by_net1 { Vec::new() } else { vec![self.default_by_calico()] }
    }

    fn is_six(&self) -> bool {
        self.node.into().is_ipv6()
    }

    fn attached(&self) -> impl Iterator<Item = (&'static str, IpAddr)> {
        [("net1", self.net1.into())].into_iter().chain(self.net2.map(|net2| ("net2", net2.into())))
    }

    fn default_by_calico(&self) -> String {
        if self.is_six() {
            return format!("default via {CALICO_NEXT_HOP_IPV6} dev eth0 metric 1024");
        }
        format!("default via {CALICO_NEXT_HOP} dev eth0")
    }

    fn default_by(&self, interface: &str) -> String {
        Subnet::of(interface, self.node.into()).default_by(interface)
    }

    /// What `eth0` has beside its default route: by IPv4 its next hop, by IPv6 what the kernel makes for its address.
    fn own_of_eth0(&self) -> String {
        if self.is_six() {
            return format!("{} dev eth0 metric 256", self.eth0);
        }
        format!("{CALICO_NEXT_HOP} dev eth0 scope link")
    }

    /// The node itself, and what is reached through it.
    fn cluster(&self) -> Vec<String> {
        let node = self.node;
        if self.is_six() {
            let through = format!("{POD_CIDR_SIX} via {node} dev eth0 metric 1024");
            return vec![format!("{node} dev eth0 metric 1024"), through];
        }
        let through = [POD_CIDR, SERVICE_CIDR, HIJACK_CIDR].map(|cidr| format!("{cidr} via {node} dev eth0"));
        [format!("{node} dev eth0 scope link")].into_iter().chain(through).collect()
    }
}

fn subnet(interface: &str, address: IpAddr) -> String {
    Subnet::of(interface, address).on_link(interface, address)
}

/// What differs between the lines expected and those that `ip` printed, in any order; `None` if nothing does.
///
/// Spaces do not count, nor does who made a route (`proto`): it is the kernel for one of them and not said of others.
pub fn difference(expected: &[String], printed: &str) -> Option<String> {
    let mut unexpected: Vec<_> = printed.lines().map(plain).filter(|line| !line.is_empty()).collect();
    let mut missing = Vec::new();
    for line in expected {
        match unexpected.iter().position(|printed| printed == line) {
            Some(index) => drop(unexpected.remove(index)),
            None => missing.push(format!("  missing:    {line}")),
        }
    }
    missing.extend(unexpected.iter().map(|line| format!("  unexpected: {line}")));
    (!missing.is_empty()).then(|| missing.join("\n"))
}

fn plain(line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    let proto = words.iter().position(|word| *word == "proto");
    let kept = words.iter().enumerate().filter(|(index, _)| proto.is_none_or(|at| *index != at && *index != at + 1));
    kept.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn spaces_order_and_origin_do_not_count() {
        let printed = "b dev net1 proto kernel scope link\n32760:\tfrom a lookup 101 \n";
        assert_eq!(difference(&lines(&["32760: from a lookup 101", "b dev net1 scope link"]), printed), None);
    }

    #[test]
    fn a_line_too_many_too_few_or_twice_is_named() {
        let expected = lines(&["a", "b"]);
        assert_eq!(difference(&expected, "a\n").as_deref(), Some("  missing:    b"));
        assert_eq!(difference(&expected, "a\nb\nb\n").as_deref(), Some("  unexpected: b"));
        assert_eq!(
            difference(&expected, "a\nb metric 5\n").as_deref(),
            Some("  missing:    b\n  unexpected: b metric 5")
        );
    }
}
