//! What a runtime may get wrong before a call means anything: both programs refuse it, with everything named, and
//! nothing is left behind.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use spiderpool_lab::Shim;

use crate::rig::{Rig, VERSIONS, example_pool, network, pools};

const PROGRAMS: [&str; 3] = ["spiderpool", "coordinator", "coordinattor"];

fn complete(rig: &Rig, program: &str) -> Shim {
    let netns = rig.lab.folder().join("worker01/pods/none");
    rig.node().shim(program).container("c").variable("CNI_NETNS", &netns.to_string_lossy())
}

fn nothing_is_left(rig: &Rig) -> Result<()> {
    let node = rig.inspect().node()?;
    ensure!(node["attachments"] == "0" && node["plans"] == "0", "{node}");
    ensure!(rig.spooled()?.is_empty(), "{:?}", rig.spooled()?);
    Ok(())
}

#[test]
fn all_missing_variables_are_named_in_one_message() -> Result<()> {
    let rig = Rig::start()?;
    let table: [(&str, &[&str]); 5] = [
        ("ADD", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]),
        ("CHECK", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]),
        ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"]),
        ("GC", &["CNI_PATH"]),
        ("STATUS", &["CNI_PATH"]),
    ];
    let config = network("1.1.0", &json!({}));
    for program in PROGRAMS {
        for (verb, required) in table {
            let all = required.iter().fold(complete(&rig, program), |shim, name| shim.without(name));
            all.call(verb, &config)?.error(4, &[&required.join(", ")])?;
            for name in required {
                complete(&rig, program).without(name).call(verb, &config)?.error(4, &[name])?;
                complete(&rig, program).variable(name, "").call(verb, &config)?.error(4, &[name])?;
            }
        }
        complete(&rig, program).call("UPDATE", &config)?.error(4, &["CNI_COMMAND", "UPDATE"])?;
    }
    nothing_is_left(&rig)
}

#[test]
fn bad_names_are_code_4_and_named() -> Result<()> {
    let rig = Rig::start()?;
    let long = "x".repeat(256);
    let bad = [
        ("CNI_CONTAINERID", vec!["../c", "-c", "a b", "a/b", "ä", long.as_str()]),
        ("CNI_IFNAME", vec![".", "..", "a/b", "a:b", "a b", "sixteen-letters-"]),
        ("CNI_ARGS", vec!["K8S_POD_NAME"]),
    ];
    for program in ["spiderpool", "coordinator"] {
        for (name, values) in &bad {
            for value in values {
                for verb in ["ADD", "DEL", "CHECK"] {
                    let answer = complete(&rig, program).variable(name, value).call(verb, example_pool())?;
                    answer.error(4, &[name]).map_err(|error| error.context(format!("{name}={value:?}")))?;
                }
            }
        }
    }
    nothing_is_left(&rig)
}

#[test]
fn a_namespace_that_is_none_or_not_a_pod_s_is_refused() -> Result<()> {
    let rig = Rig::start()?;
    let pods = rig.lab.folder().join("worker01/pods");
    std::fs::write(pods.join("file"), "no namespace")?;
    let inside = |name: &str| pods.join(name).to_string_lossy().into_owned();
    let own = rig.node().namespace().path().to_string_lossy().into_owned();
    let answer = |netns: &str| complete(&rig, "spiderpool").variable("CNI_NETNS", netns).call("ADD", example_pool());
    for netns in [inside("none"), inside("file"), inside("../pods/none"), inside(""), "/etc/hostname".to_owned()] {
        answer(&netns)?.error(4, &["CNI_NETNS"])?;
    }
    answer(&own)?.error(8, &[&own])?;
    nothing_is_left(&rig)
}

#[test]
fn junk_on_standard_input_is_code_6() -> Result<()> {
    let rig = Rig::start()?;
    for program in ["spiderpool", "coordinator"] {
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            for junk in ["", "{", "[1]", "null", "\"1.0.0\"", "{\"cniVersion\": \"1.0.0\"} x", "{\"cniVersion\": 1}"] {
                let answer = complete(&rig, program).call(verb, junk)?;
                answer.error(6, &["standard input"]).map_err(|error| error.context(format!("{verb} {junk}")))?;
            }
        }
    }
    let deep =
        format!("{{\"cniVersion\": \"1.0.0\", \"name\": \"n\", \"x\": {}{}}}", "[".repeat(5000), "]".repeat(5000));
    complete(&rig, "spiderpool").call("ADD", deep)?.error(6, &[])?;
    nothing_is_left(&rig)
}

#[test]
fn other_versions_are_code_1_and_the_right_ones_named() -> Result<()> {
    let rig = Rig::start()?;
    for program in ["spiderpool", "coordinator"] {
        for version in ["0.1.0", "0.2.0", "0.3", "1.2.0", "2.0.0", "junk"] {
            for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
                let answer = complete(&rig, program).call(verb, network(version, &json!({})))?;
                answer.error(1, &[version, "0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"])?;
            }
        }
        for version in VERSIONS {
            let config = network(version, &json!({}));
            for (verb, since) in [("CHECK", "0.4.0"), ("GC", "1.1.0"), ("STATUS", "1.1.0")] {
                if version < since {
                    let error = complete(&rig, program).call(verb, &config)?.error(1, &[verb, since])?;
                    ensure!(error["cniVersion"] == version, "{error}");
                }
            }
            let answer = complete(&rig, program).call("VERSION", &config)?.result()?;
            ensure!(answer == json!({ "cniVersion": version, "supportedVersions": VERSIONS }), "{answer}");
        }
    }
    let mut none = example_pool();
    none.as_object_mut().map(|config| config.remove("cniVersion"));
    complete(&rig, "spiderpool").call("ADD", none)?.error(1, &["cniVersion"])?;
    nothing_is_left(&rig)
}

/// Code 7 names the key and what to write there.
#[test]
fn wrong_configurations_are_code_7_and_the_key_is_named() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    let ipam = |ipam: Value| network("1.0.0", &ipam);
    let named = |name: Value| {
        let mut config = example_pool();
        config["name"] = name;
        config
    };
    let long = "n".repeat(256);
    let table = [
        (ipam(json!({ "default_ipv4_ippool": "10-6-v4" })), "ipam.default_ipv4_ippool"),
        (ipam(json!({ "default_ipv4_ippool": ["10-6-v4", 6] })), "ipam.default_ipv4_ippool[1] is 6"),
        (ipam(json!({ "default_ipv6_ippool": { "a": 1 } })), "ipam.default_ipv6_ippool"),
        (ipam(json!({ "clean_gateway": "yes" })), "ipam.clean_gateway is \"yes\": write true or false"),
        (pools(&["10-6-v4", "10-6-v4"]), "default_ipv4_ippool names pool 10-6-v4 twice"),
        (pools(&["10-6-v4", "10-*"]), "default_ipv4_ippool names pool 10-6-v4 twice, once by the pattern"),
        (pools(&["10-[6-v4"]), "default_ipv4_ippool has the malformed pattern"),
        (named(json!("a/b")), "name"),
        (named(json!("")), "name"),
        (named(Value::Null), "name is missing"),
        (named(json!(long)), "name"),
    ];
    for (config, word) in table {
        rig.ipam("c", &sandbox).call("ADD", &config)?.error(7, &[word])?;
    }
    rig.ipam("c", &sandbox)
        .call("ADD", ipam(json!({ "match_master_subnet": true })))?
        .error(2, &["ipam.match_master_subnet"])?;
    nothing_is_left(&rig)
}

/// Keys of the original that name log files have no effect, and the log says so once.
#[test]
fn keys_for_log_files_are_accepted_and_named_once() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    let ipam = json!({
        "default_ipv4_ippool": ["10-6-v4"], "log_level": "DEBUG", "log_file_path": "/var/log/x.log",
        "log_file_max_size": "100", "ipam_unix_socket_path": "/elsewhere.sock",
    });
    for container in ["c1", "c2"] {
        rig.ipam(container, &sandbox).call("ADD", network("0.3.1", &ipam))?.result()?;
    }
    rig.logged(&["no effect", "ipam.log_file_path", "ipam.ipam_unix_socket_path"])?;
    let log = rig.node().daemon().log()?;
    ensure!(log.lines().filter(|line| line.contains("log_file_path")).count() == 1, "{log}");
    Ok(())
}
