//! Core stays pure, and arrows between the crates point down only. Asks cargo, offline, what each crate links; reads
//! core's sources for what the standard library could smuggle in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What core may link: all of it.
const CORE: [&str; 8] =
    ["ipnet", "proc-macro2", "quote", "spiderpool-core", "syn", "thiserror", "thiserror-impl", "unicode-ident"];

/// Each crate of the workspace, and the crates of the workspace that it may link, directly or not.
const ARROWS: [(&str, &[&str]); 10] = [
    ("spiderpool-core", &[]),
    ("spiderpool-proto", &["spiderpool-core"]),
    ("spiderpool-api", &["spiderpool-core"]),
    ("spiderpool-cni", &["spiderpool-proto"]),
    ("spiderpool", &["spiderpool-cni", "spiderpool-proto"]),
    ("coordinator", &["spiderpool-cni", "spiderpool-proto"]),
    ("spiderpool-agent", &["spiderpool-api", "spiderpool-cni", "spiderpool-core", "spiderpool-proto"]),
    // The checker of the lab shares no code with the product.
    ("spiderpool-lab", &[]),
    ("spiderpool-bench", &["spiderpool-lab", "spiderpool-proto"]),
    ("spiderpool-fuzz", &["spiderpool-cni", "spiderpool-core", "spiderpool-proto"]),
];

/// What core may use of the standard library: `std::WORD`.
const STD: [&str; 10] = ["borrow", "cmp", "collections", "fmt", "iter", "mem", "net", "ops", "str", "sync"];

/// Words that core's code may not hold, wherever they come from.
const BANNED: [&str; 14] = [
    "async",
    "await",
    "getrandom",
    "Instant",
    "Mutex",
    "println",
    "eprintln",
    "rand",
    "RandomState",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "thread_local",
    "UdpSocket",
];

#[test]
fn core_links_nothing_that_could_act() {
    let linked = tree(&["--package", "spiderpool-core"]);
    assert_eq!(linked, CORE.map(String::from).into(), "whatever core needs is given in as a value");
}

#[test]
fn arrows_point_down_only() {
    let crates: BTreeMap<&str, BTreeSet<&str>> = ARROWS.map(|(from, to)| (from, to.iter().copied().collect())).into();
    let members = tree(&["--workspace", "--depth", "0"]);
    let known: BTreeSet<String> = crates.keys().map(ToString::to_string).collect();
    assert_eq!(members, known, "a crate of the workspace needs its arrows in this table");
    for (name, allowed) in &crates {
        let linked = tree(&["--package", name]);
        let own: BTreeSet<&str> =
            linked.iter().map(String::as_str).filter(|linked| crates.contains_key(linked) && linked != name).collect();
        let wrong: Vec<&&str> = own.difference(allowed).collect();
        assert!(wrong.is_empty(), "{name} must not link {wrong:?}");
    }
}

#[test]
fn core_uses_nothing_of_std_that_could_act() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources_below(&sources);
    assert!(files.len() > 10, "found {files:?}");
    let found: Vec<String> = files.iter().flat_map(|file| offences(file)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Names of what a crate links when it runs, itself included.
fn tree(which: &[&str]) -> BTreeSet<String> {
    let tree = ["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(tree).args(which).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{cargo:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("crate names are text");
    text.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty()).map(Into::into).collect()
}

/// Rust files that are no tests.
fn sources_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("a readable folder").path();
        match path.file_name().and_then(|name| name.to_str()) {
            Some("tests" | "tests.rs") => {}
            Some(_) if path.is_dir() => files.extend(sources_below(&path)),
            Some(name) if name.ends_with(".rs") => files.push(path),
            _ => {}
        }
    }
    files
}

fn offences(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).expect("a readable source");
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let judged = code.enumerate().filter_map(|(number, line)| {
        let of_std = |root: &str| line.split(root).skip(1).find(|rest| !STD.contains(&first_word(rest))).is_some();
        let banned = words(line).find(|word| BANNED.contains(word));
        let wrong = of_std("std::") || line.contains("std as ") || line.contains("extern crate") || banned.is_some();
        wrong.then(|| format!("{}:{}: {}", file.display(), number + 1, line.trim()))
    });
    judged.collect()
}

fn first_word(text: &str) -> &str {
    words(text).next().filter(|word| text.starts_with(word)).unwrap_or_default()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
}
