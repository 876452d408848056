//! What the kinds about functions share: a function as Lambda describes it, and
//! the package it is made from.

pub mod function;
pub mod package;
#[cfg(test)]
pub(in crate::steps) mod testing;
pub mod zip;
