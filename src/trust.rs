//! Keys and certificates: which ones there shall be (a table), what is found of them on the
//! hosts, which must be made, and why. Deciding is pure; only `issue` draws keys.
