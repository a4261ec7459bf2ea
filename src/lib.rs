//! slipway.
