use std::collections::BTreeMap;

use serde::Deserialize;

use super::read::read;
use super::*;

fn tree(text: &str) -> Node {
    Node::parse(1, text).unwrap().unwrap()
}

const TEXT: &str = "\
# A comment.
spec:
  ips:
  - 10.6.0.9
  -
    10.6.0.10
  nested: {a: 1,
    b: two}
  folded: >
    some
    text
  labels:
    example.org/zone: a
";

#[test]
fn fields_have_lines() {
    let node = tree(TEXT);
    let cases = [
        ("spec", 2),
        ("spec.ips", 3),
        ("spec.ips[0]", 4),
        ("spec.ips[1]", 6),
        ("spec.nested.a", 7),
        ("spec.nested.b", 8),
        ("spec.folded", 9),
        ("spec.labels[example.org/zone]", 13),
        // What is not written has the line of the innermost part that is.
        ("spec.missing", 2),
        ("spec.ips[7]", 3),
        ("spec.ips[x].y", 3),
        ("other", 2),
        ("", 2),
    ];
    for (field, line) in cases {
        assert_eq!(node.line_of(field), line, "{field}");
    }
}

#[test]
fn documents_are_split_at_markers() {
    let text = "a: 1\n--- # two\nb: |\n  ---\n  text\n---\n---\nc: 3\n---not a marker\n";
    let documents = split(text);
    assert_eq!(
        documents,
        [(1, "a: 1\n"), (2, "--- # two\nb: |\n  ---\n  text\n"), (6, "---\n"), (7, "---\nc: 3\n---not a marker\n"),]
    );
    assert_eq!(split("---\na: 1"), [(1, "---\na: 1")]);
    assert_eq!(split(""), [(1, "")]);
}

#[test]
fn lines_count_in_the_file() {
    let node = Node::parse(10, "---\na:\n- 1\n- 2\n").unwrap().unwrap();
    assert_eq!((node.line, node.line_of("a"), node.line_of("a[1]")), (11, 11, 13));
}

#[test]
fn comments_are_no_document() {
    for text in ["", "\n\n", "---\n", "--- # nothing\n", "# one\n  # two\n"] {
        assert!(Node::parse(1, text).unwrap().is_none(), "{text:?}");
    }
}

#[test]
fn syntax_errors_have_lines() {
    for (text, line) in [
        ("a: 1\nb: [1, 2\nc: 3\n", 3),
        // The line on which the text that goes wrong begins.
        ("a: 1\n\tb: 2\n", 1),
        ("a: 1\na: 2\n", 2),
        ("a: *nowhere\n", 1),
        ("a: 1\n  b: 2\n", 2),
        ("a: .nan\n", 1),
    ] {
        let error = Node::parse(101, text).unwrap_err();
        assert_eq!(error.line, line + 100, "{text:?}: {error}");
        assert!(!error.reason.is_empty() && !error.reason.contains('\n'), "{error}");
    }
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Sample {
    text: String,
    number: Option<i64>,
    truth: Option<bool>,
    list: Option<Vec<String>>,
    map: Option<BTreeMap<String, String>>,
    inner: Option<Inner>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Inner {
    a: String,
}

fn faults(text: &str) -> Vec<String> {
    let (_, structure) = read::<Sample>(&tree(text));
    structure.faults.iter().map(ToString::to_string).collect()
}

#[test]
fn values_are_read() {
    let text = "{text: a, number: 4, truth: true, list: [b, c], map: {k.x/y: v}, inner: {a: d}}";
    let (sample, structure) = read::<Sample>(&tree(text));
    let expected = Sample {
        text: "a".into(),
        number: Some(4),
        truth: Some(true),
        list: Some(vec!["b".into(), "c".into()]),
        map: Some(BTreeMap::from([("k.x/y".into(), "v".into())])),
        inner: Some(Inner { a: "d".into() }),
    };
    assert_eq!(sample, Some(expected));
    assert!(structure.faults.is_empty());
}

#[test]
fn null_is_absent() {
    let (sample, structure) = read::<Sample>(&tree("text: a\nlist:\nnumber: ~\n"));
    let sample = sample.unwrap();
    assert_eq!((sample.list, sample.number), (None, None));
    assert!(structure.faults.is_empty());
}

#[test]
fn misfits_are_all_reported_with_field_and_fix() {
    let found =
        faults("text: 5\nnumber: four\ntruth: 'yes'\nlist: [a, 1, b, {}]\nmap: {k.x/y: 2}\ninner:\n  b: 1\nmore: 1\n");
    let expected = [
        "text: integer `5` does not fit; write text: put it in quotes",
        "number: string \"four\" does not fit; write a whole number",
        "truth: string \"yes\" does not fit; write true or false",
        "list[1]: integer `1` does not fit; write text: put it in quotes",
        "list[3]: map does not fit; write text",
        "map[k.x/y]: integer `2` does not fit; write text: put it in quotes",
        "inner.b: is no field of this object; it has a",
        "inner.a: is missing; it must be written",
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_whole_may_be_the_misfit() {
    assert_eq!(faults("- 1\n"), [": sequence does not fit; write fields, each as NAME: VALUE"]);
    assert_eq!(faults("text: a\ninner: 4\n"), ["inner: integer `4` does not fit; write fields, each as NAME: VALUE"]);
    assert_eq!(faults("number: 1\n"), ["text: is missing; it must be written"]);
}

#[test]
fn faults_are_bounded() {
    let text: String = (0..1000).map(|place| format!("x{place}: 1\n")).collect();
    assert_eq!(faults(&text).len(), 20);
}

#[test]
fn aliases_are_bounded() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", ")));
    }
    assert!(Node::parse(1, &text).is_err());
}
