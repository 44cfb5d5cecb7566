//! JSON to result, from any version.

use serde_json::{Map, Value};

use super::{super::Reader, CniError, CniResult, CniVersion, Dns, Interface, IpConfiguration, Route};

impl CniResult {
    /// `default` is the version of a result that does not say it: a `prevResult` has that of its configuration.
    pub(crate) fn read(reader: &Reader<'_>, default: Option<CniVersion>) -> Result<Self, CniError> {
        let source = match (reader.string("cniVersion")?, default) {
            (None | Some(""), Some(default)) => default,
            (text, _) => CniVersion::parse(text).map_err(|mut error| {
                error.msg = format!("{}: {}", reader.path("cniVersion"), error.msg);
                error
            })?,
        };
        let interfaces = reader.objects("interfaces")?.iter().map(interface).collect::<Result<Vec<_>, _>>()?;
        let ips = reader
            .objects("ips")?
            .iter()
            .map(|reader| ip_configuration(reader, interfaces.len()))
            .collect::<Result<_, _>>()?;
        let routes = reader.objects("routes")?.iter().map(route).collect::<Result<_, _>>()?;
        let dns = reader.object("dns")?.as_ref().map(dns).transpose()?.unwrap_or_default();
        let extra = extra(reader, &["cniVersion", "interfaces", "ips", "routes", "dns"]);
        Ok(Self { interfaces, ips, routes, dns, extra, source: Some(source) })
    }
}

fn interface(reader: &Reader<'_>) -> Result<Interface, CniError> {
    let wanted = "the interface's name";
    Ok(Interface {
        name: text(reader, "name")?.ok_or_else(|| reader.missing("name", wanted))?,
        mac: text(reader, "mac")?,
        mtu: reader.integer("mtu", "a number of bytes")?,
        sandbox: text(reader, "sandbox")?,
        socket_path: text(reader, "socketPath")?,
        pci_id: text(reader, "pciID")?,
        extra: extra(reader, &["name", "mac", "mtu", "sandbox", "socketPath", "pciID"]),
    })
}

fn ip_configuration(reader: &Reader<'_>, interfaces: usize) -> Result<IpConfiguration, CniError> {
    let wanted = "an address with its prefix length such as 10.6.212.145/16";
    let wanted_index = "the index of an entry of interfaces";
    let interface: Option<usize> = reader.integer::<i64>("interface", wanted_index)?.map_or(Ok(None), |index| {
        usize::try_from(index)
            .ok()
            .filter(|index| *index < interfaces)
            .map(Some)
            .ok_or_else(|| reader.wrong("interface", wanted_index))
    })?;
    Ok(IpConfiguration {
        address: reader.parsed("address", wanted)?.ok_or_else(|| reader.missing("address", wanted))?,
        gateway: reader.parsed("gateway", "an address such as 10.6.0.1")?,
        interface,
        // The family is in the address; `version` is written anew where the version wants it.
        extra: extra(reader, &["address", "gateway", "interface", "version"]),
    })
}

fn route(reader: &Reader<'_>) -> Result<Route, CniError> {
    let wanted = "a CIDR such as 0.0.0.0/0";
    Ok(Route {
        destination: reader.parsed("dst", wanted)?.ok_or_else(|| reader.missing("dst", wanted))?,
        gateway: reader.parsed("gw", "an address such as 10.6.0.1")?,
        mtu: reader.integer("mtu", "a number of bytes")?,
        advertised_mss: reader.integer("advmss", "a number of bytes")?,
        priority: reader.integer("priority", "a number, 0 or more")?,
        table: reader.integer("table", "the number of a routing table")?,
        scope: reader.integer("scope", "a number from 0 to 255")?,
        extra: extra(reader, &["dst", "gw", "mtu", "advmss", "priority", "table", "scope"]),
    })
}

fn dns(reader: &Reader<'_>) -> Result<Dns, CniError> {
    let list = |key| reader.strings(key, "a list of strings");
    Ok(Dns {
        nameservers: list("nameservers")?,
        domain: text(reader, "domain")?,
        search: list("search")?,
        options: list("options")?,
        extra: extra(reader, &["nameservers", "domain", "search", "options"]),
    })
}

/// An empty string is how Go writes nothing.
fn text(reader: &Reader<'_>, key: &str) -> Result<Option<String>, CniError> {
    Ok(reader.string(key)?.filter(|text| !text.is_empty()).map(str::to_owned))
}

fn extra(reader: &Reader<'_>, known: &[&str]) -> Map<String, Value> {
    reader
        .keys()
        .filter(|key| !known.contains(key))
        .filter_map(|key| Some((key.to_owned(), reader.get(key)?.clone())))
        .collect()
}
