//! The label language of containers: what `aliyun.*` and `fairway.*` labels say, as one [`ServiceSpec`].
//!
//! One bad label or one bad entry never removes a good one: what cannot be used is left out and named in a
//! [`LabelProblem`]. `[[service]]` entries of the configuration file use the same types.

mod spec;

pub use spec::*;
