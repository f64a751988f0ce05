//! The cluster as one value: instances, backends, routes, splits, states and problems.
