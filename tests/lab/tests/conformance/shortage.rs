//! When there is no address to give: now (code 11) or by what the pools say (code 100).

use anyhow::{Result, ensure};
use serde_json::json;

use crate::rig::{Document, Rig, address, network, pools};

/// Code 11, with the counts of the pool.
#[test]
fn a_pool_that_is_used_out_is_code_11_with_counts() -> Result<()> {
    let rig = Rig::start_with(&["--budget", "0.3"])?;
    rig.pool(&Document::pool("two", "10.8.0.0/24", "10.8.0.10-10.8.0.11"))?;
    let (a, b) = (rig.node().sandbox("a")?, rig.node().sandbox("b")?);
    for container in ["c1", "c2"] {
        rig.ipam(container, &a).call("ADD", pools(&["two"]))?.result()?;
    }
    rig.ipam("c3", &b)
        .call("ADD", pools(&["two"]))?
        .error(11, &["pool two: 2 leased here, 2 in use", "0 dying", "0 idle"])?;
    a.ip(&["addr", "add", "10.8.0.11/24", "dev", "lo"])?;
    rig.ipam("c2", &a).call("DEL", pools(&["two"]))?.silent()?;
    rig.ipam("c3", &b).call("ADD", pools(&["two"]))?.error(11, &["1 in use, 1 dying"])?;
    ensure!(rig.inspect().allocations()?.len() == 1);
    // A further pool is tried before the call is refused; an empty pool never fails STATUS.
    rig.pool(&Document::pool("more", "10.9.0.0/24", "10.9.0.10"))?;
    let result = rig.ipam("c3", &b).call("ADD", pools(&["two", "more"]))?.result()?;
    ensure!(address(&result)? == "10.9.0.10", "{result}");
    rig.ipam("c4", &b)
        .call("ADD", pools(&["two", "more"]))?
        .error(11, &["pool two: 2", "pool more: 1 leased here, 1 in use"])?;
    rig.node().shim("spiderpool").call("STATUS", network("1.1.0", &json!({})))?.silent()
}

/// Rule: All or nothing. One family used out leaves nothing of the other.
#[test]
fn dual_stack_gets_both_families_or_neither() -> Result<()> {
    let rig = Rig::start_with(&["--budget", "0.3"])?;
    rig.pool(&Document::pool("four", "10.8.0.0/24", "10.8.0.10-10.8.0.19"))?;
    rig.pool(&Document::pool("six", "fd00:8::/64", "fd00:8::10"))?;
    let sandbox = rig.node().sandbox("a")?;
    let both = network("1.0.0", &json!({ "default_ipv4_ippool": ["four"], "default_ipv6_ippool": ["six"] }));
    rig.ipam("c1", &sandbox).call("ADD", &both)?.result()?;
    rig.ipam("c2", &sandbox).call("ADD", &both)?.error(11, &["pool six: 1 leased here, 1 in use"])?;
    let (four, six) = (rig.inspect().counts("four")?, rig.inspect().counts("six")?);
    ensure!((four.in_use, four.dying, four.cooling, four.free) == (1, 0, 0, 9), "{four:?}");
    ensure!((six.in_use, six.free) == (1, 0), "{six:?}");
    let unfit = network("1.0.0", &json!({ "default_ipv4_ippool": ["four"], "default_ipv6_ippool": ["four"] }));
    rig.ipam("c3", &sandbox).call("ADD", unfit)?.error(100, &["IPv6", "is an IPv4 pool"])?;
    ensure!(rig.inspect().allocations()?.len() == 1);
    // One DEL gives both back.
    rig.ipam("c1", &sandbox).call("DEL", &both)?.silent()?;
    ensure!((rig.inspect().counts("four")?.in_use, rig.inspect().counts("six")?.in_use) == (0, 0));
    Ok(())
}

/// Code 100 lists every pool with its reason.
#[test]
fn when_no_pool_fits_each_has_its_reason() -> Result<()> {
    let rig = Rig::start()?;
    let pool = |number: u8, name: &str, line: &str| {
        Document::pool(name, &format!("10.{number}.0.0/24"), &format!("10.{number}.0.10-10.{number}.0.12")).with(line)
    };
    for document in [
        pool(20, "disabled", "disable: true"),
        pool(21, "other-node", "nodeName: [elsewhere]"),
        pool(22, "node-labels", "nodeAffinity: {matchLabels: {zone: east}}"),
        pool(23, "other-namespace", "namespaceName: [kube-system]"),
        pool(24, "namespace-labels", "namespaceAffinity: {matchLabels: {team: a}}"),
        pool(25, "pod", "podAffinity: {matchLabels: {app: web}}"),
        pool(26, "multus", "multusName: [kube-system/macvlan]"),
        pool(27, "excluded", "excludeIPs: [10.27.0.10-10.27.0.12]"),
        Document::pool("six", "fd00:8::/64", "fd00:8::10"),
    ] {
        rig.pool(&document)?;
    }
    let sandbox = rig.node().sandbox("a")?;
    let names = [
        "disabled",
        "other-node",
        "node-labels",
        "other-namespace",
        "namespace-labels",
        "pod",
        "multus",
        "excluded",
        "six",
    ];
    rig.ipam("c", &sandbox).call("ADD", pools(&names))?.error(
        100,
        &[
            "disabled (is disabled by spec.disable)",
            "other-node (spec.nodeName does not list node worker01)",
            "node-labels (spec.nodeAffinity does not match",
            "other-namespace (spec.namespaceName does not list namespace default)",
            "namespace-labels (spec.namespaceAffinity does not match",
            "pod (spec.podAffinity needs the Pod's labels, which standalone mode does not know)",
            "multus (spec.multusName needs",
            "excluded (has nothing to give out",
            "six (is an IPv6 pool; list it in default_ipv6_ippool)",
        ],
    )?;
    // A name that does not exist is an error, not a fall-through.
    rig.ipam("c", &sandbox)
        .call("ADD", pools(&["10-6-v4", "none-such"]))?
        .error(100, &["none-such (there is no SpiderIPPool of this name"])?;
    rig.ipam("c", &sandbox).call("ADD", pools(&["none-*"]))?.error(100, &["none-*"])?;
    rig.ipam("c", &sandbox).call("ADD", pools(&[]))?.error(100, &["default_ipv4_ippool", "spec.default: true"])?;
    ensure!(rig.inspect().allocations()?.is_empty(), "nothing is left behind");
    Ok(())
}
