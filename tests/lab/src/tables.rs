//! The rules and routes that a Pod of the example must have in overlay mode, as `ip` prints them.

use std::net::Ipv4Addr;

use crate::example::{CALICO_NEXT_HOP, GATEWAY, HIJACK_CIDR, POD_CIDR, SERVICE_CIDR, SUBNET};

/// A Pod with `eth0` by Calico and `net1` by macvlan.
#[derive(Clone, Copy, Debug)]
pub struct PodTables {
    /// The address of its node.
    pub node: Ipv4Addr,
    /// The address of `eth0`.
    pub eth0: Ipv4Addr,
    /// The address of `net1`.
    pub net1: Ipv4Addr,
    /// Whether the Pod's default route was moved to `net1`.
    pub default_by_net1: bool,
}

impl PodTables {
    /// `ip rule`.
    pub fn rules(&self) -> Vec<String> {
        let Self { eth0, net1, .. } = self;
        let own = if self.default_by_net1 {
            vec![format!("32762: from {eth0} lookup 101")]
        } else {
            vec![format!("32760: from {net1} lookup 101"), format!("32762: from {eth0} lookup 100")]
        };
        let first = ["0: from all lookup local".to_owned()];
        let last = ["32766: from all lookup main", "32767: from all lookup default"].map(str::to_owned);
        first.into_iter().chain(own).chain(last).collect()
    }

    /// `ip route`.
    pub fn main(&self) -> Vec<String> {
        let default = if self.default_by_net1 { Self::default_by_gateway() } else { Self::default_by_calico() };
        let mut routes = vec![default, self.subnet(), Self::next_hop()];
        routes.extend(self.cluster());
        routes
    }

    /// `ip route show table 101`.
    pub fn table_101(&self) -> Vec<String> {
        let mut routes = if self.default_by_net1 {
            vec![Self::default_by_calico(), Self::next_hop()]
        } else {
            vec![Self::default_by_gateway(), self.subnet()]
        };
        routes.extend(self.cluster());
        routes
    }

    /// `ip route show table 100`; empty where there is no such table.
    pub fn table_100(&self) -> Vec<String> {
        if self.default_by_net1 { Vec::new() } else { vec![Self::default_by_calico()] }
    }

    fn default_by_calico() -> String {
        format!("default via {CALICO_NEXT_HOP} dev eth0")
    }

    fn default_by_gateway() -> String {
        format!("default via {GATEWAY} dev net1")
    }

    fn next_hop() -> String {
        format!("{CALICO_NEXT_HOP} dev eth0 scope link")
    }

    fn subnet(&self) -> String {
        format!("{SUBNET} dev net1 scope link src {}", self.net1)
    }

    /// The node itself, and what is reached through it.
    fn cluster(&self) -> Vec<String> {
        let node = self.node;
        let through = [POD_CIDR, SERVICE_CIDR, HIJACK_CIDR].map(|cidr| format!("{cidr} via {node} dev eth0"));
        [format!("{node} dev eth0 scope link")].into_iter().chain(through).collect()
    }
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
