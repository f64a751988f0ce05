//! What the catalog is, rule by rule.
