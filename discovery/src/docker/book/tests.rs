//! The rules by which events, answers and lists keep the book right.
