//! A zone's text as lines of words.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use super::ZoneError;

/// A word, without quotes; what a backslash escapes still has it.
pub(super) type Token = String;

/// A line, which parentheses may spread over several.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it begins, from 1 on.
    pub(super) number: usize,
    /// Whether it begins with a blank.
    pub(super) indented: bool,
    pub(super) tokens: Vec<Token>,
}

/// Cuts a text into lines that have words.
#[derive(Debug, Default)]
pub(super) struct Lexer {
    lines: Vec<Line>,
    line: Line,
    /// The word that is being read, which may be empty if it has quotes.
    token: Option<Token>,
    number: usize,
    quoted: bool,
    depth: usize,
}

impl Lexer {
    pub(super) fn cut(text: &str) -> Result<Vec<Line>, ZoneError> {
        let mut lexer = Self { number: 1, ..Self::default() };
        lexer.line.number = 1;
        let mut chars = text.chars();
        let mut begins = true;
        while let Some(c) = chars.next() {
            if begins {
                lexer.line.indented = c == ' ' || c == '\t';
            }
            begins = false;
            match c {
                '\\' => {
                    let escaped = chars.next().filter(|c| *c != '\n');
                    let escaped = escaped.ok_or_else(|| {
                        lexer.error("a backslash ends the line", "write \\\\ for a backslash")
                    })?;
                    lexer.token.get_or_insert_default().extend(['\\', escaped]);
                }
                '"' => {
                    lexer.token.get_or_insert_default();
                    lexer.quoted = !lexer.quoted;
                }
                '\n' => begins = lexer.end_of_line()?,
                c if lexer.quoted => lexer.token.get_or_insert_default().push(c),
                ';' => {
                    lexer.end_of_token();
                    if chars.by_ref().any(|c| c == '\n') {
                        begins = lexer.end_of_line()?;
                    }
                }
                '(' => {
                    lexer.end_of_token();
                    lexer.depth += 1;
                }
                ')' => {
                    lexer.end_of_token();
                    lexer.depth = lexer.depth.checked_sub(1).ok_or_else(|| {
                        lexer.error("a parenthesis is closed that was not opened", "remove it")
                    })?;
                }
                c if c.is_whitespace() => lexer.end_of_token(),
                c => lexer.token.get_or_insert_default().push(c),
            }
        }
        if lexer.depth > 0 {
            return Err(lexer.error("a parenthesis is not closed", "write ) behind the data"));
        }
        lexer.end_of_line()?;
        Ok(lexer.lines)
    }

    fn end_of_token(&mut self) {
        self.line.tokens.extend(self.token.take());
    }

    /// Returns whether a new line begins.
    fn end_of_line(&mut self) -> Result<bool, ZoneError> {
        if self.quoted {
            return Err(self.error("a quote is not closed", "write \" at the end of the text"));
        }
        self.end_of_token();
        self.number += 1;
        if self.depth > 0 {
            return Ok(false);
        }
        let next = Line { number: self.number, ..Line::default() };
        let line = core::mem::replace(&mut self.line, next);
        if !line.tokens.is_empty() {
            self.lines.push(line);
        }
        Ok(true)
    }

    fn error(&self, message: &str, hint: &'static str) -> ZoneError {
        ZoneError { line: self.number, message: message.to_owned(), hint }
    }
}
