use proptest::prelude::*;

use super::*;

fn file(name: &str, text: &str) -> File {
    File { name: name.into(), text: Ok(text.into()) }
}

fn pool(name: &str, ips: &str) -> String {
    format!(
        "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderIPPool\nmetadata:\n  name: {name}\nspec:\n  \
         subnet: 10.6.0.0/16\n  ips:\n  - {ips}\n"
    )
}

fn folder() -> Folder {
    Folder::new("worker", "default")
}

/// Loads files; the addresses of each pool, and what was refused.
fn load(folder: &mut Folder, files: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let loaded = folder.load(files.iter().map(|(name, text)| file(name, text)).collect());
    let pools = loaded.world.pools().values().map(|pool| format!("{} {}", pool.name, pool.addresses));
    (pools.collect(), loaded.refused.iter().map(ToString::to_string).collect())
}

const ALL_KINDS: &str = "\
# The page's objects.
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata:
  name: 10-6-v4
  annotations: {anything: goes}
  managedFields: [{manager: kubectl}]
spec:
  disable: false
  gateway: 10.6.0.1
  ips:
  - 10.6.212.100-10.6.212.200
  subnet: 10.6.0.0/16
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderReservedIP
metadata:
  name: routers
spec:
  ips: [10.6.212.100]
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderCoordinator
metadata:
  name: default
spec:
  podCIDRType: calico
status:
  phase: Synced
---
apiVersion: v1
kind: Namespace
metadata:
  name: team-a
  labels: {team: a}
status:
  phase: Active
---
apiVersion: v1
kind: Node
metadata:
  name: worker
  labels:
    zone: a
spec:
  podCIDR: 10.233.64.0/24
---
apiVersion: v1
kind: Node
metadata:
  name: another
";

#[test]
fn every_kind_is_read() {
    let loaded = folder().load(vec![file("all.yaml", ALL_KINDS), file("README.md", "text"), file(".x.yaml", "text")]);
    assert_eq!(loaded.refused, []);
    let world = loaded.world;
    assert_eq!(world.pools()["10-6-v4"].gateway, Some("10.6.0.1".parse().unwrap()));
    assert_eq!(world.allowed("10-6-v4").unwrap().to_string(), "10.6.212.101-10.6.212.200");
    assert_eq!(world.reserved().to_string(), "10.6.212.100");
    assert_eq!(world.coordinator.as_ref().unwrap().synced, Ok(()));
    assert_eq!(world.namespaces["team-a"].labels["team"], "a");
    assert_eq!(world.node.name, "worker");
    assert_eq!(world.node.labels.as_ref().unwrap()["zone"], "a");
}

#[test]
fn an_empty_folder_knows_the_nodes_name() {
    let loaded = folder().load(vec![]);
    assert_eq!((loaded.world.node.name.as_str(), &loaded.world.node.labels), ("worker", &None));
}

#[test]
fn json_is_read() {
    let text = "{\n  \"apiVersion\": \"spiderpool.spidernet.io/v2beta1\",\n  \"kind\": \"SpiderIPPool\",\n  \
                \"metadata\": {\"name\": \"a\"},\n  \"spec\": {\n    \"subnet\": \"10.6.0.0/16\",\n    \
                \"ips\": [\"10.6.0.9\",\n    \"10.9.0.9\"]\n  }\n}\n";
    let (_, refused) = load(&mut folder(), &[("a.json", text)]);
    let fault =
        "a.json:8: spec.ips[1]: 10.9.0.9 is not inside the subnet 10.6.0.0/16; stay within 10.6.0.0-10.6.255.255";
    assert_eq!(refused, [fault]);
    let (pools, refused) = load(&mut folder(), &[("a.json", &text.replace("10.9.0.9", "10.6.0.10"))]);
    assert_eq!((pools, refused), (vec!["a 10.6.0.9-10.6.0.10".to_owned()], vec![]));
}

#[test]
fn every_refusal_has_file_line_and_field() {
    let head = |kind: &str, name: &str| {
        format!("apiVersion: spiderpool.spidernet.io/v2beta1\nkind: {kind}\nmetadata:\n  name: {name}\n")
    };
    let pool = head("SpiderIPPool", "a");
    let rows = [
        (format!("{pool}spec:\n  ips: []\n"), "a.yaml:5: spec.subnet: is missing; it must be written"),
        (
            format!("{pool}spec:\n  subnet: 10.6.0.0/16\n  ip: []\n"),
            "a.yaml:7: spec.ip: is no field of this object; it has ipVersion, subnet, ips, excludeIPs, gateway, routes, \
             podAffinity, namespaceAffinity, namespaceName, nodeAffinity, nodeName, multusName, default, disable",
        ),
        (
            format!("{pool}spec:\n  subnet: 10.6.0.0/16\n  ips:\n  - 10.6.0.9\n  - 7\n"),
            "a.yaml:9: spec.ips[1]: integer `7` does not fit; write text: put it in quotes",
        ),
        (
            format!("{pool}spec:\n  subnet: 10.6.0.0/16\nspec2: 1\n"),
            "a.yaml:7: spec2: is no field of this object; it has metadata, spec, status",
        ),
        (
            format!("{pool}spec:\n  subnet: 10.6.0.0/16\n  disable: 'no'\n"),
            "a.yaml:7: spec.disable: string \"no\" does not fit; write true or false",
        ),
        (format!("{pool}spec:\n  subnet: [10.6.0.0/16\n"), "a.yaml:6: unclosed bracket '['"),
        (
            format!("# One\n---\n{}", head("SpiderSubnet", "a")),
            "a.yaml:4: kind: \"SpiderSubnet\" is not known here; write one of SpiderIPPool, SpiderReservedIP, \
             SpiderCoordinator, Namespace, Node",
        ),
        (
            "metadata: {name: a}\n".into(),
            "a.yaml:1: kind: is missing; write one of SpiderIPPool, SpiderReservedIP, SpiderCoordinator, Namespace, Node",
        ),
        (
            format!("{}spec: {{}}\n", head("SpiderReservedIP", "a").replace("v2beta1", "v1")),
            "a.yaml:1: apiVersion: \"spiderpool.spidernet.io/v1\" is not the version of SpiderReservedIP; write \
             spiderpool.spidernet.io/v2beta1",
        ),
        ("kind: Node\nmetadata: {name: a}\n".into(), "a.yaml:1: apiVersion: is missing; write v1"),
        (
            "apiVersion: v1\nkind: Node\nmetadata: {}\n".into(),
            "a.yaml:3: metadata.name: is missing; it must be written",
        ),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a.b\n".into(),
            "a.yaml:4: metadata.name: \"a.b\" is no name; write at most 63 of a-z, 0-9 and -, beginning and ending with \
             a letter or digit",
        ),
        (
            "just text\n".into(),
            "a.yaml:1: kind: is missing; write one of SpiderIPPool, SpiderReservedIP, \
          SpiderCoordinator, Namespace, Node",
        ),
    ];
    for (text, expected) in rows {
        let (pools, refused) = load(&mut folder(), &[("a.yaml", &text)]);
        assert_eq!(pools, [""; 0]);
        assert_eq!(refused.len(), 1, "{text}\n{refused:?}");
        assert!(refused[0].starts_with(expected), "{text}\n{}\n{expected}", refused[0]);
    }
}

#[test]
fn all_faults_of_a_document_are_refused_together() {
    let text = format!("{}  gateway: 10.7.0.1\n  typo: 1\n  ipVersion: 6\n", pool("a", "10.6.0.9-10.6.0.1"));
    let (_, refused) = load(&mut folder(), &[("a.yaml", &text)]);
    let places: Vec<String> =
        refused.iter().map(|text| text.split(": ").take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        places,
        ["a.yaml:8 spec.ips[0]", "a.yaml:9 spec.gateway", "a.yaml:10 spec.typo", "a.yaml:11 spec.ipVersion"]
    );
}

/// A bad document keeps the last good version of its object; everything else loads.
#[test]
fn a_bad_document_leaves_its_object_as_it_was() {
    let mut folder = folder();
    let good = format!("{}---\n{}", pool("a", "10.6.0.1"), pool("b", "10.6.0.2"));
    load(&mut folder, &[("x.yaml", &good)]);
    let bad = format!("{}---\n{}---\n{}", pool("a", "nonsense"), pool("b", "10.6.0.3"), pool("c", "10.6.0.4"));
    let (pools, refused) = load(&mut folder, &[("x.yaml", &bad)]);
    assert_eq!(pools, ["a 10.6.0.1", "b 10.6.0.3", "c 10.6.0.4"]);
    assert_eq!(refused.len(), 1);
    // Again: it is still the last good version. Moved to another file: likewise.
    let (pools, _) = load(&mut folder, &[("y.yaml", &bad)]);
    assert_eq!(pools, ["a 10.6.0.1", "b 10.6.0.3", "c 10.6.0.4"]);
    // The document goes, and the object with it.
    let (pools, refused) = load(&mut folder, &[("y.yaml", &pool("b", "10.6.0.3"))]);
    assert_eq!((pools, refused), (vec!["b 10.6.0.3".to_owned()], vec![]));
}

/// A document that does not say what it is about keeps everything that its file gave.
#[test]
fn an_obscure_document_leaves_its_file_as_it_was() {
    let good = format!("{}---\n{}", pool("a", "10.6.0.1"), pool("b", "10.6.0.2"));
    let obscure = [
        format!("{}---\nkind: [\n", pool("b", "10.6.0.3")),
        format!("{}---\n{}", pool("b", "10.6.0.3"), pool("a", "10.6.0.9").replace("SpiderIPPool", "SpiderPool")),
        format!("{}---\n{}", pool("b", "10.6.0.3"), pool("[a]", "10.6.0.9")),
    ];
    for text in obscure {
        let mut folder = folder();
        load(&mut folder, &[("x.yaml", &good), ("y.yaml", &pool("c", "10.6.0.4"))]);
        let (pools, refused) = load(&mut folder, &[("x.yaml", &text)]);
        // b has a new good version; a cannot be told; c's file is gone.
        assert_eq!(pools, ["a 10.6.0.1", "b 10.6.0.3"], "{text}");
        assert_eq!(refused.len(), 1);
    }
    let mut folder = folder();
    load(&mut folder, &[("x.yaml", &good)]);
    let unreadable = File { name: "x.yaml".into(), text: Err("permission denied".into()) };
    let loaded = folder.load(vec![unreadable]);
    assert_eq!(loaded.world.pools().len(), 2);
    assert_eq!(loaded.refused[0].to_string(), "x.yaml:1: cannot be read: permission denied");
}

#[test]
fn a_second_document_for_an_object_is_refused() {
    let (first, second) = (pool("a", "10.6.0.1"), pool("a", "10.6.0.2"));
    let (pools, refused) = load(&mut folder(), &[("y.yaml", &second), ("x.yaml", &format!("# Pool\n{first}"))]);
    assert_eq!(pools, ["a 10.6.0.1"]);
    let fault = "y.yaml:4: metadata.name: SpiderIPPool a is written at x.yaml:2 already; remove one of the two";
    assert_eq!(refused, [fault]);
    // Kinds have names of their own.
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: a}\n";
    assert_eq!(load(&mut folder(), &[("x.yaml", &first), ("y.yaml", node)]).1, [""; 0]);
}

#[test]
fn pools_in_each_others_way_are_refused() {
    let files = [("x.yaml", pool("b", "10.6.0.1-10.6.0.9")), ("y.yaml", pool("a", "10.6.0.9-10.6.0.19"))];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let (pools, refused) = load(&mut folder(), &files);
    assert_eq!(pools, ["b 10.6.0.1-10.6.0.9"]);
    let fault = "y.yaml:7: spec.ips: 10.6.0.9 belong to pool b already; leave them out of one of the two (x.yaml:1)";
    assert_eq!(refused, [fault]);
}

/// The change that brings the conflict is refused, wherever it stands.
#[test]
fn unchanged_pools_stand() {
    let mut folder = folder();
    let (a, b) = (pool("a", "10.6.0.1-10.6.0.9"), pool("b", "10.6.0.10-10.6.0.19"));
    load(&mut folder, &[("a.yaml", &a), ("b.yaml", &b)]);
    let grown = pool("a", "10.6.0.1-10.6.0.12");
    let (pools, refused) = load(&mut folder, &[("a.yaml", &grown), ("b.yaml", &b)]);
    assert_eq!(pools, ["a 10.6.0.1-10.6.0.9", "b 10.6.0.10-10.6.0.19"]);
    assert!(refused.len() == 1 && refused[0].starts_with("a.yaml:7: spec.ips"), "{refused:?}");
    // Both may change at once: they swap.
    let (a, b) = (pool("a", "10.6.0.10-10.6.0.19"), pool("b", "10.6.0.1-10.6.0.9"));
    let (pools, refused) = load(&mut folder, &[("a.yaml", &a), ("b.yaml", &b)]);
    assert_eq!(pools, ["a 10.6.0.10-10.6.0.19", "b 10.6.0.1-10.6.0.9"]);
    assert_eq!(refused, [""; 0]);
}

/// A pool that falls back to its last good version takes its addresses back from one that reached for them.
#[test]
fn a_fallback_stands_before_changes() {
    let mut folder = folder();
    let (a, b, c) = (pool("a", "10.6.0.1-10.6.0.9"), pool("b", "10.6.0.10-10.6.0.19"), pool("c", "10.6.0.20"));
    load(&mut folder, &[("a.yaml", &a), ("b.yaml", &b), ("c.yaml", &c)]);
    // a moves onto b, so it is refused; c moves onto what a would have left.
    let (a, c) = (pool("a", "10.6.0.15"), pool("c", "10.6.0.5"));
    let (pools, refused) = load(&mut folder, &[("a.yaml", &a), ("b.yaml", &b), ("c.yaml", &c)]);
    assert_eq!(pools, ["a 10.6.0.1-10.6.0.9", "b 10.6.0.10-10.6.0.19", "c 10.6.0.20"]);
    assert_eq!(refused.len(), 2, "{refused:?}");
}

#[test]
fn oddities_are_noticed() {
    let coordinator = ALL_KINDS.split("---\n").nth(2).unwrap().replace("name: default", "name: other");
    let text = format!("{}  - 10.6.0.1-10.6.0.3\n---\n{coordinator}", pool("a", "10.6.0.2"));
    let loaded = folder().load(vec![file("a.yaml", &text)]);
    let noticed: Vec<String> = loaded.noticed.iter().map(ToString::to_string).collect();
    let expected = [
        "a.yaml:9: spec.ips[1]: 10.6.0.2 is listed before; it counts once",
        "a.yaml:14: metadata.name: has no effect: the SpiderCoordinator named default counts",
    ];
    assert_eq!(noticed, expected);
    assert!(loaded.refused.is_empty() && loaded.world.coordinator.is_none());
}

#[test]
fn an_unchanged_world_is_the_same_value() {
    let mut folder = folder();
    let first = folder.load(vec![file("a.yaml", ALL_KINDS)]).world;
    let second = folder.load(vec![file("b.yaml", ALL_KINDS)]).world;
    assert!(Arc::ptr_eq(&first, &second));
    assert!(!Arc::ptr_eq(&first, &folder.load(vec![]).world));
}

/// What one document of the property below says of its pool.
#[derive(Clone, Debug)]
enum Say {
    Nothing,
    Range(u8, u8),
    Nonsense,
}

proptest! {
    /// Whatever the files went through: pools never stand in each other's way, and a pool stays in the world exactly
    /// while a document speaks of it, once it was good.
    #[test]
    fn pools_stand_apart_and_last(loads in prop::collection::vec(prop::collection::vec(
        prop_oneof![
            Just(Say::Nothing),
            (1..60_u8, 0..20_u8).prop_map(|(first, more)| Say::Range(first, first + more)),
            Just(Say::Nonsense),
        ], 4), 1..6))
    {
        let mut folder = folder();
        let mut before: BTreeSet<String> = BTreeSet::new();
        for load in loads {
            let text = |(place, say): (usize, &Say)| {
                let name = format!("p{place}");
                let text = match say {
                    Say::Nothing => return None,
                    Say::Range(first, last) => pool(&name, &format!("10.6.0.{first}-10.6.0.{last}")),
                    Say::Nonsense => pool(&name, "nonsense"),
                };
                Some((name, text))
            };
            let spoken: BTreeMap<String, String> = load.iter().enumerate().filter_map(text).collect();
            let files = spoken.iter().map(|(name, text)| file(&format!("{name}.yaml"), text)).collect();
            let loaded = folder.load(files);
            let pools: Vec<_> = loaded.world.pools().values().collect();
            for one in &pools {
                for other in &pools {
                    prop_assert_eq!(conflict(one, other), None);
                }
            }
            let now: BTreeSet<String> = pools.iter().map(|pool| pool.name.to_string()).collect();
            prop_assert!(now.iter().all(|name| spoken.contains_key(name)));
            prop_assert!(before.iter().all(|name| now.contains(name) || !spoken.contains_key(name)));
            let refused: BTreeSet<&str> = loaded.refused.iter().map(|remark| remark.file.as_str()).collect();
            for name in spoken.keys().filter(|name| !refused.contains(format!("{name}.yaml").as_str())) {
                prop_assert!(now.contains(name), "{name} was taken, so it is there");
            }
            before = now;
        }
    }

    /// No text makes reading panic, and a refusal's line is one of the file's.
    #[test]
    fn any_text_is_read(text in "([a-z:\\-\\[\\]{}&*'\"|>#%!,? \t\n]|kind: Node\n|metadata:\n  name: a\n|---\n){0,40}") {
        let loaded = folder().load(vec![file("a.yaml", &text)]);
        let lines = text.split('\n').count();
        for remark in loaded.refused {
            prop_assert!((1..=lines).contains(&remark.line), "{remark} of {lines} lines");
        }
    }
}
