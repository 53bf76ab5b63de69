//! Kernel event → region, name → verdict → alert.
