//! Object `ipam` of a network configuration whose IPAM plugin is `spiderpool`.

use super::{CniError, Reader, sort_out};

const KNOWN: [&str; 5] = ["type", "default_ipv4_ippool", "default_ipv6_ippool", "clean_gateway", "match_master_subnet"];
/// Log files and the socket are the node's affair: a path never comes from a network configuration, which tenants write.
const LEGACY: [&str; 6] = [
    "log_level",
    "log_file_path",
    "log_file_max_size",
    "log_file_max_age",
    "log_file_max_count",
    "ipam_unix_socket_path",
];

/// Keys of the IPAM plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpamConfiguration {
    /// `default_ipv4_ippool`: names or patterns of pools, in order of preference.
    pub default_ipv4_ippool: Vec<String>,
    /// `default_ipv6_ippool`: the same for IPv6.
    pub default_ipv6_ippool: Vec<String>,
    /// `clean_gateway`: no default route in the result.
    pub clean_gateway: bool,
    /// `match_master_subnet`: only pools whose subnet the master interface has.
    pub match_master_subnet: bool,
    /// Keys that older versions knew and that have no effect any more, as `ipam.KEY`.
    pub ignored: Vec<String>,
    /// Keys that nobody knows, as `ipam.KEY`: a misprint, or another plugin's.
    pub unknown: Vec<String>,
}

impl IpamConfiguration {
    pub(super) fn read(root: &Reader<'_>) -> Result<Self, CniError> {
        let Some(reader) = root.object("ipam")? else { return Ok(Self::default()) };
        let (ignored, unknown) = sort_out(&reader, &KNOWN, &LEGACY);
        let pools = |key| reader.strings(key, r#"a list of pool names such as ["10-6-v4"]"#);
        Ok(Self {
            default_ipv4_ippool: pools("default_ipv4_ippool")?,
            default_ipv6_ippool: pools("default_ipv6_ippool")?,
            clean_gateway: reader.boolean("clean_gateway")?.unwrap_or_default(),
            match_master_subnet: reader.boolean("match_master_subnet")?.unwrap_or_default(),
            ignored,
            unknown,
        })
    }
}
