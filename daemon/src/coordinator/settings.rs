//! Which settings count for a call: the network's configuration first, then the cluster's.

use spiderpool_cni::types::{CniError, Code, CoordinatorConfiguration, Mode as ConfiguredMode};
use spiderpool_core::world::{self, Mode, Route, RpFilter, Settings, World};

use crate::call::Call;

/// The settings for a call, and the network's own keys.
///
/// # Errors
/// A key of the configuration is wrong.
pub(super) fn merged(call: &Call, world: &World) -> Result<(Settings, CoordinatorConfiguration), CniError> {
    let own = call.config.coordinator()?;
    let cluster = world.coordinator.as_ref().map(|coordinator| coordinator.settings.clone()).unwrap_or_default();
    Ok((of_network(&own).over(&cluster), own))
}

/// Whether the coordinator is to do nothing for the call's network.
///
/// # Errors
/// A key of the configuration is wrong.
pub(super) fn is_disabled(call: &Call, world: &World) -> Result<bool, CniError> {
    Ok(merged(call, world)?.0.mode() == Mode::Disabled)
}

/// The cluster's coordinator, once its subnets are known.
///
/// # Errors
/// Code 11: it is not there, or not ready.
pub(crate) fn synced(world: &World) -> Result<&world::Coordinator, CniError> {
    let Some(coordinator) = &world.coordinator else {
        let msg = "no SpiderCoordinator is known; create one named default, with the cluster's subnets in its status";
        return Err(CniError::new(Code::TryAgain, msg));
    };
    match &coordinator.synced {
        Ok(()) => Ok(coordinator),
        Err(reason) => {
            let msg = format!("SpiderCoordinator {} is not ready: {reason}", coordinator.name);
            let help = "the subnets of Pods and Services must be known before a Pod gets its routes: \
                        see status.reason of the SpiderCoordinator and its spec.podCIDRType";
            Err(CniError::new(Code::TryAgain, msg).with_details(help))
        }
    }
}

/// A network's own keys as settings.
fn of_network(own: &CoordinatorConfiguration) -> Settings {
    Settings {
        mode: own.mode.map(|mode| match mode {
            ConfiguredMode::Auto => Mode::Auto,
            ConfiguredMode::Underlay => Mode::Underlay,
            ConfiguredMode::Overlay => Mode::Overlay,
            ConfiguredMode::Disabled => Mode::Disabled,
        }),
        tune_pod_routes: own.tune_pod_routes,
        pod_default_route_nic: own.pod_default_route_nic.clone(),
        pod_default_cni_nic: own.pod_default_cni_nic.clone(),
        hijack_cidr: own.hijack_cidr.clone(),
        host_rule_table: own.host_rule_table.map(Into::into),
        pod_rp_filter: own.pod_rp_filter.map(|value| match value {
            0 => RpFilter::Off,
            1 => RpFilter::Strict,
            2 => RpFilter::Loose,
            _ => RpFilter::Leave,
        }),
        tx_queue_length: own.tx_queue_length,
        pod_mac_prefix: own.pod_mac_prefix.map(|prefix| prefix.0),
        policy_routes: own
            .policy_routes
            .iter()
            .map(|route| Route { destination: route.destination.trunc(), gateway: route.gateway })
            .collect(),
    }
}
