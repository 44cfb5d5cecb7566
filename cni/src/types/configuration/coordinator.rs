//! The coordinator's keys of a network configuration. What is missing here comes from the SpiderCoordinator, so every
//! scalar is optional and an empty list means "not said".

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU32,
    str::FromStr,
};

use ipnet::IpNet;

use super::{CniError, Reader, sort_out};

const KNOWN: [&str; 18] = [
    "mode",
    "tunePodRoutes",
    "podDefaultCniNic",
    "podDefaultRouteNic",
    "overlayPodCIDR",
    "serviceCIDR",
    "hijackCIDR",
    "policyRoutes",
    "podMACPrefix",
    "hostRuleTable",
    "podRPFilter",
    "txQueueLen",
    "vethLinkAddress",
    "vethMTU",
    "detectGateway",
    "detectIPConflict",
    "detectOptions",
    "hostRPFilter",
];
/// Names that say nothing to this plugin: the specification's own, and what runtimes add.
const COMMON: [&str; 10] = [
    "cniVersion",
    "name",
    "type",
    "prevResult",
    "capabilities",
    "runtimeConfig",
    "args",
    "ipam",
    "dns",
    "cni.dev/valid-attachments",
];
const LEGACY: [&str; 2] = ["multusNicPrefix", "logOptions"];

/// What the coordinator does with a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Found out from the sandbox.
    Auto,
    /// The calling interface is the Pod's only way out.
    Underlay,
    /// The calling interface stands beside an overlay's.
    Overlay,
    /// Nothing. Written `disabled`, and `disable` in older configurations.
    Disabled,
}

/// A route to add: `dst` by `gw`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PolicyRoute {
    /// Key `dst`; a bare address is that one host.
    pub destination: IpNet,
    /// Key `gw`, of the same family.
    pub gateway: IpAddr,
}

/// Key `podMACPrefix`: the first two bytes of a MAC address, an individual one (lowest bit of the first byte is 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MacPrefix(pub [u8; 2]);

impl FromStr for MacPrefix {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (first, second) = text.split_once([':', '-']).ok_or(())?;
        let byte = |text: &str| {
            let is_hex = text.len() == 2 && text.chars().all(|c| c.is_ascii_hexdigit());
            is_hex.then(|| u8::from_str_radix(text, 16).ok()).flatten().ok_or(())
        };
        let prefix = [byte(first)?, byte(second)?];
        if prefix[0] & 1 == 0 { Ok(Self(prefix)) } else { Err(()) }
    }
}

/// Key `detectOptions`: how to probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DetectOptions {
    /// Key `retries`.
    pub retries: Option<u32>,
    /// Key `interval`, as written.
    pub interval: Option<String>,
    /// Key `timeout`, as written.
    pub timeout: Option<String>,
}

/// Keys of the coordinator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoordinatorConfiguration {
    /// `mode`.
    pub mode: Option<Mode>,
    /// `tunePodRoutes`: false leaves routes and rules alone.
    pub tune_pod_routes: Option<bool>,
    /// `podDefaultCniNic`: the overlay's interface.
    pub pod_default_cni_nic: Option<String>,
    /// `podDefaultRouteNic`: the interface that gets the default route.
    pub pod_default_route_nic: Option<String>,
    /// `overlayPodCIDR`.
    pub overlay_pod_cidr: Vec<IpNet>,
    /// `serviceCIDR`.
    pub service_cidr: Vec<IpNet>,
    /// `hijackCIDR`: more destinations that go by the overlay; a bare address is that one host.
    pub hijack_cidr: Vec<IpNet>,
    /// `policyRoutes`.
    pub policy_routes: Vec<PolicyRoute>,
    /// `podMACPrefix`.
    pub pod_mac_prefix: Option<MacPrefix>,
    /// `hostRuleTable`: the host's routing table for Pods of this plugin.
    pub host_rule_table: Option<NonZeroU32>,
    /// `podRPFilter`: negative leaves it alone, else 0, 1 or 2 (kernel, ip-sysctl.rst, `rp_filter`).
    pub pod_rp_filter: Option<i32>,
    /// `hostRPFilter`: accepted; the node's affair.
    pub host_rp_filter: Option<i32>,
    /// `txQueueLen`: packets; 0 leaves it alone.
    pub tx_queue_length: Option<u32>,
    /// `vethLinkAddress`: link-local address of the host link inside the Pod.
    pub veth_link_address: Option<Ipv4Addr>,
    /// `vethMTU`: bytes.
    pub veth_mtu: Option<NonZeroU32>,
    /// `detectGateway`.
    pub detect_gateway: Option<bool>,
    /// `detectIPConflict`.
    pub detect_ip_conflict: Option<bool>,
    /// `detectOptions`.
    pub detect_options: Option<DetectOptions>,
    /// Keys that older versions knew and that have no effect any more.
    pub ignored: Vec<String>,
    /// Keys that nobody knows: a misprint, or a runtime's.
    pub unknown: Vec<String>,
}

impl CoordinatorConfiguration {
    pub(super) fn read(reader: &Reader<'_>) -> Result<Self, CniError> {
        let (ignored, unknown) = sort_out(reader, &[KNOWN.as_slice(), &COMMON].concat(), &LEGACY);
        let cidrs = |key| reader.all_parsed(key, "a CIDR such as 10.233.64.0/18", |text| text.parse().ok());
        let rp_filter = |key| {
            let wanted = "0, 1 or 2, or -1 to leave it alone";
            reader
                .integer::<i32>(key, wanted)?
                .map(|value| if value <= 2 { Ok(value) } else { Err(reader.wrong(key, wanted)) })
                .transpose()
        };
        Ok(Self {
            mode: mode(reader)?,
            tune_pod_routes: reader.boolean("tunePodRoutes")?,
            pod_default_cni_nic: text(reader, "podDefaultCniNic")?,
            pod_default_route_nic: text(reader, "podDefaultRouteNic")?,
            overlay_pod_cidr: cidrs("overlayPodCIDR")?,
            service_cidr: cidrs("serviceCIDR")?,
            hijack_cidr: reader.all_parsed("hijackCIDR", "an address or a CIDR such as 169.254.0.0/16", destination)?,
            policy_routes: reader.objects("policyRoutes")?.iter().map(policy_route).collect::<Result<_, _>>()?,
            pod_mac_prefix: reader
                .parsed("podMACPrefix", "two bytes in hexadecimal, the lowest bit of the first 0, such as \"0a:1b\"")?,
            host_rule_table: positive(reader, "hostRuleTable", "the number of a routing table such as 500")?,
            pod_rp_filter: rp_filter("podRPFilter")?,
            host_rp_filter: rp_filter("hostRPFilter")?,
            tx_queue_length: reader.integer("txQueueLen", "a number of packets, 0 to leave it alone")?,
            veth_link_address: link_address(reader)?,
            veth_mtu: positive(reader, "vethMTU", "a number of bytes above 0 such as 1500")?,
            detect_gateway: reader.boolean("detectGateway")?,
            detect_ip_conflict: reader.boolean("detectIPConflict")?,
            detect_options: reader.object("detectOptions")?.as_ref().map(detect_options).transpose()?,
            ignored,
            unknown,
        })
    }
}

fn text(reader: &Reader<'_>, key: &str) -> Result<Option<String>, CniError> {
    Ok(reader.string(key)?.filter(|text| !text.is_empty()).map(str::to_owned))
}

fn mode(reader: &Reader<'_>) -> Result<Option<Mode>, CniError> {
    let mode = match reader.string("mode")? {
        None | Some("") => return Ok(None),
        Some("auto") => Mode::Auto,
        Some("underlay") => Mode::Underlay,
        Some("overlay") => Mode::Overlay,
        Some("disabled" | "disable") => Mode::Disabled,
        Some(_) => return Err(reader.wrong("mode", "auto, underlay, overlay or disabled")),
    };
    Ok(Some(mode))
}

fn positive(reader: &Reader<'_>, key: &str, wanted: &str) -> Result<Option<NonZeroU32>, CniError> {
    reader
        .integer(key, wanted)?
        .map(|value: u32| NonZeroU32::new(value).ok_or_else(|| reader.wrong(key, wanted)))
        .transpose()
}

fn destination(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn link_address(reader: &Reader<'_>) -> Result<Option<Ipv4Addr>, CniError> {
    let (key, wanted) = ("vethLinkAddress", "a link-local IPv4 address such as 169.254.100.1");
    let address: Option<Ipv4Addr> = reader.parsed(key, wanted)?;
    match address {
        Some(address) if !address.is_link_local() => Err(reader.wrong(key, wanted)),
        other => Ok(other),
    }
}

fn policy_route(reader: &Reader<'_>) -> Result<PolicyRoute, CniError> {
    let (wanted_dst, wanted_gw) = ("a CIDR such as 10.7.0.0/16", "the address of a gateway in the family of dst");
    let text = reader.string("dst")?.ok_or_else(|| reader.missing("dst", wanted_dst))?;
    let destination = destination(text).ok_or_else(|| reader.wrong("dst", wanted_dst))?;
    let gateway: IpAddr = reader.parsed("gw", wanted_gw)?.ok_or_else(|| reader.missing("gw", wanted_gw))?;
    if gateway.is_ipv4() != destination.addr().is_ipv4() {
        return Err(reader.wrong("gw", wanted_gw));
    }
    Ok(PolicyRoute { destination, gateway })
}

fn detect_options(reader: &Reader<'_>) -> Result<DetectOptions, CniError> {
    Ok(DetectOptions {
        retries: reader.integer("retries", "a number of probes")?,
        interval: text(reader, "interval")?,
        timeout: text(reader, "timeout")?,
    })
}
