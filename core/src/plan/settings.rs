//! Which setting counts, and the built-in defaults.

use crate::world::{Mode, Settings};

impl Settings {
    /// These settings where they say something, the lower ones elsewhere. A list that is not empty replaces the lower
    /// one.
    #[must_use]
    pub fn over(&self, lower: &Settings) -> Settings {
        fn list<T: Clone>(upper: &[T], lower: &[T]) -> Vec<T> {
            if upper.is_empty() { lower.to_vec() } else { upper.to_vec() }
        }
        let name = |upper: &Option<String>, lower: &Option<String>| {
            upper.clone().filter(|name| !name.is_empty()).or_else(|| lower.clone())
        };
        Settings {
            mode: self.mode.or(lower.mode),
            tune_pod_routes: self.tune_pod_routes.or(lower.tune_pod_routes),
            pod_default_route_nic: name(&self.pod_default_route_nic, &lower.pod_default_route_nic),
            pod_default_cni_nic: name(&self.pod_default_cni_nic, &lower.pod_default_cni_nic),
            hijack_cidr: list(&self.hijack_cidr, &lower.hijack_cidr),
            host_rule_table: self.host_rule_table.or(lower.host_rule_table),
            pod_rp_filter: self.pod_rp_filter.or(lower.pod_rp_filter),
            tx_queue_length: self.tx_queue_length.or(lower.tx_queue_length),
            pod_mac_prefix: self.pod_mac_prefix.or(lower.pod_mac_prefix),
            policy_routes: list(&self.policy_routes, &lower.policy_routes),
        }
    }

    /// How the interface is treated.
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or_default()
    }

    /// Whether default routes are moved and rules set.
    pub fn tune_pod_routes(&self) -> bool {
        self.tune_pod_routes.unwrap_or(true)
    }

    /// The Pod's interface towards the node.
    pub fn default_cni_nic(&self) -> &str {
        self.pod_default_cni_nic.as_deref().filter(|name| !name.is_empty()).unwrap_or("eth0")
    }

    /// The host's table of routes to Pods.
    pub fn host_rule_table(&self) -> u32 {
        self.host_rule_table.filter(|table| *table > 0).unwrap_or(500)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_setting_counts_and_the_lower_fills_gaps() {
        let upper =
            Settings { mode: Some(Mode::Overlay), pod_default_route_nic: Some(String::new()), ..Settings::default() };
        let lower = Settings {
            mode: Some(Mode::Disabled),
            pod_default_route_nic: Some("net1".into()),
            hijack_cidr: vec!["169.254.0.0/16".parse().unwrap()],
            ..Settings::default()
        };
        let merged = upper.over(&lower);
        assert_eq!(merged.mode(), Mode::Overlay);
        assert_eq!(merged.pod_default_route_nic.as_deref(), Some("net1"));
        assert_eq!(merged.hijack_cidr, lower.hijack_cidr);
        assert_eq!((merged.host_rule_table(), merged.default_cni_nic(), merged.tune_pod_routes()), (500, "eth0", true));
    }
}
