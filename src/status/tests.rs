//! A cluster of three control planes and a worker, and what is said when parts of it are down.
