//! `docs/troubleshooting.md` is complete: the fixed words of every text that can end in front of an operator stand there.
//!
//! The texts are found in the sources, not listed: in all crates of the product, every string literal of three words or
//! more, and every `#[error]` of any length, outside of tests, comments, other attributes and lines of the log below
//! `warn`. That finds a message wherever it is put together. What is left out on purpose stands in [`LEFT_OUT`].

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates of the product.
const CRATES: [&str; 7] = ["core", "proto", "api", "cni", "shim-ipam", "shim-coordinator", "daemon"];

/// Files whose texts are no errors, and why.
const LEFT_OUT: [(&str, &str); 5] = [
    ("daemon/src/metrics.rs", "help of figures"),
    ("daemon/src/status.rs", "what the verb prints; docs/operations.md shows it"),
    ("daemon/src/why.rs", "what the verb prints; docs/operations.md shows it"),
    ("daemon/src/table.rs", "layout"),
    ("daemon/src/net/lab.rs", "for tests"),
];

/// Beginnings of texts that are no errors: help of programs, headers of files and answers.
const NO_ERRORS: [&str; 7] = [
    "Examples:",
    "CNI plugin ",
    "{}\nCNI protocol versions",
    "{identity}\n",
    "gives interfaces their addresses",
    "sets the routes and rules",
    "application/openmetrics-text",
];

/// Macros and methods whose texts are no errors: values as text, quiet lines of the log, reasons of what cannot happen.
const QUIET: [&str; 10] =
    ["write!", "writeln!", "write_str", "println!", "info!", "debug!", "trace!", "expect", "concat!", "matches!"];

#[test]
fn every_error_text_is_explained() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = plain(&fs::read_to_string(root.join("docs/troubleshooting.md"))?);
    let (mut seen, mut missing) = (0, Vec::new());
    for source in CRATES.iter().flat_map(|part| sources_below(&root.join(part).join("src"))) {
        let name = source.strip_prefix(&root).unwrap_or(&source).to_string_lossy().into_owned();
        if LEFT_OUT.iter().any(|(file, _)| *file == name) {
            continue;
        }
        let text = fs::read_to_string(&source).with_context(|| name.clone())?;
        for Literal { line, text, .. } in literals(&text).into_iter().filter(is_error) {
            seen += 1;
            let lost: Vec<String> = fixed(&text).into_iter().filter(|words| !page.contains(words)).collect();
            if !lost.is_empty() {
                missing.push(format!("{name}:{line}: {lost:?}"));
            }
        }
    }
    ensure!(seen > 150, "only {seen} texts were found: is the search broken?");
    ensure!(missing.is_empty(), "docs/troubleshooting.md lacks {}:\n{}", missing.len(), missing.join("\n"));
    Ok(())
}

/// A string literal and what it stands in.
#[derive(Debug, PartialEq)]
struct Literal {
    line: usize,
    text: String,
    /// Names before the brackets around it, outermost first; `#` for an attribute.
    within: Vec<String>,
}

fn is_error(literal: &Literal) -> bool {
    let within = |name: &str| literal.within.iter().any(|word| word.rsplit("::").next() == Some(name));
    if within("#") {
        return matches!(literal.within.as_slice(), [.., hash, name] if hash == "#" && name == "error");
    }
    let words = literal.text.split_whitespace().filter(|word| word.chars().any(char::is_alphabetic)).count();
    words >= 3
        && !QUIET.iter().any(|name| within(name))
        && !NO_ERRORS.iter().any(|beginning| literal.text.starts_with(beginning))
}

/// The words of a format text that do not change, without what is too short to be looked for.
fn fixed(text: &str) -> Vec<String> {
    let text = text.replace("{{", "\u{1}").replace("}}", "\u{2}");
    let mut parts = Vec::new();
    for piece in text.split('{').enumerate().map(|(index, part)| match (index, part.split_once('}')) {
        (0, _) | (_, None) => part,
        (_, Some((_, rest))) => rest,
    }) {
        let piece = plain(&piece.replace('\u{1}', "{").replace('\u{2}', "}"));
        let bare = piece.trim_matches(|letter: char| !letter.is_alphanumeric());
        if bare.chars().filter(|letter| letter.is_alphabetic()).count() >= 5 {
            parts.push(bare.to_owned());
        }
    }
    parts
}

/// One line without marks of code.
fn plain(text: &str) -> String {
    text.replace('`', "").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Rust files that are no tests.
fn sources_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        match path.file_name().and_then(|name| name.to_str()) {
            Some("tests" | "tests.rs") => {}
            Some(_) if path.is_dir() => files.extend(sources_below(&path)),
            Some(name) if name.ends_with(".rs") => files.push(path),
            _ => {}
        }
    }
    files.sort();
    files
}

/// The string literals of a source up to its tests.
fn literals(source: &str) -> Vec<Literal> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let (mut found, mut within, mut rest) = (Vec::new(), Vec::new(), source);
    while let Some(first) = rest.chars().next() {
        let line = source[..source.len() - rest.len()].matches('\n').count() + 1;
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if let Some(length) = character(rest) {
            rest = &rest[length..];
        } else if let Some((text, length)) = string(rest) {
            // Byte strings and others with a letter before them are no texts; `r` is part of a raw string.
            found.push(Literal { line, text, within: within.clone() });
            rest = &rest[length..];
        } else {
            match first {
                '(' | '[' | '{' => within.push(name_before(source, rest, first)),
                ')' | ']' | '}' => drop(within.pop()),
                _ => {}
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    found
}

/// The name in front of an opening bracket: `format!`, `CniError::new`, `#`.
fn name_before(source: &str, rest: &str, bracket: char) -> String {
    let before = source[..source.len() - rest.len()].trim_end();
    if bracket == '[' && (before.ends_with('#') || before.ends_with("#!")) {
        return "#".to_owned();
    }
    let is_part = |letter: char| letter.is_alphanumeric() || "_:!".contains(letter);
    before[before.trim_end_matches(is_part).len()..].to_owned()
}

/// The length of a character literal; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    if inside.starts_with('\\') {
        // An escaped quote or backslash ends later than the first quote after it.
        return inside[2..].find('\'').map(|end| end + 4);
    }
    let letter = inside.chars().next()?;
    inside[letter.len_utf8()..].starts_with('\'').then(|| letter.len_utf8() + 2)
}

/// The text of a string literal and the length of its source.
fn string(rest: &str) -> Option<(String, usize)> {
    let raw = rest.strip_prefix('r').filter(|_| rest.starts_with("r\"") || rest.starts_with("r#"));
    if let Some(after) = raw {
        let marks = after.len() - after.trim_start_matches('#').len();
        let inside = after[marks..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(marks));
        let length = inside.find(&end)?;
        return Some((inside[..length].to_owned(), 1 + marks + 1 + length + end.len()));
    }
    let inside = rest.strip_prefix('"')?;
    let (mut text, mut letters) = (String::new(), inside.char_indices());
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((text, at + 2)),
            '\\' => match letters.next()?.1 {
                'n' => text.push('\n'),
                // The line goes on after its indentation.
                '\n' => {
                    let ahead = letters.as_str();
                    let blank = ahead.len() - ahead.trim_start().len();
                    for _ in 0..ahead[..blank].chars().count() {
                        letters.next();
                    }
                }
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
    None
}

/// The search finds what it must, and nothing else.
#[test]
fn texts_are_found_in_sources() {
    let source = r##"
        //! "not this comment at all"
        #[error("{path}: said to {0} friends", .0)]
        #[doc = "nor this attribute here"]
        fn of<'a>(name: &'a str) { let quote = '"'; let other = '\''; warn!("Something is \
            wrong with {name}"); info!(name, "All is quite well"); }
        const RAW: &str = r#"a "raw" text here"#;
        #[cfg(test)]
mod tests { const NONE: &str = "not this test at all"; }
    "##;
    let found: Vec<Literal> = literals(source).into_iter().filter(is_error).collect();
    let texts: Vec<&str> = found.iter().map(|literal| literal.text.as_str()).collect();
    assert_eq!(texts, ["{path}: said to {0} friends", "Something is wrong with {name}", "a \"raw\" text here"]);
    assert_eq!(found[1].line, 5);
    assert_eq!(fixed("{a} gave `{{x}}`, {b:?} failed"), ["gave {x", "failed"]);
    assert_eq!(fixed("cannot open {path}: {error}; run it as root"), ["cannot open", "run it as root"]);
}
