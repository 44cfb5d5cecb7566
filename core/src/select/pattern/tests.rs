use proptest::prelude::*;

use super::*;

fn matches(pattern: &str, name: &str) -> bool {
    Pattern::parse(pattern).unwrap().matches(name)
}

#[test]
fn names_match() {
    let rows = [
        ("abc", "abc", true),
        ("*", "abc", true),
        ("*", "", true),
        ("*c", "abc", true),
        ("a*", "a", true),
        ("a*", "abc", true),
        ("a*b?c*x", "abxbbxdbxebxczzx", true),
        ("a*b?c*x", "abxbbxdbxebxczzy", false),
        ("v?-pool", "v4-pool", true),
        ("v?-pool", "v-pool", false),
        ("v?-pool", "v44-pool", false),
        ("a?b", "aäb", true),
        ("ab[c]", "abc", true),
        ("ab[b-d]", "abc", true),
        ("ab[e-g]", "abc", false),
        ("ab[^c]", "abc", false),
        ("ab[^b-d]", "abc", false),
        ("ab[^e-g]", "abc", true),
        ("[a-cx-z]1", "y1", true),
        ("[z-a]", "m", false),
        ("[\\]a]", "]", true),
        ("[\\-x]", "-", true),
        ("[x\\-]", "-", true),
        ("[!a]", "!", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "aab", false),
        ("***", "abc", true),
        ("*x", "xxx", true),
        ("10-6-*", "10-6-v4", true),
        ("10-6-*", "10-7-v4", false),
    ];
    for (pattern, name, expected) in rows {
        assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
    }
}

#[test]
fn malformed_patterns_are_refused_whatever_the_name() {
    let rows = [
        ("[", PatternError::OpenClass),
        ("[^", PatternError::OpenClass),
        ("[a", PatternError::OpenClass),
        ("[a-", PatternError::OpenClass),
        ("[]a]", PatternError::BadClass),
        ("[^]a]", PatternError::BadClass),
        ("[-]", PatternError::BadClass),
        ("[x-]", PatternError::BadClass),
        ("[-x]", PatternError::BadClass),
        ("[a-b-c]", PatternError::BadClass),
        ("a*[", PatternError::OpenClass),
        ("a\\", PatternError::LoneBackslash),
        ("[\\", PatternError::LoneBackslash),
    ];
    for (pattern, error) in rows {
        assert_eq!(Pattern::parse(pattern), Err(error), "{pattern}");
    }
}

#[test]
fn names_are_no_patterns() {
    assert!(!Pattern::is_pattern("10-6-v4.example"));
    for text in ["10-6-*", "10-?-v4", "10-[67]-v4"] {
        assert!(Pattern::is_pattern(text));
    }
}

/// The same by definition: every way to cut the name.
fn naive(terms: &[Term], name: &[char]) -> bool {
    match (terms, name) {
        ([], name) => name.is_empty(),
        ([Term::Run, rest @ ..], name) => (0..=name.len()).any(|taken| naive(rest, &name[taken..])),
        ([term, rest @ ..], [first, after @ ..]) => term.takes(*first) && naive(rest, after),
        (_, []) => false,
    }
}

proptest! {
    #[test]
    fn matching_is_what_the_definition_says(pattern in r"([abc*?]|\[\^?[ab]\]){0,8}", name in "[abc]{0,10}") {
        let pattern = Pattern::parse(&pattern).unwrap();
        let characters: Vec<char> = name.chars().collect();
        prop_assert_eq!(pattern.matches(&name), naive(&pattern.terms, &characters));
    }

    #[test]
    fn any_text_is_read_or_refused(pattern in r".{0,20}", name in ".{0,20}") {
        if let Ok(pattern) = Pattern::parse(&pattern) {
            pattern.matches(&name);
        }
    }
}
