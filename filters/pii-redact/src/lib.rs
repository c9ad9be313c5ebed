//! Finds personal data in requests and responses and redacts it.

mod chars;
mod detect;
mod number;
mod operator;
mod rules;
mod scanner;
mod window;
