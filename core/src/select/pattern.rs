//! Shell patterns over pool names, with the semantics of Go's `filepath.Match`
//! (<https://pkg.go.dev/path/filepath#Match>), which users of the field know from its configurations. A pool's name holds
//! no `/`, so that character is not set apart here.

/// A pattern: `*` any run of characters, `?` one of them, `[a-c]` and `[^a-c]` a class, `\` takes the next
/// character as it is. It must match the whole name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Term {
    /// Any run of characters.
    Run,
    /// Any character.
    One,
    Literal(char),
    Class {
        negated: bool,
        /// Inclusive; one whose first comes after its last holds nothing.
        ranges: Vec<(char, char)>,
    },
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PatternError {
    /// `[` without its `]`.
    #[error("a character class is not closed; write ] at its end")]
    OpenClass,
    /// `[]`, or a hyphen that joins nothing.
    #[error("a character class holds nothing, or has a hyphen or bracket where a character belongs")]
    BadClass,
    /// The text ends after `\`.
    #[error("it ends with a backslash; write the character to be taken as it is after it")]
    LoneBackslash,
}

impl Pattern {
    /// Whether a text is meant as a pattern rather than as a name.
    pub fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?', '['])
    }

    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        let mut rest = text.chars();
        let mut terms = Vec::new();
        while let Some(first) = rest.next() {
            terms.push(match first {
                '*' => Term::Run,
                '?' => Term::One,
                '[' => class(&mut rest)?,
                '\\' => Term::Literal(rest.next().ok_or(PatternError::LoneBackslash)?),
                literal => Term::Literal(literal),
            });
        }
        Ok(Pattern { terms })
    }

    /// Whether the whole name matches.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut at, mut term) = (0, 0);
        // Where to go on if what follows the latest run does not match: one character further into the run. An
        // earlier run need not be tried again, since the latest one reaches as far as any.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match (self.terms.get(term), name.get(at)) {
                (None, None) => return true,
                (Some(Term::Run), _) => {
                    retry = Some((at, term));
                    term += 1;
                }
                (Some(one), Some(&character)) if one.takes(character) => (at, term) = (at + 1, term + 1),
                _ => match retry {
                    Some((from, run)) if from < name.len() => {
                        retry = Some((from + 1, run));
                        (at, term) = (from + 1, run + 1);
                    }
                    _ => return false,
                },
            }
        }
    }
}

impl Term {
    /// Whether the term, which is no run, takes one character.
    fn takes(&self, character: char) -> bool {
        match self {
            Term::Run => false,
            Term::One => true,
            Term::Literal(literal) => *literal == character,
            Term::Class { negated, ranges } => {
                ranges.iter().any(|(first, last)| (first..=last).contains(&&character)) != *negated
            }
        }
    }
}

/// A class, behind its opening bracket.
fn class(rest: &mut std::str::Chars<'_>) -> Result<Term, PatternError> {
    let negated = rest.as_str().starts_with('^');
    if negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    loop {
        if rest.as_str().starts_with(']') && !ranges.is_empty() {
            rest.next();
            return Ok(Term::Class { negated, ranges });
        }
        let first = class_character(rest)?;
        let mut last = first;
        if rest.as_str().starts_with('-') {
            rest.next();
            last = class_character(rest)?;
        }
        ranges.push((first, last));
    }
}

fn class_character(rest: &mut std::str::Chars<'_>) -> Result<char, PatternError> {
    match rest.next().ok_or(PatternError::OpenClass)? {
        '-' | ']' => Err(PatternError::BadClass),
        '\\' => rest.next().ok_or(PatternError::LoneBackslash),
        character => Ok(character),
    }
}

#[cfg(test)]
mod tests;
