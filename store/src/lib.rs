//! What must survive a restart: splits, states and the event log, in an embedded database.
