//! Runs a model elsewhere, checks it and times it
